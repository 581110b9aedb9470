//! Watches the desired directory and names what may have changed. Events are hints: whatever is not
//! plainly one schedule's file means "look at everything". Only this file knows `notify`.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, Metadata};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, DataChange, EventKind, MetadataKind, ModifyKind};
use notify::{Config, Event, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher};

use super::list::{Name, ignored, sort};
use super::{FileStat, SCHEDULES, SourceError};
use crate::core::model::{Connector, ScheduleId};

/// What may have changed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Hint {
    Schedule(ScheduleId),
    /// Anything: list the directory afresh.
    Everything,
}

/// How changes are noticed at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchMode {
    /// The operating system tells.
    Events,
    /// By looking again and again: asked for, or because the system has no watches left.
    Polling,
}

/// How often to look when the system cannot tell, unless a period is asked for.
const FALLBACK_POLL: Duration = Duration::from_secs(5);

/// How often to check that what is watched is still what lies under the root's path.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct WatchGuard {
    stop: Sender<Message>,
    polling: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
}

impl WatchGuard {
    pub fn mode(&self) -> WatchMode {
        if self.polling.load(Ordering::Relaxed) { WatchMode::Polling } else { WatchMode::Events }
    }

    /// How often its thread has come round, which it does each few seconds or once a period of polling.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Whether its thread still lives, which holds the other half.
    pub fn is_watching(&self) -> bool {
        Arc::strong_count(&self.polling) > 1
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        // Not joined: the guard may be dropped from within `on_hint`.
        let _ = self.stop.send(Message::Stop);
    }
}

/// How long events are gathered before they are looked at.
const GATHER: Duration = Duration::from_millis(5);

enum Message {
    Event(notify::Result<Event>),
    Stop,
}

/// Calls `on_hint`, from a thread of its own, for whatever may have changed below `root` from now on.
/// The root may be missing, come, go and be replaced. With `poll`, or where the system has no watches
/// left, the tree's stats are compared that often instead. Hints are not debounced, and own writes
/// cause them too.
pub fn watch(
    root: &Path,
    poll: Option<Duration>,
    on_hint: impl Fn(Hint) + Send + 'static,
) -> Result<WatchGuard, SourceError> {
    let fail = |message: String| SourceError::Watch { path: root.to_owned(), message };
    let root_absolute = std::path::absolute(root).map_err(|e| fail(e.to_string()))?;
    let (sender, receiver) = channel();
    let polling = Arc::new(AtomicBool::new(poll.is_some()));
    let rounds = Arc::<AtomicU64>::default();
    let mut watching = Watching {
        root: root_absolute,
        real_root: None,
        poll,
        polling: Arc::clone(&polling),
        rounds: Arc::clone(&rounds),
        events: sender.clone(),
        receiver,
        watcher: None,
        armed: Vec::new(),
        print: 0,
        on_hint: Box::new(on_hint),
    };
    // Armed before this returns: what the caller changes next is seen.
    if poll.is_some() {
        watching.print = print_of(&watching.root);
    } else {
        watching.arm();
    }
    thread::Builder::new()
        .name("desired-watch".to_owned())
        .spawn(move || watching.run())
        .map_err(|e| fail(format!("no thread for it: {e}")))?;
    Ok(WatchGuard { stop: sender, polling, rounds })
}

struct Watching {
    root: PathBuf,
    /// The root without links: some systems report events under it.
    real_root: Option<PathBuf>,
    poll: Option<Duration>,
    polling: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    events: Sender<Message>,
    receiver: Receiver<Message>,
    watcher: Option<RecommendedWatcher>,
    /// The watched folders, each with what tells it from another of the same name.
    armed: Vec<(PathBuf, Option<Identity>)>,
    /// When polling: what the tree looked like last.
    print: u64,
    on_hint: Box<dyn Fn(Hint) + Send>,
}

/// What one event comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Meaning {
    Nothing,
    Schedule(ScheduleId),
    /// Anything may have changed, the folders to watch among it.
    Doubt,
}

impl Watching {
    fn run(mut self) {
        loop {
            self.rounds.fetch_add(1, Ordering::Relaxed);
            let polling = self.polling.load(Ordering::Relaxed);
            let period = if polling { self.poll.unwrap_or(FALLBACK_POLL) } else { CHECK_EVERY };
            let first = match self.receiver.recv_timeout(period) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) if polling => {
                    self.compare();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.check();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // One save is several events, and a program that edits all the time brings thousands a second:
            // a moment's rest lets them pile up, and one look at everything covers all of them.
            if !matches!(first, Message::Stop) {
                thread::sleep(GATHER);
            }
            let mut schedules = BTreeSet::new();
            let mut doubt = false;
            for message in std::iter::once(first).chain(self.receiver.try_iter()) {
                match message {
                    Message::Stop => return,
                    Message::Event(event) => match meaning_of(event, &self.root, self.real_root.as_deref()) {
                        Meaning::Nothing => {}
                        Meaning::Schedule(id) => drop(schedules.insert(id)),
                        Meaning::Doubt => doubt = true,
                    },
                }
            }
            if doubt {
                // Armed first, so that what comes after the look is told.
                self.arm();
                (self.on_hint)(Hint::Everything);
            } else {
                schedules.into_iter().for_each(|id| (self.on_hint)(Hint::Schedule(id)));
            }
        }
    }

