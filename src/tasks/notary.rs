//! Has the audit log's end signed as long as it moves, and sends what was signed elsewhere where that is
//! wanted. What cannot be sent is tried again, ever less often; only the newest matters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::supervisor::Ended;
use crate::adapters::notary::Post;
use crate::app::{App, Pulse};

pub struct NotaryClerk {
    app: Arc<App>,
}

/// How long signing may take: a slow disk syncs.
const LONGEST: Duration = Duration::from_secs(60);

/// The first pause after a failure to send; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(600);

impl NotaryClerk {
    pub fn new(app: Arc<App>) -> Self {
        NotaryClerk { app }
    }

    pub async fn run(self, pulse: Pulse) -> Ended {
        let proof = &self.app.settings.proof;
        let post = proof.checkpoint_url.as_ref().map(|url| Post::new(url.0.clone())).transpose()?;
        let (mut failures, mut send_at) = (0_u32, Instant::now());
        let mut sign_at = Instant::now() + proof.checkpoint_interval;
        if let Err(error) = self.app.ensure_notary().await {
            pulse.failed(&error);
        }
        loop {
            let send = post.as_ref().map(|_| send_at);
            let next = send.map_or(sign_at, |send| send.min(sign_at)).saturating_duration_since(Instant::now());
            // Not less than a moment: a clock that stands still must not make this a race.
            if !pulse.sleep(next.max(Duration::from_millis(50)), "the next checkpoint").await {
                return Ok(());
            }
            let mut done = Ok(());
            if sign_at <= Instant::now() {
                pulse.waits(LONGEST, "signing the audit log's end");
                let opened = self.app.ensure_notary().await;
                let signed = self.app.checkpoint_now().await;
                pulse.goes_on();
                done = opened.and(signed.map(|_| ())).and(self.app.anchor_checkpoint().await.map(|_| ()));
                sign_at = Instant::now() + proof.checkpoint_interval;
            }
            if let Some(post) = post.as_ref().filter(|_| send_at <= Instant::now()) {
                pulse.waits(LONGEST, "sending a checkpoint");
                let sent = self.app.post_checkpoint(post).await;
                failures = if sent.is_ok() { 0 } else { failures + 1 };
                let pause = FIRST_RETRY.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16)));
                send_at = Instant::now() + pause.min(LONGEST_RETRY);
                if let Err(error) = &sent {
                    tracing::warn!(component = "notary", %error, failures, "could not send a checkpoint; trying again");
                }
                done = done.and(sent.map(|_| ()));
            }
            match done {
                Ok(()) => pulse.is_well(),
                Err(error) => pulse.failed(&error),
            }
        }
    }
}
