//! Starts every loop and keeps each going: one that panics, ends or stands still is started anew and
//! takes nothing else down. What to do is decided in `core::watch`; the watchdog has it looked at.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::app::views::{LoopHealth, LoopState};
use crate::app::{App, Beats, Pulse};
use crate::core::model::Millis;
use crate::core::timing::{iso, seconds};
use crate::core::watch::{Finding, Had, Need, Rules, Said, Verdict, Watch, shown};

/// How a loop's body ends: well when it was told to, or with what kept it from going on.
pub type Ended = anyhow::Result<()>;

/// Keeps the loops of one program.
pub struct Supervisor {
    app: Arc<App>,
    runtime: Handle,
    loops: Mutex<Vec<Supervised>>,
    eyes: Mutex<Eyes>,
}

/// What the watchdog remembers from look to look.
#[derive(Default)]
struct Eyes {
    had: Had,
    watch: Watch,
}

/// One loop, whatever its incarnation.
struct Supervised {
    name: &'static str,
    need: Need,
    start: Start,
    now: Incarnation,
    /// What ended the one before, or how it stood still.
    last_error: Option<String>,
    /// It was told of as standing still, and is not again until it moves.
    is_named: bool,
}

/// Makes a body, once for every incarnation.
enum Start {
    Task(Box<dyn Fn(Pulse) -> BoxFuture<'static, Ended> + Send + Sync>),
    Thread(Arc<dyn Fn(Pulse) -> Ended + Send + Sync>),
}

/// One start of a loop.
struct Incarnation {
    beats: Arc<Beats>,
    /// Ends this one, and no other.
    stop: CancellationToken,
    /// Why it ended; empty when it came to its end in peace.
    ended: Arc<OnceLock<Option<String>>>,
    body: Body,
}

enum Body {
    Task(AbortHandle),
    Thread(Option<JoinHandle<()>>),
}

impl Supervisor {
    pub fn new(app: Arc<App>, runtime: Handle) -> Supervisor {
        Supervisor { app, runtime, loops: Mutex::default(), eyes: Mutex::default() }
    }

    /// Starts a loop that is a task. `body` is called anew for each start; it ends when its pulse says so.
    pub fn start<F>(&self, name: &'static str, need: Need, body: impl Fn(Pulse) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.add(name, need, Start::Task(Box::new(move |pulse| body(pulse).boxed())));
    }

    /// As `start`, of a loop with a thread of its own. Nobody can end a thread that stands still: another
    /// takes its place, and it steps down when it comes round.
    pub fn start_thread(&self, name: &'static str, need: Need, body: impl Fn(Pulse) -> Ended + Send + Sync + 'static) {
        self.add(name, need, Start::Thread(Arc::new(body)));
    }

    fn add(&self, name: &'static str, need: Need, start: Start) {
        let now = self.incarnate(name, &start);
        self.lock().push(Supervised { name, need, start, now, last_error: None, is_named: false });
    }

    fn incarnate(&self, name: &'static str, start: &Start) -> Incarnation {
        let (beats, stop) = (Arc::<Beats>::default(), self.app.shutdown.child_token());
        let ended = Arc::new(OnceLock::new());
        let pulse = Pulse::new(beats.clone(), stop.clone(), self.app.clock.clone());
        let end = End { name, ended: ended.clone(), stop: stop.clone() };
        let body = match start {
            Start::Task(make) => {
                // Making the body may panic, too.
                let made = catch_unwind(AssertUnwindSafe(|| make(pulse.clone())));
                let body = async move {
                    match made {
                        Ok(body) => end.note(AssertUnwindSafe(pulse.carry(body)).catch_unwind().await),
                        Err(panic) => end.note(Err(panic)),
                    }
                };
                Body::Task(self.runtime.spawn(body).abort_handle())
            }
            Start::Thread(run) => {
                let (run, failed) = (run.clone(), end.clone());
                let thread = std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || end.note(catch_unwind(AssertUnwindSafe(|| run(pulse)))));
                if let Err(error) = &thread {
                    failed.note(Ok(Err(anyhow::anyhow!("cannot start its thread: {error}"))));
                }
                Body::Thread(thread.ok())
            }
        };
        Incarnation { beats, stop, ended, body }
    }

