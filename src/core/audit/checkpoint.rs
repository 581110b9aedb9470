//! Checkpoints: what the log's end was at some moment, as a signed note that lies outside the database.
//! In the manner of C2SP's tlog-checkpoint, but the hash is the chain's, not a tree's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::DateTime;

use super::chain::{Anchor, Head};
use super::note::{BadNote, Note, VerifierKey};
use crate::core::model::{Digest, Millis};
use crate::core::timing::iso;

/// The first line of a checkpoint, and the name of the key that signs it.
pub fn origin(store_id: &str) -> String {
    format!("command-center/{store_id}")
}

const ORIGIN: &str = "command-center/";

/// Of Ed25519.
const SIGNATURE_BYTES: usize = 64;

/// What the log's end was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub head: Head,
    pub at: Millis,
    /// The hash of the text of the checkpoint before it.
    pub previous: Option<Digest>,
}

/// Why a checkpoint proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    #[error("this is no signed checkpoint: {0}")]
    Note(#[from] BadNote),
    #[error("this is no checkpoint: {0}")]
    Body(&'static str),
    #[error("the checkpoint is signed by {signers}, of which no key is known here")]
    UnknownKey { signers: String },
    #[error(
        "the checkpoint is signed by {signers}, and not by the key that was given: the key was replaced, or somebody \
         else signed it"
    )]
    OtherKey { signers: String },
    #[error("the checkpoint's signature is wrong: it was changed after it was signed, or signed by somebody else")]
    Signature,
    #[error("the checkpoint is of another store: it says {found}, this is {expected}")]
    OtherStore { found: String, expected: String },
}

impl BadCheckpoint {
    /// Whether this shows tampering; else nothing could be told.
    pub fn is_tampering(&self) -> bool {
        matches!(self, BadCheckpoint::Signature | BadCheckpoint::OtherKey { .. })
    }
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let hash = BASE64.encode(self.head.hash.0);
        let mut text = format!("{}\n{}\n{hash}\ntime {}\n", self.origin, self.head.seq, iso(self.at));
        if let Some(previous) = self.previous {
            text.push_str(&format!("previous {}\n", BASE64.encode(previous.0)));
        }
        text
    }

    /// Reads a text; lines of other kinds behind the first three are passed over.
    pub fn parse(text: &str) -> Result<Checkpoint, BadCheckpoint> {
        let bad = BadCheckpoint::Body;
        let mut lines = text.strip_suffix('\n').ok_or(bad("its last line has no end"))?.split('\n');
        let origin = lines.next().filter(|origin| origin.starts_with(ORIGIN) && origin.len() > ORIGIN.len());
        let origin = origin.ok_or(bad("its first line is no store of Command Center"))?;
        let seq = lines.next().unwrap_or_default();
        let number = seq.parse::<i64>().ok().filter(|number| *number >= 0 && number.to_string() == seq);
        let seq = number.ok_or(bad("its second line is no sequence number"))?;
        let hash = digest(lines.next().unwrap_or_default()).ok_or(bad("its third line is no hash"))?;
        let (mut at, mut previous) = (None, None);
        for line in lines {
            match line.split_once(' ') {
                Some(("time", time)) => at = DateTime::parse_from_rfc3339(time).ok().map(|at| at.timestamp_millis()),
                Some(("previous", hash)) => previous = digest(hash),
                _ => {}
            }
        }
        let at = at.ok_or(bad("it says no time"))?;
        Ok(Checkpoint { origin: origin.to_owned(), head: Head { seq, hash }, at, previous })
    }
}

fn digest(text: &str) -> Option<Digest> {
    Some(Digest(BASE64.decode(text).ok()?.try_into().ok()?))
}

/// A checkpoint with its note, as it is kept and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub checkpoint: Checkpoint,
    pub note: Note,
}

