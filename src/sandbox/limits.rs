//! The vendor's limits on reads: so many requests a second from a key, so many from an address,
//! and a ban for the address that sends more.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
/// Quiet keys are forgotten once there are more than this many.
const KEPT: usize = 4_096;

/// A request that came too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    pub limit: u32,
    /// Until a request is taken again, whole seconds, at least one.
    pub retry_after_sec: u64,
}

/// Counts over a sliding second.
pub(super) struct Limits {
    key_limit: u32,
    ip_limit: u32,
    ban: Duration,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    keys: HashMap<String, VecDeque<Instant>>,
    addresses: HashMap<IpAddr, VecDeque<Instant>>,
    banned: HashMap<IpAddr, Instant>,
}

impl Limits {
    pub fn new(key_limit: u32, ip_limit: u32, ban: Duration) -> Self {
        Limits { key_limit, ip_limit, ban, recent: Mutex::default() }
    }

    /// Counts a request from an address; one too many bans it.
    pub fn admit_address(&self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = &mut *recent;
        if let Some(until) = recent.banned.get(&address).copied() {
            if now < until {
                return Err(TooMany { limit: self.ip_limit, retry_after_sec: seconds_up(until - now) });
            }
            recent.banned.remove(&address);
        }
        prune(&mut recent.addresses, now);
        if count(recent.addresses.entry(address).or_default(), self.ip_limit, now).is_err() {
            recent.banned.insert(address, now + self.ban);
            return Err(TooMany { limit: self.ip_limit, retry_after_sec: seconds_up(self.ban) });
        }
        Ok(())
    }

    /// Counts a request with a company's key.
    pub fn admit_key(&self, company: &str, now: Instant) -> Result<(), TooMany> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        prune(&mut recent.keys, now);
        count(recent.keys.entry(company.to_owned()).or_default(), self.key_limit, now)
            .map_err(|wait| TooMany { limit: self.key_limit, retry_after_sec: seconds_up(wait) })
    }
}

/// Notes a request, or says how long until the next is allowed.
fn count(times: &mut VecDeque<Instant>, limit: u32, now: Instant) -> Result<(), Duration> {
    while times.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
        times.pop_front();
    }
    if times.len() < limit as usize {
        times.push_back(now);
        return Ok(());
    }
    Err(times.front().map_or(WINDOW, |first| WINDOW.saturating_sub(now.duration_since(*first))))
}

fn prune<K: Eq + std::hash::Hash>(all: &mut HashMap<K, VecDeque<Instant>>, now: Instant) {
    if all.len() > KEPT {
        all.retain(|_, times| times.back().is_some_and(|last| now.duration_since(*last) < WINDOW));
    }
}

fn seconds_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gets_its_limit_in_any_second() {
        let limits = Limits::new(10, 30, Duration::from_secs(5));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!((0..10).all(|i| limits.admit_key("a", at(i * 50)).is_ok()));
        assert_eq!(limits.admit_key("a", at(999)), Err(TooMany { limit: 10, retry_after_sec: 1 }));
        assert!(limits.admit_key("b", at(999)).is_ok(), "another key has its own count");
        assert!(limits.admit_key("a", at(1000)).is_ok(), "the first request has left the window");
        assert!(limits.admit_key("a", at(1001)).is_err(), "and only that one");
    }

    #[test]
    fn an_address_that_sends_too_much_is_banned_for_a_while() {
        let limits = Limits::new(10, 3, Duration::from_secs(5));
        let (address, start) = (IpAddr::from([10, 0, 0, 1]), Instant::now());
        assert!((0..3).all(|_| limits.admit_address(address, start).is_ok()));
        assert_eq!(limits.admit_address(address, start), Err(TooMany { limit: 3, retry_after_sec: 5 }));
        assert!(limits.admit_address(address, start + Duration::from_millis(4900)).is_err());
        assert!(limits.admit_address(IpAddr::from([10, 0, 0, 2]), start).is_ok());
        assert!(limits.admit_address(address, start + Duration::from_secs(5)).is_ok());
    }
}
