//! Opens the store, and restores it first where it is damaged: what was damaged is set aside, the best copy that
//! there is takes its place, and what is lost is written down where nobody can miss it.

mod given;
mod journal;
pub(super) mod place;
mod taken;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

pub use given::{RestoreAsked, RestoreDone, restore_file};
pub use place::DesiredWritten;

use super::apply::{command_center, draft, new_action_id};
use super::blocking::blocking;
use super::checks::{Marker, marker_path};
use super::views::RestoredView;
use crate::adapters::clock::Clock;
use crate::adapters::notary::Kept;
use crate::adapters::snapshots::{self, CopyError, Snapshot};
use crate::adapters::store::rescue::{self, Hold, Origin, Prepared, examine, files_of};
use crate::adapters::store::{Depth, Frozen, Pace, Soundness, SqliteStore, Store as _, StoreError};
use crate::core::audit::{Head, operation};
use crate::core::heal::{Candidate, Known, Last, in_order, lost, told};
use crate::core::model::{Caller, Millis};
use crate::core::timing::iso;
use crate::settings::Settings;
use journal::Journal;
use place::{clear, finish, free_name, set_aside};

/// Another place from which a store can be restored.
pub trait Replica: Send + Sync {
    /// What it is called in the log and in the audit, without secrets.
    fn name(&self) -> String;
    /// Where the audit log ends in it, and when that was; `None` when it holds nothing.
    fn head(&self) -> Result<Option<(Head, Millis)>, String>;
    /// Writes the database into a new file and checks it.
    fn restore(&self, target: &Path) -> Result<(), String>;
}

#[derive(Debug, thiserror::Error)]
pub enum HealError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(
        "the database {path} is damaged ({reason}), and COMMAND_CENTER_AUTO_RECOVER is off: nothing was changed. Turn \
         it on, or restore a copy with `command-center restore FILE --force`; snapshots lie in {snapshots}"
    )]
    Off { path: String, reason: String, snapshots: String },
    #[error("could not {operation} {path}: {reason}")]
    Io { operation: &'static str, path: String, reason: String },
    #[error("{0}")]
    Refused(String),
}

pub type HealResult<T> = Result<T, HealError>;

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HealError {
    let path = path.display().to_string();
    move |error| HealError::Io { operation, path, reason: error.to_string() }
}

/// Why a copy is made before the schema is brought up to date.
const UPGRADE: &str = "upgrade";

/// A file beside the database.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens the store. Nothing is migrated before it has been copied, and what is damaged is restored. `lock` is what a
/// predecessor in this process has kept.
fn open_store(
    settings: &Settings,
    clock: &Clock,
    lock: Option<File>,
    replica: Option<&dyn Replica>,
) -> HealResult<SqliteStore> {
    let (healer, database) = (Healer { settings, clock, replica }, settings.dsn.as_path());
    // What was handed over may be held by another process, which does not let go of it for a second opening.
    let again = lock.as_ref().and_then(|lock| lock.try_clone().ok());
    let (hold, had_been) = Hold::take(database, lock)?;
    healer.make_ready(had_been)?;
    match SqliteStore::open_held(database, hold) {
        Err(StoreError::Corrupt { reason, .. }) if had_been => {
            let (hold, _) = Hold::take(database, again)?;
            healer.heal(&reason)?;
            Ok(SqliteStore::open_held(database, hold)?)
        }
        Err(StoreError::Corrupt { reason, .. }) => {
            let reason = format!("{reason}; there has never been a store here, so it is left alone");
            Err(StoreError::Open { path: database.display().to_string(), reason }.into())
        }
        opened => Ok(opened?),
    }
}

/// Opens the store and begins with it. Damage that shows only when it is read is mended like any other, once.
pub async fn start<T, F>(
    settings: &Settings,
    clock: &Clock,
    lock: Option<File>,
    replica: Option<Arc<dyn Replica>>,
    begin: impl Fn(Arc<SqliteStore>) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let opened = async |lock: Option<File>| {
        let (settings, clock, replica) = (settings.clone(), clock.clone(), replica.clone());
        let open = blocking(move || open_store(&settings, &clock, lock, replica.as_deref()));
        let store = Arc::new(open.await??);
        let begun = begin(store.clone()).await;
        if begun.is_err() {
            let _ = blocking(move || store.close()).await;
        }
        begun
    };
    let again = lock.as_ref().and_then(|lock| lock.try_clone().ok());
    let first = opened(lock).await;
    match first.as_ref().err().and_then(damage_in) {
        Some(reason) => {
            condemn(&settings.dsn, &reason, clock.now());
            opened(again).await
        }
        None => first,
    }
}

