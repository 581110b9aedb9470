//! What a copy says of itself: what is in it, where the audit log ended, who made it and why.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CopyResult, bad, io};
use crate::core::audit::Head;
use crate::core::model::{Digest, Millis};
use crate::core::timing::iso;

pub const MANIFEST: &str = "manifest.json";

/// How copies are laid out; a later program may know more.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    pub format: u32,
    /// Of the program that made it.
    pub version: String,
    pub schema_version: i64,
    pub audit_seq: i64,
    /// Hash of that entry; 64 zeros before the first.
    pub audit_hash: String,
    pub at_ms: Millis,
    pub at_iso: String,
    /// `interval`, `stop`, `asked`, `upgrade`, `restored`, `backup`.
    pub reason: String,
    /// Whose store it is, where that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    pub files: BTreeMap<String, FileFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileFacts {
    pub bytes: u64,
    pub sha256: String,
}

impl Manifest {
    pub fn new(head: Head, schema_version: i64, at: Millis, reason: &str, store: Option<String>) -> Manifest {
        Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_version,
            audit_seq: head.seq,
            audit_hash: head.hash.to_hex(),
            at_ms: at,
            at_iso: iso(at),
            reason: reason.to_owned(),
            store,
            files: BTreeMap::new(),
        }
    }

    pub fn head(&self) -> Option<Head> {
        Some(Head { seq: self.audit_seq, hash: Digest::from_hex(&self.audit_hash)? })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads what stands in a snapshot's folder.
    pub(super) fn read(folder: &Path) -> CopyResult<Manifest> {
        let path = folder.join(MANIFEST);
        let bytes = std::fs::read(&path).map_err(io("read", &path))?;
        Manifest::parse(&bytes, &path)
    }

    pub(super) fn parse(bytes: &[u8], path: &Path) -> CopyResult<Manifest> {
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| bad(path, format!("it is no manifest: {error}")))?;
        if manifest.format > FORMAT {
            let reason = format!(
                "it was made by Command Center {}, in a form that this version does not know; upgrade this program",
                manifest.version
            );
            return Err(bad(path, reason));
        }
        if manifest.head().is_none() {
            return Err(bad(path, "its audit_hash is no hash"));
        }
        Ok(manifest)
    }
}
