//! Who does something in the simulated world: editors, callers of the API, the program's own loops,
//! a person with a hand in the database.

use futures_util::future::{BoxFuture, join_all};

use super::super::*;
use super::disk::Manner;
use super::world::{NAMES, Outcome, Told, World};
use crate::adapters::store::memory::{Fates as _, wait};
use crate::core::model::ScheduleId;
use crate::core::timing::iso;

impl World {
    fn someone(&self) -> ScheduleId {
        self.chance.pick(&NAMES).parse().unwrap()
    }

    /// A few at once, each beginning when it likes; then time goes on.
    pub async fn round(&self, app: &Arc<App>) {
        let count = 1 + self.chance.below(6);
        let actors: Vec<BoxFuture<'_, ()>> = (0..count).map(|_| self.actor(app)).collect();
        join_all(actors).await;
        self.clock.advance(*self.chance.pick(&[0, 1, 30, 500, 2500, 2500, 10_000, 61_000]));
        self.dispatch(app).await;
    }

    fn actor<'a>(&'a self, app: &'a Arc<App>) -> BoxFuture<'a, ()> {
        let turns = u32::try_from(self.chance.below(12)).unwrap();
        let what = self.chance.below(36);
        Box::pin(async move {
            wait(turns).await;
            match what {
                0..=7 => self.edit_something(),
                8 => self.edit_half_way().await,
                9..=16 => self.mutate_something(app).await,
                17..=20 => self.look_at_everything(app).await,
                21..=23 => self.follow_hints(app).await,
                24 => self.run_something(app).await,
                25 => self.dispatch(app).await,
                26 | 27 => {
                    let _one = self.janitor.lock().await;
                    app.sync_files().await;
                    if self.chance.is(50) {
                        app.sync_files().await;
                    }
                }
                28 => self.lay_hand_on_rows(),
                29 => {
                    let away = self.chance.is(40);
                    self.tell(|| format!("root away: {away}"));
                    self.disk.set_away(away);
                }
                30 => self.confirm(app).await,
                31..=33 => self.change_many(app).await,
                34 => self.undo_something(app).await,
                _ => self.clock.advance(1 + i64::try_from(self.chance.below(3000)).unwrap()),
            }
        })
    }

    fn manner(&self) -> Manner {
        *self.chance.pick(&[Manner::InPlace, Manner::ByRename])
    }

    fn put_file(&self, id: &ScheduleId, content: Option<Vec<u8>>) {
        self.tell(|| format!("{id} is edited: {:?}", content.as_deref().map(String::from_utf8_lossy)));
        if let Some(before) = self.disk.content(id) {
            self.past.lock().unwrap().entry(id.clone()).or_default().push(before);
        }
        self.disk.edit(id, content, self.manner());
        self.hints.lock().unwrap().push(id.clone());
    }

    pub fn edit_something(&self) {
        let id = self.someone();
        let before = self.disk.content(&id);
        let content = match self.chance.below(12) {
            0 => None,
            1 => Some(
                self.chance
                    .pick(&["interval_sec: [\n", "intervall_sec: 5\n", "interval_sec: 0\n", ""])
                    .as_bytes()
                    .to_vec(),
            ),
            2 => before.map(|text| text[..text.len() / 2].to_vec()),
            3 => self.past.lock().unwrap().get(&id).map(|past| self.chance.pick(past).clone()),
            4 => before.map(|text| [&text[..], b"# looked at\n"].concat()),
            5 => {
                // A rename is a delete and a create.
                let to = self.someone();
                if to != id && before.is_some() {
                    self.put_file(&to, before);
                    self.put_file(&id, None);
                }
                return;
            }
            _ => Some(self.document()),
        };
        self.put_file(&id, content);
    }

    /// An editor that is caught while it writes, or between deleting and creating.
    async fn edit_half_way(&self) {
        let id = self.someone();
        let whole = self.document();
        let half = if self.chance.is(50) { None } else { Some(whole[..whole.len() / 2].to_vec()) };
        self.put_file(&id, half);
        wait(u32::try_from(self.chance.below(20)).unwrap()).await;
        self.put_file(&id, Some(whole));
    }

    fn document(&self) -> Vec<u8> {
        let cadence = *self.chance.pick(&[
            "interval_sec: 300",
            "interval_sec: 60",
            "interval_sec: 5 # often",
            "cron: '*/5 * * * *'",
        ]);
        let rest = *self.chance.pick(&[
            "",
            "",
            "# a comment\n",
            "paused: true\n",
            "paused: true # for now\npause_reason: roof\n",
            "paused: true\npause_until: 2027-01-15T08:01:00Z\n",
            "labels: { region: west }\n",
            "resources: [jobs]\n",
        ]);
        let text = format!("{cadence}\n{rest}");
        if self.chance.is(10) { text.replace('\n', "\r\n").into_bytes() } else { text.into_bytes() }
    }

