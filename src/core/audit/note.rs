//! Signed notes as C2SP's signed-note specification has them: a text, a blank line, signature lines.
//! Whether a signature is right, an argument tells: the mathematics lie with the adapters.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::core::model::Digest;

/// The signature type of Ed25519.
const ED25519: u8 = 1;

/// A longer text is no note of ours, and is not read.
const LONGEST_NOTE: usize = 64 * 1024;

/// Why a text is no signed note, or no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    #[error("it is longer than 64 KiB")]
    TooLong,
    #[error("it has no blank line between its text and its signatures")]
    NoSignatures,
    #[error("it has a character that a note may not have")]
    Control,
    #[error("\"{0}\" is no signature line: that is an em dash, a name and base64")]
    SignatureLine(String),
    #[error("\"{0}\" is no verifier key: that is NAME+HASH+KEY as `command-center audit key` prints it")]
    Key(String),
    #[error("the key {0} has another hash than its name and its bytes give: a character is wrong")]
    KeyHash(String),
}

/// One signature under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub key_hash: [u8; 4],
    pub bytes: Vec<u8>,
}

/// A text and who signed it; nothing is proven yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed, its last line end included.
    pub text: String,
    pub signatures: Vec<Signature>,
}

impl FromStr for Note {
    type Err = BadNote;

    fn from_str(note: &str) -> Result<Note, BadNote> {
        if note.len() > LONGEST_NOTE {
            return Err(BadNote::TooLong);
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(BadNote::Control);
        }
        let split = note.rfind("\n\n").ok_or(BadNote::NoSignatures)?;
        let (text, signatures) = (note.get(..=split), note.get(split + 2..));
        let (Some(text), Some(signatures)) = (text, signatures) else { return Err(BadNote::NoSignatures) };
        let signatures = signatures.strip_suffix('\n').ok_or(BadNote::NoSignatures)?;
        let signatures = signatures.split('\n').map(signature).collect::<Result<Vec<_>, _>>()?;
        if text == "\n" {
            return Err(BadNote::NoSignatures);
        }
        Ok(Note { text: text.to_owned(), signatures })
    }
}

fn signature(line: &str) -> Result<Signature, BadNote> {
    let bad = || BadNote::SignatureLine(line.chars().take(60).collect());
    let (name, blob) = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or_else(bad)?;
    let blob = BASE64.decode(blob).map_err(|_| bad())?;
    match blob.split_first_chunk::<4>() {
        Some((key_hash, bytes)) if is_name(name) && !bytes.is_empty() => {
            Ok(Signature { name: name.to_owned(), key_hash: *key_hash, bytes: bytes.to_vec() })
        }
        _ => Err(bad()),
    }
}

/// A key's name is not empty and has neither spaces nor a plus.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let blob = [signature.key_hash.as_slice(), &signature.bytes].concat();
            writeln!(f, "\u{2014} {} {}", signature.name, BASE64.encode(blob))?;
        }
        Ok(())
    }
}

/// The public half of an Ed25519 key with its name, as others are given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    pub name: String,
    pub key: [u8; 32],
}

impl VerifierKey {
    /// The first four bytes of the hash over name, type and key.
    pub fn hash(&self) -> [u8; 4] {
        let hashed = [self.name.as_bytes(), &[b'\n', ED25519], &self.key].concat();
        let Digest([a, b, c, d, ..]) = Digest::of(&hashed);
        [a, b, c, d]
    }

    /// Whether the signature says that it is this key's.
    pub fn made(&self, signature: &Signature) -> bool {
        signature.name == self.name && signature.key_hash == self.hash()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [[ED25519].as_slice(), &self.key].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.hash()), BASE64.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = BadNote;

    fn from_str(text: &str) -> Result<VerifierKey, BadNote> {
        let text = text.trim();
        let bad = || BadNote::Key(text.chars().take(120).collect());
        // Base64 has plus signs of its own.
        let mut parts = text.splitn(3, '+');
        let (name, hash, key) = (parts.next(), parts.next(), parts.next());
        let (Some(name), Some(hash), Some(key)) = (name.filter(|name| is_name(name)), hash, key) else {
            return Err(bad());
        };
        let key = BASE64.decode(key).map_err(|_| bad())?;
        let (kind, key) = key.split_first().ok_or_else(bad)?;
        let key: [u8; 32] = key.try_into().map_err(|_| bad())?;
        if *kind != ED25519 {
            return Err(bad());
        }
        let key = VerifierKey { name: name.to_owned(), key };
        if hex::encode(key.hash()) != hash.to_ascii_lowercase() {
            return Err(BadNote::KeyHash(key.name));
        }
        Ok(key)
    }
}
