//! One world: its disk and store outlive the program, which is killed, started again and at last
//! left in peace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use super::super::chance::Chance;
use super::super::*;
use super::check;
use super::disk::Disk;
use crate::adapters::connectors::{Connect, ErrorClass, ImportContext, ImportFailure, ImportOutcome};
use crate::adapters::source::Files;
use crate::adapters::store::memory::{Fates as _, MemoryStore, Platter, wait};
use crate::core::model::{ImportStats, ScheduleId};
use crate::core::plan::GuardPolicy;

pub(super) const NAMES: [&str; 6] = ["noop/a", "noop/b", "noop/c", "noop/d", "noop/e", "acculynx/f"];

/// What a mutation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered: the file's digest after it, the entries it named.
    Done {
        etag: Option<String>,
        seqs: Vec<i64>,
    },
    Refused,
    /// The program was killed before it answered, or the store left it open.
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Told {
    pub id: ScheduleId,
    /// The mark it leaves in the file.
    pub mark: String,
    /// How often others had touched the file when it began.
    pub touched: u64,
    pub outcome: Outcome,
}

pub(super) struct World {
    pub chance: Arc<Chance>,
    pub clock: Clock,
    pub disk: Arc<Disk>,
    pub platter: Arc<Platter>,
    guard: GuardPolicy,
    metrics: Arc<Metrics>,
    aloud: bool,
    story: Mutex<Vec<String>>,
    /// In the order in which they ended.
    pub mutations: Mutex<Vec<Told>>,
    /// Begun, and not yet ended.
    pub open: Mutex<BTreeMap<u64, Told>>,
    pub next_mark: AtomicU64,
    /// Actions on many that were answered.
    pub actions: Mutex<Vec<String>>,
    /// Versions that files had, for who puts one back.
    pub past: Mutex<BTreeMap<ScheduleId, Vec<Vec<u8>>>>,
    /// Names that a hint waits for.
    pub hints: Mutex<Vec<ScheduleId>>,
    /// Schedules whose rows somebody had a hand in.
    pub handled: Mutex<BTreeSet<ScheduleId>>,
    pub reconciler: tokio::sync::Mutex<()>,
    pub janitor: tokio::sync::Mutex<()>,
}

thread_local!(static METRICS: Arc<Metrics> = Arc::new(Metrics::new(10).unwrap()));

impl World {
    pub fn new(seed: u64, aloud: bool) -> World {
        let chance = Arc::new(Chance::new(seed));
        let clock = Clock::manual(START);
        let guard = *chance.pick(&[
            GuardPolicy::default(),
            GuardPolicy { max_percent: 30, min_fleet: 3 },
            GuardPolicy { max_percent: 60, min_fleet: 2 },
        ]);
        World {
            disk: Arc::new(Disk::new(chance.clone(), clock.clone())),
            platter: Arc::default(),
            metrics: METRICS.with(Arc::clone),
            chance,
            clock,
            guard,
            aloud,
            story: Mutex::default(),
            mutations: Mutex::default(),
            open: Mutex::default(),
            next_mark: AtomicU64::new(0),
            actions: Mutex::default(),
            past: Mutex::default(),
            hints: Mutex::default(),
            handled: Mutex::default(),
            reconciler: tokio::sync::Mutex::default(),
            janitor: tokio::sync::Mutex::default(),
        }
    }

    pub fn tell(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", self.clock.now() - START, line());
        if self.aloud {
            println!("{line}");
        }
        self.story.lock().unwrap().push(line);
    }

    pub fn told(&self) -> Vec<String> {
        self.story.lock().unwrap().clone()
    }

    pub fn play(&self) -> Result<(), String> {
        for _ in 0..=self.chance.below(3) {
            for _ in 0..self.chance.below(4) {
                self.edit_something();
            }
            if self.chance.is(30) {
                self.lay_hand_on_rows();
            }
            self.live();
            self.die();
        }
        self.chance.be_calm();
        self.disk.set_away(false);
        self.settle()
    }

    pub fn app_over(&self, disk: Arc<dyn Files>, platter: &Arc<Platter>, importer: Arc<Importer>) -> Arc<App> {
        let settings = Settings { guard: self.guard, ..Settings::default() };
        let store = Arc::new(MemoryStore::open(platter.clone(), self.chance.clone()));
        let connectors = Connectors::all(importer);
        App::over(disk, settings, self.clock.clone(), store, connectors, self.metrics.clone())
    }

