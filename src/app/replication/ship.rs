//! Sending what waits, in order, and believing that it arrived only when the destination shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::owner::REFUSED;
use super::{Replication, Trouble};
use crate::adapters::replica::{PlaceError, Spooled};
use crate::core::model::Millis;
use crate::core::replica::{GENERATIONS, pause_ms, segment_name};

/// Segments that are sent before the destination is asked to show them.
const BATCH: usize = 16;

/// How long it waits for something to send.
const IDLE: Duration = Duration::from_secs(1);

impl Replication {
    /// One round of the sender; tells how long to wait for the next.
    pub(super) async fn send_round(&self) -> Duration {
        let sent = match self.own().await {
            Ok(()) => self.send().await,
            Err(trouble) => Err(trouble),
        };
        match sent {
            Ok(more) => {
                self.goes_well();
                if more { Duration::ZERO } else { IDLE }
            }
            // Told already.
            Err(Trouble::Refused(_)) => {
                self.goes_well();
                self.status().next_try = Some(self.now() + millis(REFUSED));
                REFUSED
            }
            Err(trouble) => self.failed(&trouble),
        }
    }

    fn goes_well(&self) {
        let mut status = self.status();
        (status.failures, status.next_try) = (0, None);
    }

    /// Takes down a failure and tells how long to wait.
    pub(super) fn failed(&self, trouble: &Trouble) -> Duration {
        let failures = {
            let mut status = self.status();
            status.failures = status.failures.saturating_add(1);
            status.last_error = Some(trouble.to_string());
            status.next_try = Some(self.now() + millis(Duration::from_millis(pause_ms(status.failures))));
            status.failures
        };
        self.metrics.replication.error();
        if failures.is_power_of_two() {
            tracing::warn!(component = "replication", failures, error = %trouble, "the replica falls behind; trying again");
        }
        Duration::from_millis(pause_ms(failures))
    }

    /// Sends some of what waits; true when there is more.
    pub(super) async fn send(&self) -> Result<bool, Trouble> {
        let batch: Vec<Spooled> = {
            let spool = self.spool();
            let mut waiting = spool.waiting().peekable();
            let first = waiting.peek().map(|spooled| spooled.generation.clone());
            waiting.take_while(|spooled| Some(&spooled.generation) == first.as_ref()).take(BATCH).cloned().collect()
        };
        let Some(first) = batch.first() else { return Ok(false) };
        for spooled in &batch {
            let bytes = self.spool().read(spooled)?;
            let name = segment_name(&spooled.generation, spooled.index);
            match self.place.put_new(&name, bytes).await {
                // From an attempt whose answer was lost; the listing tells whether it is whole.
                Ok(()) | Err(PlaceError::Exists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let folder = format!("{GENERATIONS}/{}", first.generation);
        let before = segment_name(&first.generation, first.index.saturating_sub(1));
        let listed = self.place.list(&folder, Some(&before)).await?;
        let sizes: BTreeMap<&str, u64> = listed.iter().map(|listed| (listed.name.as_str(), listed.size)).collect();
        for spooled in &batch {
            let name = segment_name(&spooled.generation, spooled.index);
            match sizes.get(name.as_str()) {
                Some(size) if *size == spooled.size => self.arrived(spooled),
                Some(size) => {
                    let bytes = self.spool().read(spooled)?;
                    self.place.put(&name, bytes).await?;
                    let told = format!("{name} lay there with {size} bytes instead of {}; sent again", spooled.size);
                    return Err(PlaceError::Failed(told).into());
                }
                None => {
                    let told = format!("it said that it has stored {name}, and does not show it; sending it again");
                    return Err(PlaceError::Failed(told).into());
                }
            }
        }
        Ok(self.spool().waiting().next().is_some())
    }

    /// The destination shows a segment.
    fn arrived(&self, spooled: &Spooled) {
        self.spool().sent(&spooled.generation, spooled.index);
        self.metrics.replication.segment(spooled.size);
        let mut status = self.status();
        status.shipped = Some((spooled.generation.clone(), spooled.end));
        if status.complete.as_deref() == Some(spooled.generation.as_str()) {
            let before = status.replica.replace(spooled.end.head.seq).unwrap_or(0);
            self.metrics.replication.entries(spooled.end.head.seq - before);
        }
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(0)
}
