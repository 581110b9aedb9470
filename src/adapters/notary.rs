//! The notary: signs what the audit log's end is, with a key that lies outside the database, and keeps
//! what it signed where a rewriting of the database does not reach.

mod files;
mod kept;
mod post;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use kept::Kept;
pub use post::Post;

use crate::core::audit::{Anchor, BadCheckpoint, Checkpoint, Head, Note, Signature, Signed, VerifierKey, origin};
use crate::core::model::Millis;

/// The key's name in the data directory.
const KEY_FILE: &str = "audit.key";
/// The public halves of this key and of those before it, one a line.
const PUBLIC_FILE: &str = "audit.pub";
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why nothing can be signed or kept.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    #[error("cannot {doing} {path}: {reason}")]
    File { doing: &'static str, path: String, reason: String },
    #[error("{path} holds no audit key: put the right one back, or move it away to have a new one made")]
    Key { path: String },
    #[error("this machine gives no random numbers for an audit key")]
    NoRandomness,
}

/// What became of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The one of the last start.
    Kept,
    /// There was none for this store.
    Made,
    /// Another than at the last start: this was its public half.
    Replaced { before: String },
}

/// Signs checkpoints of one store.
pub struct Notary {
    key: Ed25519KeyPair,
    own: VerifierKey,
    /// This key and those before it.
    known: Vec<VerifierKey>,
    public: PathBuf,
    kept: Kept,
    /// The newest checkpoint; one is made at a time.
    last: Mutex<Option<Signed>>,
}

impl Notary {
    /// Reads the key, or makes one where there is none. Say `publish` once it is written down that it is another.
    pub fn open(data_dir: &Path, key_file: Option<&Path>, store_id: &str) -> Result<(Notary, KeyState), NotaryError> {
        let path = key_file.map_or_else(|| data_dir.join(KEY_FILE), Path::to_owned);
        let name = origin(store_id);
        let key = match files::read(&path)? {
            Some(text) => parse_key(&text).ok_or_else(|| NotaryError::Key { path: path.display().to_string() })?,
            None => make_key(&path, &name)?,
        };
        let own = public_half(&key, name);
        let public = data_dir.join(PUBLIC_FILE);
        let mut known = known_keys(data_dir)?;
        let kept = Kept::at(data_dir);
        let last = kept.last(&own.name)?;
        let state = match known.iter().rfind(|key| key.name == own.name) {
            _ if known.contains(&own) => KeyState::Kept,
            Some(before) => KeyState::Replaced { before: before.to_string() },
            // The public halves are gone too, but not what the key before has signed.
            None => match last.iter().filter(|last| !last.names(&own)).find_map(|last| last.note.signatures.first()) {
                Some(by) => KeyState::Replaced { before: format!("{}+{}", by.name, hex::encode(by.key_hash)) },
                None => KeyState::Made,
            },
        };
        known.retain(|key| *key != own);
        known.push(own.clone());
        Ok((Notary { key, own, known, public, kept, last: Mutex::new(last) }, state))
    }

    /// Writes the public halves down, the present one last.
    pub fn publish(&self) -> Result<(), NotaryError> {
        let text: String = self.known.iter().map(|key| format!("{key}\n")).collect();
        if files::read(&self.public)?.as_deref() == Some(&text) {
            return Ok(());
        }
        files::replace(&self.public, text.as_bytes(), files::Seen::ByAll)
    }

    /// The public half, as others verify with it.
    pub fn key(&self) -> &VerifierKey {
        &self.own
    }

