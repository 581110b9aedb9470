//! The copy of the store at another place: where that is, how files get there and back, what waits to be sent,
//! and how a store is rebuilt from it.

mod folder;
mod place;
mod restore;
mod s3;
mod spool;
mod url;

#[cfg(test)]
pub mod memory;

pub use place::{Found, Listed, Place, PlaceError, PlaceFuture, SharedPlace};
pub use restore::{RestoreError, Restored, Step, newest, restore};
pub use spool::{Scratch, Spool, Spooled};
pub use url::Destination;
