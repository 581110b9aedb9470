//! The audit log's newest signed end, put beside the copy: whoever holds this machine alone cannot take it back.

use super::Replication;
use crate::adapters::replica::PlaceError;
use crate::core::audit::Signed;
use crate::core::timing::iso;

impl Replication {
    /// Puts a checkpoint there, a file a day, of which the last one vouches for all before it. False while this
    /// server may not write there.
    pub async fn anchor(&self, signed: &Signed) -> Result<bool, PlaceError> {
        if self.status().epoch.is_none() {
            return Ok(false);
        }
        let day: String = iso(signed.checkpoint.at).chars().take(10).collect();
        self.place.put(&format!("checkpoints/{day}.txt"), signed.note.to_string().into()).await?;
        Ok(true)
    }
}
