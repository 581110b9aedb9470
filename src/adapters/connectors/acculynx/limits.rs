//! Keeps to the vendor's pace: so many requests a second for each key and, over all keys, for each host.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::core::model::Digest;

/// Idle buckets are forgotten once there are more than this many.
const KEPT: usize = 1_024;
/// How many requests a host may get at one moment: rate and burst together stay below its limit.
const HOST_BURST: u32 = 3;

/// A token bucket that hands out times instead of tokens: each request is told when it may go.
/// Told in the order of asking, so that no one is overtaken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    interval: Duration,
    /// How far ahead of an even pace requests may run.
    slack: Duration,
    /// When, at an even pace, the next request is due.
    next: Instant,
}

impl Bucket {
    /// `rate` requests a second, up to `burst` of them at once.
    pub fn new(rate: f64, burst: u32, now: Instant) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::ZERO);
        Bucket { interval, slack: interval * burst.saturating_sub(1), next: now }
    }

    /// Takes a place in the row: the earliest moment at which the request may go, not before `now`.
    pub fn reserve(&mut self, now: Instant) -> Instant {
        let due = self.next.max(now);
        self.next = due + self.interval;
        due.checked_sub(self.slack).map_or(now, |early| early.max(now))
    }

    /// Lets nothing go before `until`.
    pub fn hold(&mut self, until: Instant) {
        self.next = self.next.max(until + self.slack);
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.next <= now
    }
}

/// The buckets of every key and every host. Keys are held as digests only.
pub(super) struct Limits {
    key_rate: f64,
    host_rate: f64,
    keys: Mutex<HashMap<Digest, Bucket>>,
    hosts: Mutex<HashMap<String, Bucket>>,
}

impl Limits {
    pub fn new(key_rate: f64, host_rate: f64) -> Self {
        Limits { key_rate, host_rate, keys: Mutex::default(), hosts: Mutex::default() }
    }

    /// When a request with this key may go, as far as the key is concerned.
    pub fn reserve_key(&self, key: Digest, now: Instant) -> Instant {
        with(&self.keys, key, now, || Bucket::new(self.key_rate, 1, now), |bucket| bucket.reserve(now))
    }

    /// When a request to this host may go. Asked for once the key's turn has come: a place in the
    /// host's row that is not used at its time would let others bunch up behind it.
    pub fn reserve_host(&self, host: &str, now: Instant) -> Instant {
        let new = || Bucket::new(self.host_rate, HOST_BURST, now);
        with(&self.hosts, host.to_owned(), now, new, |bucket| bucket.reserve(now))
    }

    /// After a refusal: nothing more with this key before `until`.
    pub fn hold_key(&self, key: Digest, now: Instant, until: Instant) {
        with(&self.keys, key, now, || Bucket::new(self.key_rate, 1, now), |bucket| bucket.hold(until));
    }
}

fn with<K: Eq + Hash, T>(
    all: &Mutex<HashMap<K, Bucket>>,
    key: K,
    now: Instant,
    new: impl FnOnce() -> Bucket,
    act: impl FnOnce(&mut Bucket) -> T,
) -> T {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= KEPT {
        all.retain(|_, bucket| !bucket.is_idle(now));
    }
    act(all.entry(key).or_insert_with(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The times, in milliseconds from the start, at which `n` requests asked for at once may go.
    fn turns(bucket: &mut Bucket, start: Instant, n: u32) -> Vec<u128> {
        (0..n).map(|_| (bucket.reserve(start) - start).as_millis()).collect()
    }

    #[test]
    fn without_a_burst_requests_go_at_an_even_pace() {
        let start = Instant::now();
        assert_eq!(turns(&mut Bucket::new(8.0, 1, start), start, 5), [0, 125, 250, 375, 500]);
    }

    #[test]
    fn a_burst_goes_at_once_and_the_pace_holds_after_it() {
        let start = Instant::now();
        assert_eq!(turns(&mut Bucket::new(25.0, 3, start), start, 6), [0, 0, 0, 40, 80, 120]);
    }

    #[test]
    fn idle_time_is_not_saved_up_beyond_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(25.0, 3, start);
        let later = start + 60_000 * MS;
        assert_eq!(turns(&mut bucket, later, 5), [0, 0, 0, 40, 80]);
    }

    #[test]
    fn no_second_sees_more_than_rate_and_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(25.0, HOST_BURST, start);
        let mut now = start;
        let mut sent = Vec::new();
        for i in 0..500u32 {
            now = bucket.reserve(now + (i % 7) * 5 * MS);
            sent.push(now);
        }
        let most = sent.iter().map(|&from| sent.iter().filter(|&&at| at >= from && at < from + 1000 * MS).count());
        assert!(most.max().is_some_and(|most| most <= 28));
    }

    #[test]
    fn keys_do_not_wait_for_each_other_and_a_held_key_waits() {
        let (start, limits) = (Instant::now(), Limits::new(8.0, 25.0));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(limits.reserve_key(a, start), start);
        assert_eq!(limits.reserve_key(b, start), start);
        assert_eq!(limits.reserve_key(a, start), start + 125 * MS);
        limits.hold_key(b, start, start + 5000 * MS);
        assert_eq!(limits.reserve_key(b, start), start + 5000 * MS);
        assert_eq!(limits.reserve_key(a, start), start + 250 * MS);
    }

    #[test]
    fn idle_buckets_are_forgotten() {
        let (start, limits) = (Instant::now(), Limits::new(8.0, 25.0));
        for n in 0..5_000u32 {
            limits.reserve_key(Digest::of(&n.to_be_bytes()), start + n * MS);
        }
        assert!(limits.keys.lock().unwrap().len() <= KEPT + 200);
    }
}
