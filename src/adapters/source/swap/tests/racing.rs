//! An editor that saves as fast as it can, against swaps that do the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Fixture, digest, id};
use crate::adapters::source::{SourceError, Swap};

const SWAPS: usize = 2_000;
const DEADLINE: Duration = Duration::from_secs(20);

/// The editor's last save that `content` knows of: its own, or the one a swap was based on.
fn last_save(content: &str) -> Option<usize> {
    content.strip_suffix(" end\n")?.strip_prefix("save ")?.split(' ').next()?.parse().ok()
}

/// Runs `save(n)` for n = 1, 2, … against 2,000 swaps that each carry on the last save they saw. After
/// each save the editor waits until the file knows of it: one that was overwritten unseen never does.
fn race(f: &Fixture, save: &(dyn Fn(usize) + Sync)) {
    f.write("a.yaml", "save 0 end\n");
    let stop = AtomicBool::new(false);
    let (done, moved, outrun, saves) = std::thread::scope(|scope| {
        let editor = scope.spawn(|| {
            let mut n = 0;
            let begun = Instant::now();
            while !stop.load(Ordering::Relaxed) && begun.elapsed() < 2 * DEADLINE {
                n += 1;
                save(n);
                let since = Instant::now();
                let path = f.path("schedules/noop/a.yaml");
                while std::fs::read_to_string(&path).ok().as_deref().and_then(last_save) != Some(n) {
                    if since.elapsed() > DEADLINE {
                        return Err(n);
                    }
                }
            }
            Ok(n)
        });
        let (mut done, mut moved, mut outrun, mut failed) = (0, 0, 0, None);
        let since = Instant::now();
        while done + moved + outrun < SWAPS && since.elapsed() < DEADLINE && !editor.is_finished() {
            let Ok(Some((_, bytes))) = f.source.read(&id("noop/a")) else { continue };
            let content = String::from_utf8(bytes).unwrap();
            // A save in place is empty for a moment: nothing to base a swap on.
            let Some(last) = last_save(&content) else { continue };
            let new = format!("save {last} then swap {} end\n", done + moved);
            match f.source.swap(&id("noop/a"), Some(&digest(&content)), Some(new.as_bytes())) {
                Ok(Swap::Done(_)) => done += 1,
                Ok(Swap::Moved(_)) => moved += 1,
                // An editor who outruns every attempt wins too.
                Err(SourceError::Restless { .. }) => outrun += 1,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let saves = editor.join().unwrap();
        assert!(failed.is_none(), "{failed:?}");
        (done, moved, outrun, saves)
    });
    let saves = saves.unwrap_or_else(|n| panic!("save {n} was lost; the file has {:?}", f.read("a.yaml")));
    println!("{done} swaps done, {moved} gave way, {outrun} were outrun, {saves} saves");
    assert!(done > 0 && saves > 0);
    let left: Vec<_> = f.names().into_iter().filter(|name| name.contains(".cc-")).collect();
    // What an outrun swap held last may be somebody's save: it stays for `sweep` to judge.
    assert!(left.len() <= outrun, "{left:?}");
}

#[test]
fn no_save_by_rename_is_lost() {
    let f = Fixture::new();
    race(&f, &|n| super::save_by_rename(&f, &format!("save {n} end\n")));
}

/// Who has a file open cannot be told everywhere; see `lease`.
#[cfg(target_os = "linux")]
#[test]
fn no_save_in_place_is_lost() {
    use std::io::Write;
    let f = Fixture::new();
    race(&f, &|n| {
        let mut file = std::fs::OpenOptions::new().write(true).open(f.path("schedules/noop/a.yaml")).unwrap();
        // Most swaps of the race begin after the editor has opened the file and before it writes.
        std::thread::sleep(Duration::from_micros(200));
        file.set_len(0).unwrap();
        file.write_all(format!("save {n} end\n").as_bytes()).unwrap();
    });
}
