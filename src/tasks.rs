//! The loops. Each is a struct with one `run`, started in `cli/serve.rs` by the supervisor and nowhere
//! else; it says by its pulse what it does and how long it may be away for it.

mod auditor;
mod dispatcher;
mod git_keeper;
mod hints;
mod janitor;
mod keeper;
mod notary;
mod reconciler;
mod replicator;
mod space_keeper;
mod supervisor;
mod watchdog;
mod watcher;

pub use auditor::Auditor;
pub use dispatcher::Dispatcher;
pub use git_keeper::GitKeeper;
pub use hints::HintQueue;
pub use janitor::Janitor;
pub use keeper::Keeper;
pub use notary::NotaryClerk;
pub use reconciler::Reconciler;
pub use replicator::Replicator;
pub use space_keeper::SpaceKeeper;
pub use supervisor::{Ended, Supervisor};
pub use watchdog::Watchdog;
pub use watcher::Watcher;
