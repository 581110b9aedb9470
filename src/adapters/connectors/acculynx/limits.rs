//! Keeps to the vendor's pace: so many requests a second for each key and, over all keys, for each host.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::core::model::Digest;

/// Idle gates are forgotten once there are more than this many.
const KEPT: usize = 1_024;
/// How many requests a host may get at one moment: rate and burst together stay below its limit.
const HOST_BURST: u32 = 3;

/// A token bucket, kept as the time at which it will be full again.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    interval: Duration,
    /// How far ahead of an even pace requests may run.
    slack: Duration,
    /// When, at an even pace, the next request is due.
    due: Instant,
}

impl Bucket {
    /// `rate` requests a second, up to `burst` of them at once.
    fn new(rate: f64, burst: u32, now: Instant) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::ZERO);
        Bucket { interval, slack: interval * burst.saturating_sub(1), due: now }
    }

    /// Takes a token, or says when there will be one. Counted from when it is really taken: a pause of
    /// this program is not made up for with a rush.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let due = self.due.max(now);
        match due.checked_sub(self.slack) {
            Some(earliest) if earliest > now => Err(earliest),
            _ => {
                self.due = due + self.interval;
                Ok(())
            }
        }
    }

    /// Lets nothing go before `until`.
    fn hold(&mut self, until: Instant) {
        self.due = self.due.max(until + self.slack);
    }
}

/// A bucket and the row of those who wait for it, first come, first served.
struct Gate {
    turn: tokio::sync::Mutex<()>,
    bucket: Mutex<Bucket>,
}

impl Gate {
    fn bucket<T>(&self, act: impl FnOnce(&mut Bucket) -> T) -> T {
        act(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when a request may go. Dropping the wait takes nothing.
    async fn pass(&self) {
        let _turn = self.turn.lock().await;
        while let Err(earliest) = self.bucket(|bucket| bucket.take(Instant::now())) {
            tokio::time::sleep_until(earliest.into()).await;
        }
    }
}

/// The gates of every key and every host. Keys are held as digests only.
pub(super) struct Limits {
    key_rate: f64,
    host_rate: f64,
    keys: Mutex<HashMap<Digest, Arc<Gate>>>,
    hosts: Mutex<HashMap<String, Arc<Gate>>>,
}

impl Limits {
    /// Requests a second for each key and for each host.
    pub fn new(key_rate: f64, host_rate: f64) -> Self {
        Limits { key_rate, host_rate, keys: Mutex::default(), hosts: Mutex::default() }
    }

    /// Returns when a request with this key may go to this host. The key's turn comes first: who waits
    /// for his own key must not hold up the others at the host.
    pub async fn pass(&self, key: Digest, host: &str) {
        self.key(key).pass().await;
        gate(&self.hosts, host.to_owned(), self.host_rate, HOST_BURST).pass().await;
    }

    /// After a refusal: nothing more with this key before `until`.
    pub fn hold_key(&self, key: Digest, until: Instant) {
        self.key(key).bucket(|bucket| bucket.hold(until));
    }

    fn key(&self, key: Digest) -> Arc<Gate> {
        gate(&self.keys, key, self.key_rate, 1)
    }
}

fn gate<K: Eq + Hash>(all: &Mutex<HashMap<K, Arc<Gate>>>, key: K, rate: f64, burst: u32) -> Arc<Gate> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if all.len() >= KEPT {
        all.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.bucket(|bucket| bucket.due > now));
    }
    let new =
        || Arc::new(Gate { turn: tokio::sync::Mutex::default(), bucket: Mutex::new(Bucket::new(rate, burst, now)) });
    all.entry(key).or_insert_with(new).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The times, in milliseconds from `start`, at which `n` requests that wait in a row go.
    fn row(bucket: &mut Bucket, start: Instant, n: u32) -> Vec<u128> {
        let mut now = start;
        let go = |_| {
            while let Err(earliest) = bucket.take(now) {
                now = earliest;
            }
            (now - start).as_millis()
        };
        (0..n).map(go).collect()
    }

    #[test]
    fn without_a_burst_requests_go_at_an_even_pace() {
        let start = Instant::now();
        assert_eq!(row(&mut Bucket::new(8.0, 1, start), start, 5), [0, 125, 250, 375, 500]);
    }

    #[test]
    fn a_burst_goes_at_once_and_the_pace_holds_after_it() {
        let start = Instant::now();
        assert_eq!(row(&mut Bucket::new(25.0, 3, start), start, 6), [0, 0, 0, 40, 80, 120]);
    }

    #[test]
    fn idle_time_is_not_saved_up_beyond_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(25.0, 3, start);
        assert_eq!(row(&mut bucket, start + 60_000 * MS, 5), [0, 0, 0, 40, 80]);
    }

    #[test]
    fn no_second_sees_more_than_rate_and_burst_however_uneven_the_asking() {
        let start = Instant::now();
        let mut bucket = Bucket::new(25.0, HOST_BURST, start);
        let (mut now, mut sent) = (start, Vec::new());
        for i in 0..500u32 {
            // Now and then the program stands still for a while.
            now += if i % 50 == 0 { 700 * MS } else { (i % 7) * 5 * MS };
            while let Err(earliest) = bucket.take(now) {
                now = earliest;
            }
            sent.push(now);
        }
        let within = |from: Instant| sent.iter().filter(|&&at| at >= from && at < from + 1000 * MS).count();
        assert!(sent.iter().all(|&from| within(from) <= 28));
    }

    #[test]
    fn a_held_bucket_waits_and_then_keeps_its_pace() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8.0, 1, start);
        bucket.hold(start + 5000 * MS);
        assert_eq!(row(&mut bucket, start, 3), [5000, 5125, 5250]);
    }

    #[tokio::test]
    async fn keys_do_not_wait_for_each_other() {
        let limits = Limits::new(1.0, 1000.0);
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        limits.pass(a, "host").await;
        let soon = |key| tokio::time::timeout(50 * MS, limits.pass(key, "host"));
        assert!(soon(a).await.is_err(), "the key has had its request of this second");
        assert!(soon(b).await.is_ok());
        limits.hold_key(b, Instant::now() + 500 * MS);
        assert!(soon(b).await.is_err());
    }

    #[tokio::test]
    async fn idle_gates_are_forgotten() {
        let limits = Limits::new(1e6, 1e6);
        for n in 0..5_000u32 {
            limits.pass(Digest::of(&n.to_be_bytes()), "host").await;
        }
        assert!(limits.keys.lock().unwrap().len() <= KEPT);
    }
}
