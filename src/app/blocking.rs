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
        return match simulated::time() {
            Some(time) => time.passes(moment).await,
            None => tokio::task::yield_now().await,
        };
    }
    tokio::time::sleep(moment).await;
}

/// Passes when the limit does; without one, and in a simulated world without a time of its own, never.
pub(super) async fn passes(limit: Option<Duration>) {
    #[cfg(test)]
    let limit = match limit.filter(|_| simulated::is_on()).and_then(|limit| Some((limit, simulated::time()?))) {
        Some((limit, time)) => return time.passes(limit).await,
        None => limit.filter(|_| !simulated::is_on()),
    };
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

/// Whether this thread is a simulated world's, and the time that passes in it.
#[cfg(test)]
pub(super) mod simulated {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    /// Time that only goes forward, whatever the clock shows, and only by hand.
    #[derive(Default)]
    pub(in crate::app) struct Time {
        now_ms: AtomicU64,
        moved: Notify,
    }

    impl Time {
        pub(in crate::app) fn pass(&self, ms: u64) {
            self.now_ms.fetch_add(ms, Ordering::SeqCst);
            self.moved.notify_waiters();
        }

        pub(super) async fn passes(&self, moment: Duration) {
            let until = self.now_ms.load(Ordering::SeqCst) + u64::try_from(moment.as_millis()).unwrap();
            while self.now_ms.load(Ordering::SeqCst) < until {
                self.moved.notified().await;
            }
        }
    }

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
        static TIME: RefCell<Option<Arc<Time>>> = const { RefCell::new(None) };
    }

    pub(in crate::app) fn turn_on() {
        ON.set(true);
    }

    /// As `turn_on`; what sleeps does so until this time has passed.
    pub(in crate::app) fn turn_on_with(time: Arc<Time>) {
        turn_on();
        TIME.set(Some(time));
    }

    pub(in crate::app) fn is_on() -> bool {
        ON.get()
    }

    pub(super) fn time() -> Option<Arc<Time>> {
        TIME.with_borrow(Clone::clone)
    }
}
