//! The loops. Each is a struct with one `run`, started in `cli/serve.rs` and nowhere else.

mod dispatcher;
mod git_keeper;
mod hints;
mod janitor;
mod reconciler;

pub use dispatcher::Dispatcher;
pub use git_keeper::GitKeeper;
pub use janitor::Janitor;
pub use reconciler::Reconciler;
