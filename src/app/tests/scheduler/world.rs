//! One world of the simulated scheduler, from its first start to its last.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;

use super::super::chance::Chance;
use super::super::sim::disk::{Disk, Manner};
use super::super::*;
use super::model::Model;
use super::script::Script;
use super::take::Take;
use crate::adapters::connectors::Secret;
use crate::adapters::secrets::ConnectorDefaults;
use crate::adapters::store::memory::{Fates as _, MemoryStore, Platter, wait};
use crate::app::blocking::simulated::{self, Time};
use crate::core::fair::{Limits, PerConnector};
use crate::core::model::ScheduleId;

pub(super) const NAMES: [&str; 4] = ["noop/a", "acculynx/b", "acculynx/c", "exec/b"];

pub(super) struct World {
    pub chance: Arc<Chance>,
    pub clock: Clock,
    time: Arc<Time>,
    pub disk: Arc<Disk>,
    platter: Arc<Platter>,
    pub model: Arc<Mutex<Model>>,
    /// How many schedules it has.
    pub count: usize,
    settings: Settings,
    metrics: Arc<Metrics>,
    pub next: AtomicU64,
    pub reconciler: tokio::sync::Mutex<()>,
    pub canceller: tokio::sync::Mutex<()>,
    aloud: bool,
    story: Mutex<Vec<String>>,
}

thread_local!(static METRICS: Arc<Metrics> = Arc::new(Metrics::new(10).unwrap()));

