//! Who interferes with the simulated scheduler: editors, callers of the API, somebody at the brake.

use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;

use super::super::sim::disk::Manner;
use super::super::*;
use super::world::{NAMES, World};
use crate::adapters::store::memory::wait;
use crate::core::model::{Connector, ScheduleId};
use crate::core::timing::iso;

impl World {
    fn someone(&self) -> ScheduleId {
        self.chance.pick(&NAMES[..self.count]).parse().unwrap()
    }

    fn zoe() -> Caller {
        Caller { source: Origin::Ui, actor: "zoe".into() }
    }

    /// Lets somebody do something whenever they come to it; a panic of theirs is a finding.
    pub fn let_act(self: &Arc<Self>, app: &Arc<App>) {
        let (world, app) = (self.clone(), app.clone());
        let turns = u32::try_from(self.chance.below(12)).unwrap();
        let what = self.chance.below(26);
        tokio::spawn(async move {
            wait(turns).await;
            let acting = std::panic::AssertUnwindSafe(world.act(&app, what)).catch_unwind();
            if acting.await.is_err() {
                world.model.lock().unwrap().found.push(format!("actor {what} panicked"));
            }
        });
    }

    async fn act(&self, app: &Arc<App>, what: u64) {
        let id = self.someone();
        match what {
            0..=3 => {
                let text = self.document(&id);
                self.tell(|| format!("{id} is edited: {text:?}"));
                self.disk.edit(&id, Some(text.into_bytes()), Manner::ByRename);
                let _one = self.reconciler.lock().await;
                drop(app.reconcile_hinted(vec![id]).await);
            }
            4..=8 => self.change(app, &id).await,
            9..=11 => {
                let answer = app.run_now(&id, &Self::zoe(), Duration::ZERO).await.map(|answer| match answer {
                    RunNow::Done(answer) | RunNow::Accepted(answer) => answer.run_id,
                });
                self.tell(|| format!("{id} is to run now: {}", shown(answer.as_ref())));
                answer.into_iter().for_each(|run| self.model.lock().unwrap().told_of(run, false));
            }
            12..=14 => {
                // One at a time: two that wait for one run are told in any order.
                let Ok(_one) = self.canceller.try_lock() else { return };
                self.tell(|| format!("{id} is to be cancelled"));
                let open: Vec<i64> = self.model.lock().unwrap().open.iter().copied().collect();
                let run = Some(open).filter(|open| !open.is_empty() && self.chance.is(40));
                let run = run.map(|open| *self.chance.pick(&open));
                let answer = app.cancel_runs(&id, run, None, &Self::zoe()).await.map(|answer| answer.cancelled);
                self.tell(|| format!("{id} is cancelled, {run:?}: {}", shown(answer.as_ref())));
                answer.into_iter().flatten().for_each(|run| self.model.lock().unwrap().told_of(run, true));
            }
            15 | 16 => {
                let now = self.clock.now();
                let from = now - Millis::try_from(self.chance.below(7_200_000)).unwrap();
                let asked = Backfill { from, to: from + 600_000, dry_run: self.chance.is(20) };
                let answer = app.backfill(&id, asked, &Self::zoe()).await;
                self.tell(|| {
                    format!("{id} is backfilled: {}", shown(answer.as_ref().map(|answer| answer.slots.len())))
                });
                let runs = answer.into_iter().flat_map(|answer| answer.slots).filter_map(|slot| slot.run_id);
                runs.for_each(|run| self.model.lock().unwrap().told_of(run, false));
            }
            17 | 18 => {
                let scope = Some(id).filter(|_| self.chance.is(70));
                let release = self.chance.is(60);
                self.tell(|| format!("the brake of {scope:?}: release {release}"));
                if release {
                    drop(app.release_brake(scope, &Self::zoe()).await);
                } else {
                    drop(app.pull_brake(scope, "smoke".to_owned(), &Self::zoe()).await);
                }
            }
            19..=21 => {
                self.edit_window();
                let _one = self.reconciler.lock().await;
                drop(app.full_pass(None).await);
            }
            _ => {
                let _one = self.reconciler.lock().await;
                drop(app.full_pass(None).await);
                app.sync_files().await;
            }
        }
    }

