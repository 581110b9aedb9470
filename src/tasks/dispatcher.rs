//! Fires what is due. A thread of its own waits for the earliest timer, since an idle thread wakes
//! more exactly than an asynchronous timer; claiming and running are the runtime's.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::supervisor::Ended;
use crate::app::{App, Pulse};

pub struct Dispatcher {
    app: Arc<App>,
}

/// It naps no longer than this.
const NAP: Duration = Duration::from_secs(1);

impl Dispatcher {
    pub fn new(app: Arc<App>) -> Self {
        Dispatcher { app }
    }

    /// Blocks its thread until the program stops or another dispatcher has taken its place. What it took
    /// out of the queue before it noticed that it still hands on: nobody else has it.
    pub fn run(self, runtime: &Handle, pulse: &Pulse) -> Ended {
        while !pulse.is_stopping() {
            pulse.waits(NAP, "the next due time");
            let batch = self.app.wait_for_due();
            if !batch.is_empty() {
                let app = self.app.clone();
                runtime.spawn(async move { app.dispatch(batch).await });
            }
        }
        Ok(())
    }
}