impl World {
    pub fn new(seed: u64, aloud: bool) -> Arc<World> {
        let time = Arc::new(Time::default());
        simulated::turn_on_with(time.clone());
        let chance = Arc::new(Chance::new(seed));
        let clock = Clock::manual(START);
        let calm = Settings::default();
        let settings = Settings {
            limits: limits(&chance),
            run_timeout: *chance.pick(&[None, Some(Duration::from_secs(120))]),
            acculynx: ConnectorDefaults { api_key: Some(Secret("key".to_owned())), ..calm.acculynx.clone() },
            ..calm
        };
        let timeout_ms = settings.run_timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap());
        let model = Arc::new(Mutex::new(Model::new(clock.clone(), settings.limits.clone(), timeout_ms)));
        let platter = Arc::new(Platter::default());
        let watching = model.clone();
        platter.let_watch(move |tables| watching.lock().unwrap().watch(tables));
        let world = World {
            count: 1 + usize::try_from(chance.below(NAMES.len() as u64)).unwrap(),
            disk: Arc::new(Disk::new(Arc::new(Chance::calm()), clock.clone())),
            chance,
            clock,
            time,
            platter,
            model,
            settings,
            metrics: METRICS.with(Arc::clone),
            next: AtomicU64::new(0),
            reconciler: tokio::sync::Mutex::default(),
            canceller: tokio::sync::Mutex::default(),
            aloud,
            story: Mutex::default(),
        };
        for name in &NAMES[..world.count] {
            let id: ScheduleId = name.parse().unwrap();
            let text = world.document(&id);
            world.tell(|| format!("{name}: {text:?}"));
            world.disk.edit(&id, Some(text.into_bytes()), Manner::ByRename);
        }
        if world.chance.is(30) {
            world.edit_window();
        }
        Arc::new(world)
    }

    pub fn tell(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>9} {}", self.clock.now() - START, line());
        if self.aloud {
            println!("{line}");
        }
        self.story.lock().unwrap().push(line);
    }

    pub fn told(&self) -> Vec<String> {
        self.story.lock().unwrap().clone()
    }

    /// Some lives, each ended by a kill, and then calm. Returns how many writes there were.
    pub fn play(self: &Arc<Self>) -> Result<u64, String> {
        for _ in 0..=self.chance.below(3) {
            self.chance.kill_after(if self.chance.is(70) { self.chance.below(90) } else { u64::MAX });
            self.live(2 + self.chance.below(9))?;
            self.die();
        }
        self.settle()
    }

    /// One life without faults of the store, ended at a given write, and then calm.
    pub fn play_killed_after(self: &Arc<Self>, writes: u64) -> Result<u64, String> {
        self.chance.be_calm();
        self.chance.kill_after(writes);
        self.live(6)?;
        let writes = self.chance.writes();
        self.die();
        self.settle()?;
        Ok(writes)
    }

    fn open(&self) -> (Arc<App>, Arc<Script>) {
        let store = Arc::new(MemoryStore::open(self.platter.clone(), self.chance.clone()));
        self.model.lock().unwrap().wakes_up();
        let script = Arc::new(Script::new(self.chance.clone(), self.model.clone()));
        let connectors =
            Connectors { acculynx: script.clone(), exec: script.clone(), http: script.clone(), noop: script.clone() };
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        let app = App::over(disk, self.settings.clone(), clock, store, connectors, self.metrics.clone());
        (app, script)
    }

    fn live(self: &Arc<Self>, rounds: u64) -> Result<(), String> {
        run(async {
            let (app, _) = self.open();
            let life = async {
                if let Err(error) = app.bring_up().await {
                    return self.tell(|| format!("does not start: {error}"));
                }
                self.tell(|| "started".to_owned());
                for _ in 0..rounds {
                    for _ in 0..self.chance.below(4) {
                        self.let_act(&app);
                    }
                    self.dispatch(&app);
                    wait(u32::try_from(self.chance.below(30)).unwrap()).await;
                    self.dispatch(&app);
                    if self.chance.is(70) {
                        wait(100).await;
                        self.dispatch(&app);
                        wait(200).await;
                        // What was changed between its taking and its claim is taken anew a moment later.
                        self.go_on(250, 250);
                        wait(20).await;
                        self.dispatch(&app);
                        wait(200).await;
                        self.model.lock().unwrap().at_rest(self.chance.was_faultless());
                    }
                    self.move_clock();
                    self.obey(&app);
                }
            };
            let death = async {
                while !self.chance.is_dead() {
                    wait(1).await;
                }
            };
            tokio::select! { biased; () = death => {}, () = life => {} }
        });
        self.verdict()
    }

    /// A pass that somebody wants is made, as the reconciler's loop does it.
    fn obey(self: &Arc<Self>, app: &Arc<App>) {
        if app.pass_wanted.notified().now_or_never().is_some() {
            self.tell(|| "a pass is wanted".to_owned());
            let (world, app) = (self.clone(), app.clone());
            tokio::spawn(async move {
                let _one = world.reconciler.lock().await;
                drop(app.full_pass(None).await);
            });
        }
    }

    fn verdict(&self) -> Result<(), String> {
        let model = self.model.lock().unwrap();
        if model.found.is_empty() {
            return Ok(());
        }
        if self.aloud {
            self.platter.look(|tables| tables.runs.iter().for_each(|(number, run)| println!("{number}: {run:?}")));
        }
        Err(model.found.iter().take(3).cloned().collect::<Vec<_>>().join("\n  "))
    }

    fn die(&self) {
        let waiting = self.platter.waiting() as u64;
        let kept = self.chance.below(waiting + 1);
        self.tell(|| format!("is killed; {kept} of {waiting} writes make it"));
        self.platter.crash(usize::try_from(kept).unwrap());
        self.chance.set_dead(false);
        self.chance.kill_after(u64::MAX);
        self.go_on(*self.chance.pick(&[0, 500, 30_000, 3_600_000, 20_000_000]), 0);
    }

    /// Time goes on, or the clock leaps, or is set back.
    fn move_clock(&self) {
        let chance = &self.chance;
        match chance.below(20) {
            0..=14 => {
                let ms = *chance.pick(&[10, 1000, 5000, 20_000, 61_000, 61_000, 300_000]) + chance.below(1000);
                self.go_on(i64::try_from(ms).unwrap(), ms);
            }
            15 | 16 => self.go_on(*chance.pick(&[3_600_000, 7_200_000, 25_000_000]), 1000),
            _ => self.go_on(-*chance.pick(&[800, 4000, 90_000, 3_600_000, 26_000_000]), 1000),
        }
    }

    fn go_on(&self, delta: Millis, ms: u64) {
        self.clock.advance(delta);
        self.tell(|| format!("the clock moves by {delta}"));
        // Whoever waits wakes by the new clock.
        self.model.lock().unwrap().moved(ms);
        self.time.pass(ms);
    }

    /// As the dispatcher's thread does, but for its sleep.
    fn dispatch(self: &Arc<Self>, app: &Arc<App>) {
        let now = self.clock.now();
        let mut fleet = app.fleet();
        let glances: Vec<_> = fleet.iter().collect();
        for glance in glances {
            let Some(due) = glance.next_due.filter(|due| *due <= now && !glance.paused) else { continue };
            let (Some(id), Some(Ok(rhythm))) = (fleet.id(glance.slot), fleet.rhythm(glance.slot)) else { continue };
            let Some(policy) = fleet.policy(glance.slot) else { continue };
            let take = Take { is_braked: app.is_braked(&id), ..Take::of(&id, &rhythm, &policy, due, now) };
            self.model.lock().unwrap().taken(take);
        }
        let batch = app.due_now(fleet);
        if !batch.is_empty() {
            self.tell(|| "something is due".to_owned());
            let app = app.clone();
            tokio::spawn(async move { app.dispatch(batch).await });
        }
    }

    /// Calm: what was begun comes to its end, what is due runs.
    fn settle(self: &Arc<Self>) -> Result<u64, String> {
        self.chance.be_calm();
        for start in 0..2 {
            let end = run(async {
                let (app, script) = self.open();
                script.be_calm();
                app.bring_up().await.map_err(|error| format!("does not start in peace: {error}"))?;
                self.come_to_rest(&app).await
            });
            self.verdict()?;
            end.map_err(|found| format!("after start {start} in peace: {found}"))?;
            self.platter.crash(0);
        }
        if self.aloud {
            self.platter.look(|tables| tables.runs.iter().for_each(|(number, run)| println!("{number}: {run:?}")));
        }
        let forgotten = self.model.lock().unwrap().forgotten();
        if !forgotten.is_empty() && self.chance.was_faultless() {
            return Err(format!("{forgotten:?} were cut off and never tried again"));
        }
        Ok(self.chance.writes())
    }

    async fn come_to_rest(self: &Arc<Self>, app: &Arc<App>) -> Result<(), String> {
        let caller = Caller { source: Origin::Cli, actor: "zoe".into() };
        for brake in app.brakes().await.map_err(|error| error.to_string())? {
            let scope = brake.scope.parse::<ScheduleId>().ok();
            app.release_brake(scope, &caller).await.map_err(|error| error.to_string())?;
        }
        self.disk.write_windows(BTreeMap::new());
        for _ in 0..2 {
            app.full_pass(None).await.map_err(|error| error.to_string())?;
            self.go_on(3000, 3000);
        }
        for round in 0..6 {
            self.dispatch(app);
            self.all_done(app).await;
            self.model.lock().unwrap().at_rest(self.chance.was_faultless());
            // First what waits for another attempt, then what is due next.
            let retry = self.platter.look(|tables| tables.runs.values().filter_map(|run| run.retry_at).max());
            let due = app.fleet().iter().filter_map(|glance| glance.next_due).min();
            let now = self.clock.now();
            let far = retry.filter(|at| round < 3 && *at > now).or(due).unwrap_or(now + 1000);
            self.go_on((far - now).clamp(1, 200_000_000), 1000);
        }
        self.dispatch(app);
        self.all_done(app).await;
        self.check_rest(app).await
    }

    async fn all_done(&self, app: &Arc<App>) {
        for _ in 0..3 {
            wait(60).await;
            for _ in 0..3000 {
                let (_, waiting) = app.runs.count();
                if waiting == 0 && self.model.lock().unwrap().nothing_flies() {
                    break;
                }
                wait(1).await;
            }
        }
    }

    async fn check_rest(&self, app: &Arc<App>) -> Result<(), String> {
        self.check_runs_and_timers(app)?;
        let verdict = app.verify_audit(Vec::new()).await.map_err(|error| error.to_string())?;
        if verdict.valid { Ok(()) } else { Err(verdict.message) }
    }

    fn check_runs_and_timers(&self, app: &Arc<App>) -> Result<(), String> {
        let now = self.clock.now();
        let model = self.model.lock().unwrap();
        if !model.open.is_empty() {
            let open = self.platter.look(|tables| {
                let open = tables.runs.iter().filter(|(_, run)| run.ended.is_none());
                open.map(|(number, run)| format!("{number}: {run:?}")).collect::<Vec<_>>()
            });
            return Err(format!("at {now} these never end: {open:#?}"));
        }
        for (id, known) in model.schedules() {
            let glance = app.fleet().get(id.connector, id.tenant.as_str());
            let shown = glance.map(|glance| (glance.next_due, glance.paused));
            if shown != Some((known.due, known.is_asleep)) && (known.due.is_some() || shown.is_none()) {
                return Err(format!("memory has {id} at {shown:?}, the store at {:?}", known.due));
            }
            let next = known.rhythm.next_after(now);
            if !known.is_asleep && known.due != next {
                return Err(format!("at {now} {id} is due at {:?}, its next slot is {next:?}", known.due));
            }
        }
        Ok(())
    }
}

fn limits(chance: &Chance) -> Limits {
    Limits {
        global: *chance.pick(&[1, 2, 64]),
        per_connector: PerConnector { each: *chance.pick(&[None, None, Some(1)]), ..PerConnector::default() },
        per_tenant: *chance.pick(&[None, Some(1), Some(2)]),
        per_credential: *chance.pick(&[None, Some(1), Some(2)]),
        ..Limits::default()
    }
}

fn run<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(life)
}