/// Leaves word that the database is damaged, for the next opening.
fn condemn(database: &Path, reason: &str, now: Millis) {
    let marker = Marker { at_ms: now, reason: reason.to_owned(), certain: true };
    let bytes = serde_json::to_vec(&marker).unwrap_or_default();
    if let Err(error) = std::fs::write(marker_path(database), bytes) {
        tracing::warn!(component = "store", %error, "could not leave word that the database is damaged");
    }
}

/// Why an opening or the coming up of the fleet failed, if that is damage.
fn damage_in(error: &anyhow::Error) -> Option<String> {
    let of = |error: &StoreError| match error {
        StoreError::Corrupt { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    error.chain().find_map(|cause| {
        let store = cause.downcast_ref::<StoreError>().and_then(of);
        store.or_else(|| match cause.downcast_ref::<super::AppError>() {
            Some(super::AppError::Store(error)) => of(error),
            _ => None,
        })
    })
}

struct Healer<'a> {
    settings: &'a Settings,
    clock: &'a Clock,
    replica: Option<&'a dyn Replica>,
}

/// What a damaged store may be restored from.
enum From<'a> {
    /// What its log holds up to the damage; when its last entry was made.
    Itself(Millis),
    Snapshot,
    Replica(&'a dyn Replica, Millis),
}

/// A copy in a file that is whole and checked.
struct Ready {
    path: PathBuf,
    from: String,
    at: Option<Millis>,
}

impl Healer<'_> {
    fn database(&self) -> &Path {
        &self.settings.dsn
    }

    /// Before the store is opened: a restoring that was cut off is finished, what cannot be a database any more is
    /// restored, and an older schema is copied.
    fn make_ready(&self, had_been: bool) -> HealResult<()> {
        let database = self.database();
        if let Some(journal) = Journal::read(database) {
            tracing::warn!(component = "store", "finishing a restoring that was cut off ({})", journal.reason);
            return self.go_on(&journal);
        }
        place::settle(database)?;
        if let Some(reason) = self.what_is_wrong(had_been)? {
            return self.heal(&reason);
        }
        if let Some(found) = rescue::older_schema(database) {
            self.copy_before_upgrade(found)?;
        }
        Ok(())
    }

    fn what_is_wrong(&self, had_been: bool) -> HealResult<Option<String>> {
        let database = self.database();
        if had_been {
            let is_there = std::fs::symlink_metadata(database);
            let has_copies = || snapshots::list(&self.snapshots()).is_ok_and(|all| !all.is_empty());
            let leaves_log = || files_of(database)[1].exists();
            match is_there.map(|meta| (meta.is_dir(), meta.len())) {
                Ok((true, _)) => return Ok(Some("a directory lies in its place".to_owned())),
                Ok((false, 0)) => return Ok(Some("the file is empty".to_owned())),
                // Of a replica nothing is known yet; it is asked then.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && (has_copies() || leaves_log() || self.replica.is_some()) =>
                {
                    return Ok(Some("the file is gone".to_owned()));
                }
                _ => {}
            }
        }
        if let Some(reason) = rescue::log_damage(database).filter(|_| had_been) {
            return Ok(Some(reason));
        }
        let path = marker_path(database);
        let Some(marker) = Marker::read(&path) else { return Ok(None) };
        if marker.certain {
            return Ok(Some(marker.reason));
        }
        match examine(database, Depth::Full)? {
            Soundness::Damaged(reason) => Ok(Some(reason)),
            Soundness::Sound => {
                tracing::warn!(
                    component = "store",
                    "the database was found damaged at {} ({}) and is sound now; is this machine's memory in order?",
                    iso(marker.at_ms),
                    marker.reason
                );
                std::fs::remove_file(&path).map_err(io("remove", &path))?;
                Ok(None)
            }
        }
    }

    fn snapshots(&self) -> PathBuf {
        self.settings.data_dir.join("snapshots")
    }

    fn copy_before_upgrade(&self, found: i64) -> HealResult<()> {
        let made = Frozen::of_file(self.database(), self.clock.now())
            .map_err(CopyError::from)
            .and_then(|frozen| snapshots::make(&self.snapshots(), frozen, UPGRADE, Pace::FULL, &mut |_| true));
        match made {
            Ok(snapshot) => {
                tracing::info!(
                    component = "store",
                    "schema {found} is older; copied it to {}",
                    snapshot.path.display()
                );
                self.drop_equals_of(&snapshot);
                Ok(())
            }
            // Damage is dealt with where the store is opened.
            Err(CopyError::Store(StoreError::Corrupt { reason, .. })) => self.heal(&reason),
            Err(error) => Err(HealError::Refused(format!(
                "the store has schema {found}, and could not be copied before it is brought up to date: {error}"
            ))),
        }
    }

    /// An upgrade that is cut off begins anew with a copy: of the same state one is enough, however often that happens.
    fn drop_equals_of(&self, kept: &Snapshot) {
        let facts = |snapshot: &Snapshot| {
            let manifest = snapshot.manifest.as_ref().ok().filter(|manifest| manifest.reason == UPGRADE)?;
            Some((manifest.audit_seq, manifest.audit_hash.clone(), manifest.schema_version))
        };
        for other in snapshots::list(&self.snapshots()).unwrap_or_default() {
            if other.path != kept.path && facts(&other).is_some() && facts(&other) == facts(kept) {
                let removed = std::fs::remove_dir_all(&other.path);
                if let Err(error) = removed {
                    tracing::warn!(component = "store", %error, "could not remove {}", other.path.display());
                }
            }
        }
    }

    /// Sets the database aside and restores it from the best copy there is.
    fn heal(&self, reason: &str) -> HealResult<()> {
        let database = self.database();
        if !self.settings.auto_recover {
            return Err(HealError::Off {
                path: database.display().to_string(),
                reason: reason.to_owned(),
                snapshots: self.snapshots().display().to_string(),
            });
        }
        let now = self.clock.now();
        tracing::error!(component = "store", "the database {} is damaged: {reason}", database.display());
        let aside = free_name(database, "corrupt", now);
        let journal = Journal { aside, reason: reason.to_owned(), at_ms: now, is_prepared: false, desired: None };
        journal.write(database)?;
        self.go_on(&journal)
    }

    /// What is left to do of a restoring, wherever it was cut off.
    fn go_on(&self, journal: &Journal) -> HealResult<()> {
        let database = self.database();
        let new = beside(database, ".restoring");
        if !journal.is_prepared {
            set_aside(database, &journal.aside)?;
            let damaged = journal.aside.is_file().then_some(journal.aside.as_path());
            let around = beside(database, ".around");
            clear(&around);
            let source = damaged.map(|damaged| match rescue::read_around(damaged, &around) {
                true => around.as_path(),
                false => damaged,
            });
            let known = source.map_or(Known::Nothing, rescue::last_known).and_signed(self.signed());
            let ready = self.best_copy(&new, damaged)?;
            self.prepare(&ready, source, known, journal)?;
            clear(&around);
            let journal = Journal { is_prepared: true, ..journal.clone() };
            journal.write(database)?;
            return finish(database, &journal).map(|_| ());
        }
        finish(database, journal).map(|_| ())
    }

    /// The entry that was last signed: the checkpoints lie outside the database, and are of the store that was
    /// last at work here.
    fn signed(&self) -> i64 {
        let newest = Kept::at(&self.settings.data_dir).newest(|_| true);
        newest.ok().flatten().map_or(0, |signed| signed.checkpoint.head.seq)
    }

    /// The best copy there is, written beside the database; an empty place where there is none.
    fn best_copy(&self, new: &Path, damaged: Option<&Path>) -> HealResult<Ready> {
        let local = self.newest_snapshot(new)?;
        let itself = beside(self.database(), ".itself");
        clear(&itself);
        let (mut candidates, mut away) = (Vec::new(), None);
        if let Some(damaged) = damaged
            && let Some((head, at)) = rescue::up_to_damage(damaged, &itself)?
        {
            candidates.push(Candidate { what: From::Itself(at), head });
        }
        candidates.extend(local.as_ref().map(|(head, _)| Candidate { what: From::Snapshot, head: *head }));
        if let Some(replica) = self.replica {
            match replica.head() {
                Ok(found) => {
                    let candidate = found.map(|(head, at)| Candidate { what: From::Replica(replica, at), head });
                    candidates.extend(candidate);
                }
                Err(error) => {
                    tracing::warn!(component = "store", "cannot ask {}: {error}", replica.name());
                    away = Some((replica, error));
                }
            }
        }
        if let Some((replica, error)) = away.filter(|_| candidates.is_empty()) {
            return Err(HealError::Refused(format!(
                "the database is damaged or gone, no snapshot is whole, and {} cannot be asked ({error}). Start again when \
                 it can be reached, or with COMMAND_CENTER_REPLICATION=off to begin with the desired files alone",
                replica.name()
            )));
        }
        for candidate in in_order(candidates) {
            let (from, at) = match candidate.what {
                From::Snapshot => break,
                From::Itself(at) => {
                    clear(new);
                    std::fs::rename(&itself, new).map_err(io("rename", &itself))?;
                    ("the database itself, up to the damage in its log".to_owned(), at)
                }
                From::Replica(replica, at) if self.fetch(replica, new)? => (format!("replica {}", replica.name()), at),
                From::Replica(..) => continue,
            };
            clear(&itself);
            return Ok(Ready { path: new.to_owned(), from, at: Some(at) });
        }
        clear(&itself);
        Ok(local
            .map_or_else(|| Ready { path: new.to_owned(), from: "nothing".to_owned(), at: None }, |(_, ready)| ready))
    }

    /// Restores from the replica into `new`; says whether that worked.
    fn fetch(&self, replica: &dyn Replica, new: &Path) -> HealResult<bool> {
        let fetched = beside(self.database(), ".from-replica");
        clear(&fetched);
        if let Err(error) = replica.restore(&fetched) {
            tracing::error!(component = "store", "cannot restore from {}: {error}", replica.name());
            clear(&fetched);
            return Ok(false);
        }
        std::fs::rename(&fetched, new).map_err(io("rename", &fetched))?;
        Ok(true)
    }

    /// The newest snapshot that proves to be whole; one that is torn leads to the one before.
    fn newest_snapshot(&self, new: &Path) -> HealResult<Option<(Head, Ready)>> {
        for snapshot in snapshots::list(&self.snapshots()).unwrap_or_default() {
            clear(new);
            let unpacked = snapshots::open(&snapshot.path).and_then(|opened| {
                let facts = snapshots::unpack(&opened, new, &mut |_, _| {})?;
                Ok((facts.head, opened.manifest.at_ms))
            });
            match unpacked {
                Ok((head, at)) => {
                    let from = format!("snapshot {}", snapshot.name);
                    return Ok(Some((head, Ready { path: new.to_owned(), from, at: Some(at) })));
                }
                // An older one would lose more than waiting for space does.
                Err(error @ (CopyError::Full { .. } | CopyError::Store(StoreError::Full))) => return Err(error.into()),
                Err(error) => {
                    tracing::error!(component = "store", "snapshot {} cannot be used: {error}", snapshot.name);
                }
            }
        }
        clear(new);
        Ok(None)
    }

    fn prepare(&self, ready: &Ready, damaged: Option<&Path>, known: Known, journal: &Journal) -> HealResult<()> {
        let caller = command_center();
        let set_aside = Some(journal.aside.as_path()).filter(|path| std::fs::symlink_metadata(path).is_ok());
        let told = Told { journal, known, from: &ready.from, at: ready.at, set_aside, is_current: false };
        rescue::prepare(&ready.path, Origin::Copy(damaged), journal.at_ms, &mut |prepared| {
            told.tell(prepared, &caller)
        })?;
        Ok(())
    }
}

