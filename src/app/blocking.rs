//! Work that blocks, away from the runtime's threads. The simulated world has it done on the spot, so
//! that one seed always gives one course of events.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinError;

/// Does `work` on a thread where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    #[cfg(test)]
    if simulated::is_on() {
        tokio::task::yield_now().await;
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

/// As `blocking`, for work that hands its results over on the way.
pub(super) fn start_blocking(work: impl FnOnce() + Send + 'static) {
    #[cfg(test)]
    if simulated::is_on() {
        return work();
    }
    tokio::task::spawn_blocking(work);
}

/// Waits a moment, before something is tried again.
pub(super) async fn rest(moment: Duration) {
    #[cfg(test)]
    if simulated::is_on() {
        return tokio::task::yield_now().await;
    }
    tokio::time::sleep(moment).await;
}

/// Passes when the limit does; without one, and in the simulated world, never.
pub(super) async fn passes(limit: Option<Duration>) {
    #[cfg(test)]
    let limit = limit.filter(|_| !simulated::is_on());
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Sends from a thread that may block; an error when nobody waits for it any more.
pub(super) fn hand_over<T>(sender: &mpsc::Sender<T>, item: T) -> Result<(), ()> {
    #[cfg(test)]
    if simulated::is_on() {
        return sender.try_send(item).map_err(|_| ());
    }
    sender.blocking_send(item).map_err(|_| ())
}

/// Whether this thread is a simulated world's.
#[cfg(test)]
pub(super) mod simulated {
    use std::cell::Cell;

    thread_local!(static ON: Cell<bool> = const { Cell::new(false) });

    pub(in crate::app) fn turn_on() {
        ON.set(true);
    }

    pub(in crate::app) fn is_on() -> bool {
        ON.get()
    }
}