    pub fn keys(&self) -> &[VerifierKey] {
        &self.known
    }

    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The newest checkpoint.
    pub fn last(&self) -> Option<Signed> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs the log's end and keeps that, on disk when this returns. Nothing new, where the last one says
    /// the same already.
    pub fn sign(&self, head: Head, now: Millis) -> Result<Signed, NotaryError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = last.as_ref().filter(|last| last.checkpoint.head == head) {
            return Ok(same.clone());
        }
        let previous = last.as_ref().map(Signed::hash);
        let checkpoint = Checkpoint { origin: self.own.name.clone(), head, at: now, previous };
        let text = checkpoint.text();
        let bytes = self.key.sign(text.as_bytes()).as_ref().to_vec();
        let signature = Signature { name: self.own.name.clone(), key_hash: self.own.hash(), bytes };
        let signed = Signed { checkpoint, note: Note { text, signatures: vec![signature] } };
        self.kept.append(&signed)?;
        *last = Some(signed.clone());
        Ok(signed)
    }

    /// Puts checkpoints of entries after `seq` aside: they were lost, and that is written down elsewhere.
    pub fn set_aside_after(&self, seq: i64, now: Millis) -> Result<u64, NotaryError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = self.kept.set_aside_after(Some(&self.own.name), seq, now)?;
        *last = self.kept.last(&self.own.name)?;
        Ok(moved)
    }
}

/// The public halves that a data directory knows.
pub fn known_keys(data_dir: &Path) -> Result<Vec<VerifierKey>, NotaryError> {
    let text = files::read(&data_dir.join(PUBLIC_FILE))?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Whether the signature over the text is the key's.
pub fn is_right(key: &[u8; 32], text: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(text, signature).is_ok()
}

/// What kept checkpoints vouch for.
#[derive(Debug, Default)]
pub struct Evidence {
    pub anchors: Vec<Anchor>,
    /// A checkpoint that was changed after it was signed, in words.
    pub forged: Option<(i64, String)>,
    /// What could not be used, and why.
    pub notes: Vec<String>,
}

/// Checks the signatures of a store's kept checkpoints, `all` as `Kept::all` reads them; those of other stores
/// say nothing here.
pub fn evidence((all, unreadable): &(Vec<Signed>, u32), keys: &[VerifierKey], name: &str) -> Evidence {
    let mut evidence = Evidence::default();
    let (mut foreign, mut unknown, mut unreadable) = (0, 0, *unreadable);
    for signed in all {
        if signed.checkpoint.origin != name {
            foreign += 1;
            continue;
        }
        match signed.anchor(keys, is_right) {
            Ok(anchor) => evidence.anchors.push(anchor),
            Err(BadCheckpoint::UnknownKey { .. }) => unknown += 1,
            Err(error) if !error.is_tampering() => unreadable += 1,
            Err(error) => {
                let said = format!("{error} (of entry {}, among the kept ones)", signed.checkpoint.head.seq);
                evidence.forged.get_or_insert((signed.checkpoint.head.seq, said));
            }
        }
    }
    for (count, what) in [
        (foreign, "kept checkpoints are of another store"),
        (unknown, "kept checkpoints are signed by keys that audit.pub does not name"),
        (unreadable, "places in the kept checkpoints cannot be read; a crash may leave one"),
    ] {
        if count > 0 {
            evidence.notes.push(format!("{count} {what}"));
        }
    }
    evidence
}

fn public_half(key: &Ed25519KeyPair, name: String) -> VerifierKey {
    let key = key.public_key().as_ref().try_into().unwrap_or_default();
    VerifierKey { name, key }
}

/// As Go's notes write a private key: the mark, a name, a hash, and the type with the seed.
fn parse_key(text: &str) -> Option<Ed25519KeyPair> {
    let blob = text.trim().strip_prefix(PRIVATE)?.splitn(3, '+').nth(2)?;
    let blob = BASE64.decode(blob).ok()?;
    let seed = blob.strip_prefix(&[1])?;
    Ed25519KeyPair::from_seed_unchecked(seed).ok()
}

fn make_key(path: &Path, name: &str) -> Result<Ed25519KeyPair, NotaryError> {
    let mut seed = [0; 32];
    rand::fill(&mut seed).map_err(|_| NotaryError::NoRandomness)?;
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NotaryError::NoRandomness)?;
    let hash = hex::encode(public_half(&key, name.to_owned()).hash());
    let text = format!("{PRIVATE}{name}+{hash}+{}\n", BASE64.encode([[1].as_slice(), &seed].concat()));
    files::replace(path, text.as_bytes(), files::Seen::ByOwner)?;
    Ok(key)
}
