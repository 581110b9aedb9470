//! Who changes many schedules at once in the simulated world, and takes it back.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::super::*;
use super::world::{NAMES, Outcome, Told, World};
use crate::adapters::store::memory::Fates as _;
use crate::app::views::BulkAnswer;
use crate::app::{Bulk, Consent, Deed, Terms, Undo};
use crate::core::model::ScheduleId;
use crate::core::selection::Selection;
use crate::core::timing::iso;

fn terms(consent: Consent, reason: Option<String>) -> Terms {
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    Terms { reason, caller, may_change_connection: false, consent }
}

/// A caller that agrees to whatever the plan is, however much it takes away.
fn agreed(answer: &Result<BulkAnswer, AppError>) -> Option<Consent> {
    match answer {
        Err(AppError::Held(plan)) => Some(Consent::Confirm(plan.digest.clone())),
        _ => None,
    }
}

impl World {
    /// By a list or by a label, with or without a confirmation; all of it or nothing.
    pub async fn change_many(&self, app: &Arc<App>) {
        let mark = format!("m{}x", self.next_mark.fetch_add(1, Ordering::SeqCst));
        let number = u32::try_from(self.chance.below(900)).unwrap();
        let deed = match self.chance.below(5) {
            0 => Deed::Pause { until: None },
            1 => Deed::Pause { until: Some(iso(self.clock.now() + 5000)) },
            2 => Deed::Resume,
            3 => Deed::Delete,
            _ => Deed::Set(json!({"interval_sec": 30 + number, "labels": {"mark": mark}}).as_object().unwrap().clone()),
        };
        let select = if self.chance.is(80) {
            let known = |name: &&&str| {
                name.parse().is_ok_and(|id: ScheduleId| app.fleet().get(id.connector, id.tenant.as_str()).is_some())
            };
            let names: BTreeSet<_> = NAMES.iter().filter(|_| self.chance.is(60)).filter(known).collect();
            Selection { named: names.into_iter().map(|name| name.parse().unwrap()).collect(), ..Selection::default() }
        } else {
            Selection { labels: [("region".to_owned(), "west".to_owned())].into(), ..Selection::default() }
        };
        self.tell(|| format!("{} of {}: {mark}", deed.name(), select.told()));
        let bulk =
            |consent| Bulk { deed: deed.clone(), select: select.clone(), terms: terms(consent, Some(mark.clone())) };
        let confirms = self.chance.is(50);
        self.about_all(&mark, async {
            let answer = app.bulk(bulk(Consent::Any)).await;
            match agreed(&answer).filter(|_| confirms) {
                Some(consent) => app.bulk(bulk(consent)).await,
                None => answer,
            }
        })
        .await;
    }

    /// Takes back one of the actions that were answered.
    pub async fn undo_something(&self, app: &Arc<App>) {
        let action_id = match &*self.actions.lock().unwrap() {
            actions if actions.is_empty() => return,
            actions => self.chance.pick(actions).clone(),
        };
        let partial = self.chance.is(50);
        self.tell(|| "an action is to be undone".to_owned());
        let undo = |consent| Undo { action_id: action_id.clone(), partial, only: None, terms: terms(consent, None) };
        self.about_all("no mark", async {
            let answer = app.undo(undo(Consent::Any)).await;
            match agreed(&answer) {
                Some(consent) => app.undo(undo(consent)).await,
                None => answer,
            }
        })
        .await;
    }

    /// Does what may change any schedule. What it did to each is judged by the end that the files and the
    /// store come to; where it was refused, its mark must be nowhere.
    async fn about_all(&self, mark: &str, deed: impl Future<Output = Result<BulkAnswer, AppError>>) {
        let told = |id: &&str, outcome| Told { id: id.parse().unwrap(), mark: mark.to_owned(), touched: 0, outcome };
        let numbers: Vec<u64> = NAMES.iter().map(|_| self.next_mark.fetch_add(1, Ordering::SeqCst)).collect();
        let open = numbers.iter().copied().zip(NAMES.iter().map(|id| told(id, Outcome::Unknown)));
        self.open.lock().unwrap().extend(open);
        let answer = deed.await;
        if self.chance.is_dead() {
            return;
        }
        self.tell(|| match &answer {
            // Actions have other names each time.
            Ok(done) => format!("{mark}: {} changed, failed {:?}", done.changing, done.failed),
            Err(AppError::NoAction(_)) => format!("{mark}: that action changed nothing"),
            Err(error) => format!("{mark}: {error}"),
        });
        let outcome = match answer {
            Ok(answer) => {
                self.actions.lock().unwrap().extend(answer.action_id);
                Outcome::Unknown
            }
            Err(AppError::Store(_)) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        let mut open = self.open.lock().unwrap();
        numbers.iter().for_each(|number| drop(open.remove(number)));
        self.mutations.lock().unwrap().extend(NAMES.iter().map(|id| told(id, outcome.clone())));
    }
}