    /// Somebody writes a maintenance window, or takes it away.
    pub fn edit_window(&self) {
        let chance = &self.chance;
        let cron = *chance.pick(&["0 * * * *", "*/15 * * * *", "0 */6 * * *"]);
        let minutes = *chance.pick(&[5, 10, 40]);
        let minutes = if cron.starts_with('*') { minutes.min(10) } else { minutes };
        let whose = *chance.pick(&["", "", "connectors: [acculynx]\n", "labels: {region: west}\n"]);
        let text = format!("cron: '{cron}'\nduration_sec: {}\n{whose}", minutes * 60);
        let text = Some(text).filter(|_| chance.is(75));
        self.tell(|| format!("the window is now {text:?}"));
        self.disk.write_windows(text.map(|text| ("upkeep".to_owned(), text.into_bytes())).into_iter().collect());
    }

    async fn change(&self, app: &Arc<App>, id: &ScheduleId) {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let now = self.clock.now();
        let edit = match self.chance.below(8) {
            0 => Edit::Pause { reason: None, until: None },
            1 => Edit::Pause { reason: None, until: Some(iso(now + 1000 + i64::try_from(number).unwrap() * 7000)) },
            2 | 3 => Edit::Resume { reason: None },
            4 => merge(json!({"labels": {"mark": number.to_string()}})),
            5 => merge(json!({"overlap": self.chance.pick(&["skip", "queue_one", "cancel", "allow"])})),
            6 => merge(
                json!({"retries": self.chance.below(4), "catch_up": self.chance.pick(&["none", "latest", "all"])}),
            ),
            _ => merge(json!({"interval_sec": 20 + self.chance.below(500), "cron": null, "timezone": null})),
        };
        self.tell(|| format!("{id} is to be changed: {edit:?}"));
        let answer = app.mutate(mutation(&id.to_string(), edit)).await;
        self.tell(|| format!("{id} is changed: {}", shown(answer.map(|answer| answer.audit))));
    }

    /// A schedule with rules of any kind.
    pub fn document(&self, id: &ScheduleId) -> String {
        let chance = &self.chance;
        let cadences = [
            "interval_sec: 20",
            "interval_sec: 60",
            "interval_sec: 300",
            "interval_sec: 3600",
            "cron: '* * * * *'",
            "cron: '*/5 * * * *'",
            "cron: '0 * * * *'",
        ];
        let mut lines = vec![(*chance.pick(&cadences)).to_owned()];
        let mut sometimes = |percent: u64, line: &dyn Fn() -> String| {
            if chance.is(percent) {
                lines.push(line());
            }
        };
        sometimes(20, &|| format!("jitter_sec: {}", chance.below(90)));
        sometimes(75, &|| format!("overlap: {}", chance.pick(&["skip", "queue_one", "cancel", "allow"])));
        sometimes(75, &|| format!("catch_up: {}", chance.pick(&["none", "latest", "all", "all"])));
        sometimes(20, &|| format!("catch_up_window_sec: {}", 60 + chance.below(7200)));
        sometimes(60, &|| format!("catch_up_max: {}", 1 + chance.below(6)));
        sometimes(60, &|| format!("retries: {}", chance.below(4)));
        sometimes(60, &|| format!("retry_backoff_sec: {}", 1 + chance.below(120)));
        sometimes(40, &|| format!("timeout_sec: {}", 5 + chance.below(300)));
        sometimes(20, &|| format!("start_deadline_sec: {}", 5 + chance.below(600)));
        sometimes(10, &|| format!("auto_pause_after: {}", 1 + chance.below(4)));
        sometimes(10, &|| format!("start_at: {}", iso(START + 1000 * i64::try_from(chance.below(7200)).unwrap())));
        sometimes(10, &|| {
            format!("end_at: {}", iso(START + 1000 * i64::try_from(7200 + chance.below(40_000)).unwrap()))
        });
        sometimes(8, &|| "paused: true".to_owned());
        match id.connector {
            Connector::Exec => lines.push("connection: {command: [tap]}".to_owned()),
            _ => lines.push("labels: {region: west}".to_owned()),
        }
        lines.join("\n") + "\n"
    }
}

fn shown<T: std::fmt::Debug, E: std::fmt::Display>(answer: Result<T, E>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => error.to_string(),
    }
}