    /// Starts afresh with a watch on every folder there is now; without watches to be had, polls.
    fn arm(&mut self) {
        if self.polling.load(Ordering::Relaxed) {
            return;
        }
        self.watcher = None;
        self.armed.clear();
        if let Err(error) = self.try_arm() {
            tracing::warn!(
                root = %self.root.display(), %error,
                "cannot watch the desired directory; it is compared every {} s instead", FALLBACK_POLL.as_secs()
            );
            self.watcher = None;
            self.print = print_of(&self.root);
            self.polling.store(true, Ordering::Relaxed);
        }
    }

    /// Watches are set one folder at a time, each before its entries are read: a folder made meanwhile
    /// is either read or told. Folders below a connector's are not schedules' and not watched.
    fn try_arm(&mut self) -> notify::Result<()> {
        let events = self.events.clone();
        let tell = move |event: notify::Result<Event>| {
            // Most of what is told is of no interest; it need not wake anyone.
            if !event.as_ref().is_ok_and(|event| is_noise(event.kind) && !event.need_rescan()) {
                drop(events.send(Message::Event(event)));
            }
        };
        let mut watcher = RecommendedWatcher::new(tell, Config::default().with_event_kinds(telling()))?;
        self.real_root = fs::canonicalize(&self.root).ok();
        if let Some(parent) = self.root.parent().map(Path::to_owned) {
            self.add(&mut watcher, &parent)?;
        }
        let mut level = vec![self.root.clone()];
        for depth in 0..3 {
            let mut next = Vec::new();
            for folder in level {
                if self.add(&mut watcher, &folder)? && depth < 2 {
                    next.extend(folders_in(&folder));
                }
            }
            level = next;
        }
        self.watcher = Some(watcher);
        Ok(())
    }

    /// Watches one folder. One that is missing or unreadable is remembered as such and no failure.
    fn add(&mut self, watcher: &mut RecommendedWatcher, folder: &Path) -> notify::Result<bool> {
        let identity = Identity::of(folder);
        let watched = match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) if is_exhausted(&error) => return Err(error),
            Err(_) => false,
        };
        self.armed.push((folder.to_owned(), identity.filter(|_| watched)));
        Ok(watched)
    }

    /// Some replacements go untold (a mount over the root, a parent that came late): looks for them.
    fn check(&mut self) {
        let replaced = self.armed.iter().any(|(folder, identity)| {
            let now = Identity::of(folder);
            // One that could not be watched is tried again only once it is there.
            now != *identity && (identity.is_some() || fs::read_dir(folder).is_ok())
        });
        if replaced {
            self.arm();
            (self.on_hint)(Hint::Everything);
        }
    }

    fn compare(&mut self) {
        let now = print_of(&self.root);
        if std::mem::replace(&mut self.print, now) != now {
            (self.on_hint)(Hint::Everything);
        }
    }
}

/// The folders in `folder` that may hold desired state, linked ones too.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let folders = shown.filter(|entry| match entry.file_type() {
        Ok(kind) if kind.is_symlink() => fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir()),
        kind => kind.is_ok_and(|kind| kind.is_dir()),
    });
    folders.map(|entry| entry.path()).collect()
}

/// Whether the system has no watches, or no handles for them, left.
fn is_exhausted(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(e) => {
            use std::io::ErrorKind::{OutOfMemory, StorageFull, Unsupported};
            // EMFILE and ENFILE have no kind of their own.
            matches!(e.kind(), StorageFull | OutOfMemory | Unsupported) || matches!(e.raw_os_error(), Some(23 | 24))
        }
        _ => false,
    }
}

/// Tells a folder from another under the same path. The inode alone would not do: it is reused at once.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    inode: u64,
    created: Option<SystemTime>,
}

impl Identity {
    fn of(folder: &Path) -> Option<Self> {
        let meta: Metadata = fs::metadata(folder).ok().filter(Metadata::is_dir)?;
        Some(Identity { inode: FileStat::of(&meta).inode, created: meta.created().ok() })
    }
}