/// What is written down of a restoring.
struct Told<'a> {
    journal: &'a Journal,
    known: Known,
    from: &'a str,
    at: Option<Millis>,
    set_aside: Option<&'a Path>,
    /// Nothing has happened since the copy.
    is_current: bool,
}

impl Told<'_> {
    fn tell(&self, prepared: Prepared, caller: &Caller) -> (String, crate::core::audit::Draft) {
        let gone = lost(prepared.kept, self.known);
        let view = RestoredView {
            at_ms: self.journal.at_ms,
            at_iso: iso(self.journal.at_ms),
            cause: self.journal.reason.clone(),
            from: self.from.to_owned(),
            from_iso: self.at.map(iso),
            from_seq: prepared.restored.seq,
            kept_seq: prepared.kept.seq,
            first_lost_seq: gone.map(|gone| gone.first),
            last_lost_seq: gone.map_or(serde_json::Value::Null, |gone| match gone.last {
                Last::Exactly(seq) | Last::AtLeast(seq) => seq.into(),
                Last::Unknown => "unknown".into(),
            }),
            lost: told(gone),
            set_aside: self.set_aside.map(|path| path.display().to_string()),
            settled: self.is_current,
            signed: false,
        };
        let since = view.from_iso.as_deref().unwrap_or("the beginning");
        tracing::error!(
            component = "store",
            "restored from {} (state of {since}); {}; what was there before lies in {}",
            view.from,
            view.lost,
            view.set_aside.as_deref().unwrap_or("no file")
        );
        let detail = json!({
            "cause": view.cause, "from": view.from, "from_iso": view.from_iso, "from_seq": view.from_seq,
            "kept_seq": view.kept_seq, "first_lost_seq": view.first_lost_seq, "last_lost_seq": view.last_lost_seq,
            "lost": view.lost, "set_aside": view.set_aside,
        });
        let entry = draft(None, operation::STORE_RESTORED, caller, &new_action_id(), detail);
        (serde_json::to_string(&view).unwrap_or_default(), entry)
    }
}