    /// The program from its start until it is killed, or has done its rounds.
    fn live(&self) {
        let turns = if self.chance.is(70) { self.chance.below(400) } else { u64::MAX };
        let rounds = 1 + self.chance.below(8);
        run(async {
            let importer = Arc::new(Importer::new(self.chance.clone()));
            let app = self.app_over(self.disk.clone(), &self.platter, importer);
            let life = async {
                if let Err(error) = app.bring_up().await {
                    return self.tell(|| format!("does not start: {error}"));
                }
                self.tell(|| "started".to_owned());
                for _ in 0..rounds {
                    self.round(&app).await;
                }
            };
            let death = async {
                for _ in 0..turns {
                    if self.chance.is_dead() {
                        break;
                    }
                    wait(1).await;
                }
            };
            tokio::select! { biased; () = death => {}, () = life => {} }
        });
    }

    /// What was under way is lost, or just made it.
    fn die(&self) {
        let power = self.chance.is(40);
        self.tell(|| if power { "loses power".to_owned() } else { "is killed".to_owned() });
        let keep = self.chance.below(self.platter.waiting() as u64 + 1);
        self.platter.crash(usize::try_from(keep).unwrap());
        if power {
            let changed = self.disk.lose_power();
            self.tell(|| format!("files are {changed:?}"));
        }
        self.disk.forget_dropped();
        self.chance.set_dead(false);
        self.mutations.lock().unwrap().extend(std::mem::take(&mut *self.open.lock().unwrap()).into_values());
        self.clock.advance(*self.chance.pick(&[0, 10, 3000, 70_000]));
    }

    /// Calm: passes until nothing changes any more, then the end is looked at, and once more after
    /// a start in peace.
    fn settle(&self) -> Result<(), String> {
        for start in 0..2 {
            run(async {
                let importer = Arc::new(Importer::new(self.chance.clone()));
                let app = self.app_over(self.disk.clone(), &self.platter, importer.clone());
                app.bring_up().await.map_err(|error| format!("does not start in peace: {error}"))?;
                self.come_to_rest(&app).await?;
                check::the_end(self, &app).await.map_err(|found| format!("after start {start} in peace: {found}"))?;
                let ran_twice = importer.overlaps.load(Ordering::SeqCst);
                if ran_twice > 0 { Err("two runs of one schedule at a time".to_owned()) } else { Ok(()) }
            })?;
            self.platter.crash(0);
        }
        check::promises(self)
    }

    async fn come_to_rest(&self, app: &Arc<App>) -> Result<(), String> {
        let caller = Caller { source: Origin::Cli, actor: "zoe".into() };
        let mut last = String::new();
        for round in 0..12 {
            self.dispatch_all(app).await;
            let report = app.full_pass(None).await.map_err(|error| format!("a pass in peace: {error}"))?;
            last = format!(
                "{} changes, {} repairs, {} held, waiting {:?}",
                report.changes, report.repaired, report.held, report.waiting
            );
            self.tell(|| last.clone());
            let quiet = report.changes + report.repaired + report.held == 0 && report.waiting.is_none();
            app.sync_files().await;
            if quiet && round > 1 {
                return Ok(());
            }
            if report.held > 0 && !app.awaits_second_scan() {
                let held = app.apply(None, &caller).await.map_err(|error| error.to_string())?;
                app.apply(held.held_digest, &caller).await.map_err(|error| error.to_string())?;
            }
            self.clock.advance(2100);
        }
        Err(format!("does not come to rest: {last}"))
    }

    /// Takes whatever is due, and lets the runs end.
    pub async fn dispatch_all(&self, app: &Arc<App>) {
        self.dispatch(app).await;
        while app.runs.count() != (0, 0) {
            wait(1).await;
        }
    }

    /// As the dispatcher's thread does, where it would not have to wait.
    pub async fn dispatch(&self, app: &Arc<App>) {
        let due = |app: &App| app.fleet().next_due().is_some_and(|due| due <= self.clock.now());
        for _ in 0..4 {
            if !due(app) {
                return;
            }
            let batch = app.wait_for_due();
            app.dispatch(batch).await;
        }
    }
}

fn run<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(life)
}

/// Takes a while, fails at times, and notices when it is asked for one schedule twice at a time.
pub(super) struct Importer {
    chance: Arc<Chance>,
    flying: Mutex<BTreeSet<ScheduleId>>,
    pub overlaps: AtomicU64,
}

impl Importer {
    pub fn new(chance: Arc<Chance>) -> Importer {
        Importer { chance, flying: Mutex::default(), overlaps: AtomicU64::new(0) }
    }
}

impl Connect for Importer {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        Box::pin(async move {
            if !self.flying.lock().unwrap().insert(context.id.clone()) {
                self.overlaps.fetch_add(1, Ordering::SeqCst);
            }
            wait(u32::try_from(self.chance.below(30)).unwrap()).await;
            self.flying.lock().unwrap().remove(&context.id);
            let failure = || ImportFailure::new(ErrorClass::Unavailable, "simulated");
            ImportOutcome { stats: ImportStats::default(), error: self.chance.fails().then(failure), log: None }
        })
    }
}