    async fn mutate_something(&self, app: &Arc<App>) {
        let id = self.someone();
        let number = self.next_mark.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mark = format!("m{number}x");
        let edit = match self.chance.below(8) {
            0 => Edit::Pause { reason: Some(mark.clone()), until: None },
            1 => Edit::Pause { reason: Some(mark.clone()), until: Some(iso(self.clock.now() + 5000)) },
            2 => Edit::Resume { reason: None },
            3 => Edit::Delete,
            4 => merge(json!({"cron": "0 2 * * *", "labels": {"mark": mark}})),
            5 => merge(json!({"labels": {"mark": mark}})),
            6 => merge(json!({"interval_sec": 0, "labels": {"mark": mark}})),
            _ => merge(json!({"interval_sec": 30 + number, "labels": {"mark": mark}})),
        };
        self.tell(|| format!("{id} is to be mutated: {edit:?}"));
        let told =
            Told { id: id.clone(), mark: mark.clone(), touched: self.disk.touched(&id), outcome: Outcome::Unknown };
        self.open.lock().unwrap().insert(number, told.clone());
        let answer = app.mutate(mutation(&id.to_string(), edit)).await;
        if self.chance.is_dead() {
            return;
        }
        let outcome = match answer {
            Ok(answer) => {
                let etag = answer.schedules.get(id.tenant.as_str()).map(|status| status.etag.clone());
                Outcome::Done { etag, seqs: answer.audit }
            }
            // Where the store fails, it may have failed after the deed, or at taking it back.
            Err(AppError::Store(error)) => {
                self.tell(|| format!("{mark} is left open: {error}"));
                Outcome::Unknown
            }
            Err(error) => {
                self.tell(|| format!("{mark} is refused: {error:?}"));
                Outcome::Refused
            }
        };
        self.tell(|| format!("{mark}: {outcome:?}"));
        self.open.lock().unwrap().remove(&number);
        self.mutations.lock().unwrap().push(Told { outcome, ..told });
    }

    async fn look_at_everything(&self, app: &Arc<App>) {
        let _one = self.reconciler.lock().await;
        let report = app.full_pass(None).await;
        self.tell(|| match report {
            Ok(report) => format!(
                "pass: {} changes, {} repairs, {} held, waiting {:?}",
                report.changes, report.repaired, report.held, report.waiting
            ),
            Err(error) => format!("pass: {error}"),
        });
    }

    /// Hints come late, in any order, or not at all.
    async fn follow_hints(&self, app: &Arc<App>) {
        let _one = self.reconciler.lock().await;
        let mut ids = std::mem::take(&mut *self.hints.lock().unwrap());
        ids.retain(|_| self.chance.is(60));
        if ids.len() > 1 && self.chance.is(50) {
            ids.reverse();
        }
        ids.dedup();
        let outcome = app.reconcile_hinted(ids.clone()).await;
        self.tell(|| format!("hinted at {ids:?}: {outcome:?}"));
    }

    async fn run_something(&self, app: &Arc<App>) {
        let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
        // Whether it can be run or not: the runs are looked at in the end.
        drop(app.run_now(&self.someone(), &caller, Duration::ZERO).await);
    }

    async fn confirm(&self, app: &Arc<App>) {
        let caller = Caller { source: Origin::Cli, actor: "zoe".into() };
        if let Ok(held) = app.apply(None, &caller).await
            && held.held_digest.is_some()
        {
            self.tell(|| "what is held is confirmed".to_owned());
            drop(app.apply(held.held_digest, &caller).await);
        }
    }

    /// Somebody changes rows with the database's own tools.
    pub fn lay_hand_on_rows(&self) {
        let id = self.someone();
        let what = self.chance.below(5);
        self.tell(|| format!("a hand is laid on the row of {id}: {what}"));
        self.handled.lock().unwrap().insert(id.clone());
        self.platter.by_hand(|tables| {
            let Some((key, row)) = tables.row_of(&id).map(|(key, row)| (key, row.clone())) else { return };
            let mut changed = (*row).clone();
            match what {
                0 => changed.spec.interval_sec = Some(7),
                1 => changed.spec.paused = !changed.spec.paused,
                2 => {
                    tables.schedules.remove(&key);
                    return;
                }
                3 => {
                    let timer = tables.timers.entry(key).or_default();
                    timer.due = timer.due.map(|due| due + 999_999);
                    return;
                }
                _ => changed.spec.rest = "{".to_owned(),
            }
            tables.schedules.insert(key, Arc::new(changed));
        });
    }
}