/// What an event says about the desired directory.
fn meaning_of(event: notify::Result<Event>, root: &Path, real_root: Option<&Path>) -> Meaning {
    let Ok(event) = event else { return Meaning::Doubt };
    if event.need_rescan() {
        return Meaning::Doubt;
    }
    if is_noise(event.kind) {
        return Meaning::Nothing;
    }
    if event.paths.is_empty() {
        return Meaning::Doubt;
    }
    let mut meaning = Meaning::Nothing;
    for path in &event.paths {
        match (meaning_of_path(event.kind, path, root, real_root), &meaning) {
            (Meaning::Nothing, _) => {}
            (Meaning::Schedule(id), Meaning::Nothing) => meaning = Meaning::Schedule(id),
            (Meaning::Schedule(id), Meaning::Schedule(other)) if id == *other => {}
            // Two schedules in one event: rare enough to look at everything.
            _ => return Meaning::Doubt,
        }
    }
    meaning
}

/// What the system is asked to tell. On Linux not what is written before the file is closed, nor that
/// it was opened, by this program above all.
fn telling() -> EventKindMask {
    let all = EventKindMask::CORE | EventKindMask::ACCESS_CLOSE;
    if cfg!(any(target_os = "linux", target_os = "android")) { all.difference(EventKindMask::MODIFY_DATA) } else { all }
}

/// Events that change nothing, or whose consequence is told again when the writer closes the file.
fn is_noise(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime)) => true,
        // inotify follows with Close(Write); until then the file is half written.
        EventKind::Modify(ModifyKind::Data(DataChange::Any)) => cfg!(any(target_os = "linux", target_os = "android")),
        _ => false,
    }
}

fn meaning_of_path(kind: EventKind, path: &Path, root: &Path, real_root: Option<&Path>) -> Meaning {
    let below = path.strip_prefix(root).ok().or_else(|| path.strip_prefix(real_root?).ok());
    let Some(below) = below else {
        // The root's parent is watched for the root's sake only.
        let is_neighbour = root.parent().is_some_and(|parent| path.starts_with(parent));
        let holds_root = root.starts_with(path);
        return if is_neighbour && !holds_root { Meaning::Nothing } else { Meaning::Doubt };
    };
    let names: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    // A ConfigMap's `..data` stands for all that is linked through it; `.git` and the like for nothing.
    if let Some(hidden) = names.iter().find(|name| name.starts_with('.')) {
        return if hidden.starts_with("..") { Meaning::Doubt } else { Meaning::Nothing };
    }
    // Windows tells a folder's modification with every change in it, which is told for itself.
    if cfg!(windows) && names.len() < 3 && matches!(kind, EventKind::Modify(ModifyKind::Any)) {
        return Meaning::Nothing;
    }
    match names.as_slice() {
        [SCHEDULES, connector, file] => match (connector.parse::<Connector>(), sort(file)) {
            (_, Name::Ignored) => Meaning::Nothing,
            // Defaults concern every schedule beside them.
            (_, Name::Defaults) => Meaning::Doubt,
            (Ok(connector), Name::Schedule(tenant)) => match tenant.parse() {
                Ok(tenant) => Meaning::Schedule(ScheduleId::new(connector, tenant)),
                Err(_) => Meaning::Doubt,
            },
            _ => Meaning::Doubt,
        },
        [.., last] if ignored(last) => Meaning::Nothing,
        _ => Meaning::Doubt,
    }
}

/// A digest of every name and stat in the tree that a watch would cover, for polling.
fn print_of(root: &Path) -> u64 {
    let mut sum = 0;
    print_folder(root, 3, &mut sum);
    sum
}

fn print_folder(folder: &Path, depth: usize, sum: &mut u64) {
    // Summed, since the order of entries is not fixed.
    let add = |sum: &mut u64, value: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        folder.hash(&mut hasher);
        value(&mut hasher);
        *sum = sum.wrapping_add(hasher.finish());
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => return add(sum, &|hasher| e.kind().hash(hasher)),
    };
    let mut folders = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if ignored(&name.to_string_lossy()) {
            continue;
        }
        let meta = match entry.metadata() {
            Ok(meta) if meta.is_symlink() => fs::metadata(entry.path()),
            other => other,
        };
        match meta {
            Ok(meta) if meta.is_dir() => folders.push(entry.path()),
            Ok(meta) => {
                let stat = FileStat::of(&meta);
                add(sum, &|hasher| (&name, stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode).hash(hasher));
            }
            Err(e) => add(sum, &|hasher| (&name, e.kind()).hash(hasher)),
        }
    }
    for path in folders {
        add(sum, &|hasher| path.hash(hasher));
        if depth > 1 {
            print_folder(&path, depth - 1, sum);
        }
    }
}

#[cfg(test)]
mod tests;
