//! Looks after the disk that the store lies on: tells when it is full, and takes note when it has room again.

use std::sync::Arc;
use std::time::Duration;

use super::supervisor::Ended;
use crate::app::{App, Pulse};
use crate::core::model::Millis;

/// How often there is a look.
const ROUND: Duration = Duration::from_secs(2);

pub struct SpaceKeeper {
    app: Arc<App>,
    /// Since when the disk is known to be full, and whether that is written down.
    short: Option<Millis>,
    is_told: bool,
}

impl SpaceKeeper {
    pub fn new(app: Arc<App>) -> Self {
        SpaceKeeper { app, short: None, is_told: false }
    }

    pub async fn run(mut self, pulse: Pulse) -> Ended {
        // Before it is mended: what a predecessor ran out of is known from the first moment.
        self.tell().await;
        self.app.set_space_aside().await;
        while pulse.sleep(ROUND, "the next look at the disk").await {
            self.tell().await;
            match self.app.tend_space().await {
                Ok(()) => pulse.is_well(),
                Err(error) => pulse.failed(&error),
            }
            self.tell().await;
        }
        Ok(())
    }

    /// Writes down what has changed, as soon as that can be done.
    async fn tell(&mut self) {
        if self.app.is_space_short() {
            self.short.get_or_insert_with(|| self.app.clock.now());
            self.is_told = self.is_told || self.app.tell_of_space(None).await.is_ok();
        } else if let Some(since) = self.short
            && (self.is_told || self.app.tell_of_space(None).await.is_ok())
            && self.app.tell_of_space(Some(since)).await.is_ok()
        {
            (self.short, self.is_told) = (None, false);
        }
    }
}
