//! The disk that the store lies on: whether it has room, and what is said of it when it has none.

use serde_json::json;

use super::App;
use super::apply::{command_center, draft, new_action_id};
use super::blocking::blocking;
use super::views::DiskHealth;
use crate::adapters::store::StoreError;
use crate::core::audit::operation;
use crate::core::model::Millis;

/// What is shown of a disk without room.
pub(super) const SHORT: &str = "the disk that holds the store is full: free some space. Imports that are due go on from what was set \
     aside for that, as long as it lasts; changes, imported records and copies are refused until there is room again";

/// And once that is used up.
pub(super) const SPENT: &str = "the disk that holds the store is full, and what was set aside is used up: free some space. Nothing can \
     be written: imports that are due wait and show as overdue, and start when there is room again";

impl App {
    /// Whether the store's disk is full: whoever can do without writing there gives way.
    pub fn is_space_short(&self) -> bool {
        self.store.space().is_some_and(|space| space.is_short())
    }

    /// Sets aside what the settings say.
    pub async fn set_space_aside(&self) {
        let Some(space) = self.store.space() else { return };
        let bytes = u64::from(self.settings.disk_reserve_mb) << 20;
        let done = blocking(move || space.want(bytes)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(component = "store", %error, "could not set disk space aside; trying again");
        }
    }

    /// Looks whether there is room again, or for more to be set aside.
    pub async fn tend_space(&self) -> Result<(), std::io::Error> {
        let Some(space) = self.store.space() else { return Ok(()) };
        blocking(move || space.tend()).await.unwrap_or(Ok(()))
    }

    /// Writes down that the disk is full, or with `since` that it has room again.
    pub async fn tell_of_space(&self, since: Option<Millis>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let (operation, detail) = match since {
            None => (operation::DISK_FULL, json!({})),
            Some(since) => (operation::DISK_FREED, json!({"short_sec": (now - since).max(0) / 1000})),
        };
        self.metrics.event(operation, if since.is_none() { "error" } else { "info" });
        let entry = draft(None, operation, &command_center(), &new_action_id(), detail);
        self.store.append(vec![entry], now).await.map(|_| ())
    }

    pub(super) fn disk_health(&self) -> Option<DiskHealth> {
        let space = self.store.space()?;
        Some(DiskHealth {
            short: space.is_short(),
            spent: space.is_spent(),
            free_bytes: space.free(),
            reserve_bytes: space.held(),
        })
    }
}
