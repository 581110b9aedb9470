//! Fires what is due. A thread of its own waits for the earliest timer, since an idle thread wakes
//! more exactly than an asynchronous timer; claiming and running are the runtime's.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::app::App;

pub struct Dispatcher {
    app: Arc<App>,
}

impl Dispatcher {
    pub fn new(app: Arc<App>) -> Self {
        Dispatcher { app }
    }

    /// Blocks its thread until the program stops.
    pub fn run(self, runtime: &Handle) {
        while !self.app.shutdown.is_cancelled() {
            let batch = self.app.wait_for_due();
            if !batch.is_empty() {
                let app = self.app.clone();
                runtime.spawn(async move { app.dispatch(batch).await });
            }
        }
    }
}
