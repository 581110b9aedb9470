//! What touches the world: files, the store, other people's APIs, the clock. Decides no policy.

pub mod clock;

pub mod memory;

pub mod notary;

pub mod source;

pub mod store;

pub mod snapshots;

pub mod connectors;

pub mod replica;

pub mod secrets;
