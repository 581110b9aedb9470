//! Snapshots are whole or not there; what was changed after they were made is not believed.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::adapters::store::{Pace, SqliteStore, Store as _, Upkeep as _, verify_copy};
use crate::core::audit::{Draft, operation};
use crate::core::model::Source;

const NOW: Millis = 1_800_000_000_000;

struct Place {
    folder: TempDir,
    store: Arc<SqliteStore>,
}

impl Place {
    async fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("store.db")).unwrap());
        let place = Place { folder, store };
        place.append(20).await;
        place
    }

    async fn append(&self, count: usize) {
        let draft = Draft {
            tenant: "a".into(),
            connector: None,
            operation: operation::UPDATED,
            source: Source::Api,
            actor: "zoe".into(),
            action_id: "0190".into(),
            metadata: serde_json::json!({}).into(),
        };
        self.store.append(vec![draft; count], NOW).await.unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("snapshots")
    }

    async fn make(&self, at: Millis) -> Snapshot {
        let frozen = self.store.freeze(at).await.unwrap();
        make(&self.folder(), frozen, "asked", Pace::FULL, &mut |_| true).unwrap()
    }
}

fn unpacks(snapshot: &Snapshot) -> CopyResult<i64> {
    let target = tempfile::tempdir().unwrap();
    let opened = open(&snapshot.path)?;
    Ok(unpack(&opened, &target.path().join("a.db"), &mut |_, _| {})?.head.seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_tells_what_it_holds_and_can_be_unpacked() {
    let place = Place::new().await;
    let first = place.make(NOW).await;
    place.append(5).await;
    let second = place.make(NOW + 1).await;
    let found = list(&place.folder()).unwrap();
    assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), [&second.name, &first.name]);
    assert_eq!((unpacks(&first).unwrap(), unpacks(&second).unwrap()), (20, 25));
    assert_eq!(second.name, "20270115T080000.001Z-25");
    let manifest = found[0].manifest.as_ref().unwrap();
    assert_eq!((manifest.audit_seq, manifest.reason.as_str(), manifest.at_ms), (25, "asked", NOW + 1));
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(second.path.join(STATE)).unwrap()).unwrap();
    assert_eq!(state["audit"]["seq"], 25);
    assert!(state["schedules"].as_array().unwrap().is_empty());
    let mut files: Vec<_> = std::fs::read_dir(&second.path).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, [DATABASE, MANIFEST, STATE]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_cut_or_is_missing_is_not_believed() {
    let place = Place::new().await;
    let snapshot = place.make(NOW).await;
    for name in [STATE, DATABASE, MANIFEST] {
        let path = snapshot.path.join(name);
        let good = std::fs::read(&path).unwrap();
        let mut damages = vec![good[..good.len() / 2].to_vec(), Vec::new(), [&good[..], b"x"].concat()];
        for at in [0, good.len() / 3, good.len() - 1] {
            let mut flipped = good.clone();
            flipped[at] ^= 0x10;
            damages.push(flipped);
        }
        for (n, damage) in damages.into_iter().enumerate() {
            std::fs::write(&path, &damage).unwrap();
            // White space behind a manifest changes nothing in it.
            let is_harmless = name == MANIFEST
                && serde_json::from_slice::<Manifest>(&damage).ok() == Some(snapshot.manifest.clone().unwrap());
            assert!(is_harmless || unpacks(&snapshot).is_err(), "{name} {n}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(unpacks(&snapshot).is_err(), "{name} missing");
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(unpacks(&snapshot).unwrap(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_was_cut_off_leaves_nothing_that_looks_like_one() {
    let place = Place::new().await;
    let frozen = place.store.freeze(NOW).await.unwrap();
    assert!(make(&place.folder(), frozen, "asked", Pace::FULL, &mut |_| false).is_err());
    assert_eq!(std::fs::read_dir(place.folder()).unwrap().count(), 0);
    std::fs::create_dir(place.folder().join(".making-20270115T080000.001Z-25")).unwrap();
    std::fs::write(place.folder().join("notes.txt"), "mine").unwrap();
    assert!(list(&place.folder()).unwrap().is_empty());
    assert_eq!(sweep(&place.folder()), 1);
    assert!(place.folder().join("notes.txt").exists());
    let snapshot = place.make(NOW).await;
    remove(&snapshot).unwrap();
    assert!(list(&place.folder()).unwrap().is_empty());
    // Where a folder cannot be, the reason names it.
    let frozen = place.store.freeze(NOW).await.unwrap();
    let error = make(&place.folder().join("notes.txt"), frozen, "asked", Pace::FULL, &mut |_| true).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_holds_everything_and_is_checked_file_by_file() {
    let place = Place::new().await;
    let (desired, folder) = (place.folder.path().join("desired"), place.folder.path().join("backups"));
    std::fs::create_dir_all(desired.join("schedules/noop")).unwrap();
    std::fs::create_dir_all(desired.join(".git")).unwrap();
    std::fs::write(desired.join("schedules/noop/a.yaml"), "interval_sec: 300\n").unwrap();
    std::fs::write(desired.join(".git/HEAD"), "x").unwrap();
    let frozen = place.store.freeze(NOW).await.unwrap();
    let made = bundle::make(&folder, frozen, &desired, Pace::FULL, &mut |_| {}).unwrap();
    assert_eq!(made.path.file_name().unwrap(), "backup_20270115_080000.zip");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let check = |path: &Path| {
        let target = tempfile::tempdir().unwrap();
        bundle::unpack(path, target.path(), &mut |_| {}).map(|unpacked| {
            let text = std::fs::read_to_string(target.path().join("audit.jsonl")).unwrap();
            assert_eq!(text.lines().count(), 20);
            assert_eq!(verify_copy(&unpacked.database).unwrap().head.seq, 20);
            unpacked.desired.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        })
    };
    assert_eq!(check(&made.path).unwrap(), ["schedules/noop/a.yaml"]);
    let good = std::fs::read(&made.path).unwrap();
    let torn = folder.join("torn.zip");
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x40;
        std::fs::write(&torn, flipped).unwrap();
        // Either it is noticed, or what was flipped says nothing: a date, an attribute.
        if let Ok(files) = check(&torn) {
            assert_eq!(files, ["schedules/noop/a.yaml"], "{at}");
        }
    }
    for length in (0..good.len()).step_by(good.len() / 20) {
        std::fs::write(&torn, &good[..length]).unwrap();
        assert!(check(&torn).is_err(), "cut at {length}");
    }
    // Two within a second.
    let frozen = place.store.freeze(NOW).await.unwrap();
    bundle::make(&folder, frozen, &desired, Pace::FULL, &mut |_| {}).unwrap();
    assert_eq!(bundle::list(&folder).unwrap().len(), 2);
}
