//! A small file that can tell whether it is whole: one line of JSON, one line with its digest.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::model::Digest;

pub fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    let digest = Digest::of(&line).to_hex();
    line.extend_from_slice(digest.as_bytes());
    line.push(b'\n');
    line
}

/// # Errors
/// Says what is wrong with the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    /// 64 hex digits and the end of their line.
    const STAMP: usize = 65;
    let cut = bytes.len().checked_sub(STAMP).ok_or("is cut short")?;
    let (line, stamp) = bytes.split_at(cut);
    let expected = format!("{}\n", Digest::of(line).to_hex());
    if !line.ends_with(b"\n") || stamp != expected.as_bytes() {
        return Err("does not have the digest that it names: it is damaged or cut short".to_owned());
    }
    serde_json::from_slice(line).map_err(|error| format!("cannot be understood: {error}"))
}