    /// Looks at every loop and does what is to be done. `steady` is a time that only goes forward; where
    /// nobody looked for longer than `longest`, the program itself stood still. Returns why nothing but a
    /// restart of the program helps, if that is so.
    pub fn look(&self, steady: Duration, wall: Millis, longest: Duration) -> Option<String> {
        let settings = &self.app.settings;
        let rules = Rules { stall: settings.scheduler_stall, recovers: settings.auto_recover };
        let mut eyes = self.eyes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slept) = eyes.had.pass(steady, wall, longest) {
            tracing::info!(
                component = "watchdog",
                "{:.0} s passed without this program: the machine slept, the process was stopped, or the clock was set",
                slept.as_secs_f64()
            );
        }
        let now = eyes.had.total();
        let (mut views, mut hopeless) = (Vec::new(), None);
        // Stopping, they end one after the other; that is no failure.
        if self.app.shutdown.is_cancelled() {
            return None;
        }
        for supervised in self.lock().iter_mut() {
            let finding = eyes.watch.look(supervised.name, supervised.said(), rules, now);
            self.follow(supervised, finding);
            let view = supervised.view(finding);
            if finding.is_hopeless {
                hopeless.get_or_insert_with(|| view.tell());
            }
            views.push(view);
        }
        self.app.note_loops(views);
        hopeless
    }

    /// Does what the finding says.
    fn follow(&self, supervised: &mut Supervised, finding: Finding) {
        let name = supervised.name;
        let stood = finding.stood.as_secs();
        match finding.verdict {
            Verdict::Well => {
                supervised.is_named = false;
                return;
            }
            Verdict::Resting(_) => return supervised.note_end(),
            Verdict::Stalled if supervised.is_named => return,
            Verdict::Stalled => {
                supervised.is_named = true;
                let doing = supervised.now.beats.words().doing;
                tracing::error!(component = "watchdog", "the {name} has not come round for {stood} s ({doing})");
                return;
            }
            Verdict::Replace => {
                let doing = supervised.now.beats.words().doing;
                supervised.last_error = Some(format!("stood still for {stood} s ({doing})"));
            }
            Verdict::Again => supervised.note_end(),
        }
        supervised.now.end();
        supervised.now = self.incarnate(name, &supervised.start);
        supervised.is_named = false;
        let why = supervised.last_error.clone().unwrap_or_default();
        tracing::warn!(component = "watchdog", "the {name} is started anew: {why}");
        // What it was in the middle of, memory may not have learnt.
        self.app.doubt_everything();
        let app = self.app.clone();
        self.runtime.spawn(async move { app.tell_of_restart(name, why, finding.stood, finding.restarts).await });
    }

    /// Waits until every loop has ended, for this long at most; returns the names of those that have not.
    pub async fn stopped(&self, limit: Duration) -> Vec<&'static str> {
        let until = Instant::now() + limit;
        loop {
            let left: Vec<&'static str> = {
                let loops = self.lock();
                let left = loops.iter().filter(|supervised| !supervised.now.has_ended());
                left.map(|supervised| supervised.name).collect()
            };
            if left.is_empty() || Instant::now() >= until {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Supervised>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervised {
    fn said(&self) -> Said {
        let beats = &self.now.beats;
        Said { need: self.need, beats: beats.count(), away: beats.words().away, has_ended: self.now.has_ended() }
    }

    fn note_end(&mut self) {
        if let Some(why) = self.now.ended.get() {
            self.last_error = why.clone().or_else(|| Some("it ended without having been told to".to_owned()));
        }
    }

    fn view(&self, finding: Finding) -> LoopHealth {
        let words = self.now.beats.words();
        let state = match finding.verdict {
            Verdict::Stalled | Verdict::Replace => LoopState::Stalled,
            Verdict::Resting(_) | Verdict::Again => LoopState::Failed,
            Verdict::Well if words.error.is_some() => LoopState::Degraded,
            Verdict::Well => LoopState::Running,
        };
        LoopHealth {
            name: self.name.to_owned(),
            state,
            doing: words.doing.to_owned(),
            last_progress_iso: iso(words.at),
            last_progress_sec: seconds(Millis::try_from(finding.stood.as_millis()).unwrap_or(Millis::MAX)),
            restarts: finding.restarts,
            last_error: words.error.or_else(|| self.last_error.clone()),
        }
    }
}

impl Incarnation {
    fn has_ended(&self) -> bool {
        // A task that was thrown away with its runtime notes nothing.
        self.ended.get().is_some()
            || match &self.body {
                Body::Task(task) => task.is_finished(),
                Body::Thread(thread) => thread.as_ref().is_none_or(JoinHandle::is_finished),
            }
    }

    /// Asks it to end, and ends it where that can be done.
    fn end(&self) {
        self.stop.cancel();
        if let Body::Task(task) = &self.body {
            task.abort();
        }
    }
}

/// Where an incarnation leaves why it ended.
#[derive(Clone)]
struct End {
    name: &'static str,
    ended: Arc<OnceLock<Option<String>>>,
    stop: CancellationToken,
}

impl End {
    fn note(&self, result: Result<Ended, Box<dyn Any + Send>>) {
        let why = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(panic) => Some(format!("it panicked: {}", told(&*panic))),
        };
        if !self.stop.is_cancelled() {
            let said = why.as_deref().map_or_else(|| "without having been told to".to_owned(), shown);
            tracing::error!(component = "watchdog", "the {} ended: {said}", self.name);
        }
        let _ = self.ended.set(why.as_deref().map(shown));
    }
}

/// What a panic says.
fn told(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no word of why")
}
