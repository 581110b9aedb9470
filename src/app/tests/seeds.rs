//! Plays many seeds of a simulated world side by side, or one of them aloud.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays the seeds kept in `file`, then `count` new ones. `NAME_SEED` plays that one alone, telling
/// its story, `NAME_SEEDS` another number of them.
pub(super) fn play_all(
    name: &str,
    file: &str,
    kept: &str,
    count: u64,
    play: impl Fn(u64, bool) -> Result<(), String> + Sync,
) {
    if let Some(seed) = setting(&format!("{name}_SEED")) {
        return assert_eq!(play(seed, true), Ok(()), "seed {seed}");
    }
    let kept = kept.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let count = setting(&format!("{name}_SEEDS")).unwrap_or(count);
    let seeds: Vec<u64> = kept.chain(1..=count).collect();
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
                    if let Err(found) = guarded(|| play(*seed, false)) {
                        failures.lock().unwrap().push(format!("{name}_SEED={seed}: {found}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} seeds end otherwise; keep them in {file}:\n{}",
        failures.len(),
        seeds.len(),
        failures.iter().take(10).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// A panic is a finding like any other.
pub(super) fn guarded(play: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}