impl Signed {
    pub fn parse(text: &str) -> Result<Signed, BadCheckpoint> {
        // What editors and mails add around it does not matter.
        let text = format!("{}\n", text.replace("\r\n", "\n").trim());
        let note: Note = text.parse()?;
        Ok(Signed { checkpoint: Checkpoint::parse(&note.text)?, note })
    }

    /// The hash by which the next one names this one.
    pub fn hash(&self) -> Digest {
        Digest::of(self.note.text.as_bytes())
    }

    /// What the checkpoint vouches for, if one of `keys` signed it. `is_right` says whether a signature
    /// over a text is a key's: `(key, text, signature)`.
    pub fn anchor(
        &self,
        keys: &[VerifierKey],
        is_right: impl Fn(&[u8; 32], &[u8], &[u8]) -> bool,
    ) -> Result<Anchor, BadCheckpoint> {
        let mut signers = self.note.signatures.iter();
        let known = signers.find_map(|signature| Some((signature, keys.iter().find(|key| key.made(signature))?)));
        let Some((signature, key)) = known else {
            let names = self.note.signatures.iter().map(|one| format!("{}+{}", one.name, hex::encode(one.key_hash)));
            return Err(BadCheckpoint::UnknownKey { signers: names.collect::<Vec<_>>().join(", ") });
        };
        // A crash may have torn its end off.
        if signature.bytes.len() != SIGNATURE_BYTES {
            return Err(BadCheckpoint::Body("its signature is not as long as one is"));
        }
        // Who signs is named as the store is: one key's word for another store is none.
        if key.name != self.checkpoint.origin {
            let (found, expected) = (self.checkpoint.origin.clone(), key.name.clone());
            return Err(BadCheckpoint::OtherStore { found, expected });
        }
        if !is_right(&key.key, self.note.text.as_bytes(), &signature.bytes) {
            return Err(BadCheckpoint::Signature);
        }
        let says = format!("the checkpoint of {}", iso(self.checkpoint.at));
        Ok(Anchor { head: self.checkpoint.head, says })
    }
}

impl Signed {
    /// The same where the caller believes one key alone, and has it from elsewhere.
    pub fn anchor_by(
        &self,
        key: &VerifierKey,
        is_right: impl Fn(&[u8; 32], &[u8], &[u8]) -> bool,
    ) -> Result<Anchor, BadCheckpoint> {
        self.anchor(std::slice::from_ref(key), is_right).map_err(|error| match error {
            BadCheckpoint::UnknownKey { .. } if key.name != self.checkpoint.origin => {
                BadCheckpoint::OtherStore { found: self.checkpoint.origin.clone(), expected: key.name.clone() }
            }
            BadCheckpoint::UnknownKey { signers } => BadCheckpoint::OtherKey { signers },
            other => other,
        })
    }

    /// Whether one of the signatures says that it is the key's.
    pub fn names(&self, key: &VerifierKey) -> bool {
        self.note.signatures.iter().any(|signature| key.made(signature))
    }
}

/// The checkpoints in a file of many, one behind the other with a blank line between them, and how many
/// places hold none that can be read. One that a crash tore off is among these and harms no other.
pub fn read_kept(text: &str) -> (Vec<Signed>, u32) {
    let (mut found, mut unreadable) = (Vec::new(), 0);
    let mut rest = text.lines().peekable();
    while let Some(line) = rest.next() {
        if line.is_empty() {
            continue;
        }
        // What a crash tore off runs up to the next origin.
        let mut note = format!("{line}\n");
        let mut is_signed = false;
        while let Some(line) = rest.next_if(|line| !(line.starts_with(ORIGIN) || is_signed && line.is_empty())) {
            is_signed |= line.starts_with('\u{2014}');
            note.push_str(line);
            note.push('\n');
        }
        match Signed::parse(&note) {
            Ok(signed) => found.push(signed),
            Err(_) => unreadable += 1,
        }
    }
    (found, unreadable)
}
