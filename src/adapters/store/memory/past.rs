//! The history of runs in memory: read, and pruned all at once.

use super::super::{PastRun, Pruned, RunHistory, RunPage, RunQuery, StoreFuture};
use super::MemoryStore;
use super::runs::Run;
use super::tables::Tables;
use crate::core::model::{ImportStats, Millis, ScheduleId};
use crate::core::retention::{Bounds, Candidate, Fate, Keep};

fn past_run(key: i64, run: &Run) -> PastRun {
    PastRun {
        run: key,
        id: run.id.clone(),
        nominal: run.nominal,
        trigger: run.trigger,
        state: run.state,
        started: run.started,
        ended: run.ended,
        ok: run.ok,
        message: run.message.clone(),
        error_class: run.error_class.map(str::to_owned),
        stats: Some(run.stats).filter(|stats| run.ended.is_some() || *stats != ImportStats::default()),
        short: run.short.clone(),
        attempts: run.attempts,
        retry_at: run.retry_at,
        asked_by: run.asked.as_ref().map(|asked| asked.by.clone()),
        action_id: run.asked.as_ref().map(|asked| asked.action_id.clone()),
        log: None,
    }
}

impl Tables {
    fn run_page(&self, query: &RunQuery) -> RunPage {
        let is_in_range = |run: &Run, place: i64| {
            run.id.connector == query.connector
                && query.tenant.as_ref().is_none_or(|tenant| run.id.tenant == *tenant)
                && query.since.is_none_or(|since| run.nominal >= since)
                && query.until.is_none_or(|until| run.nominal < until)
                && query.before.is_none_or(|before| place < before)
        };
        let is_asked_for = |run: &Run| {
            query.state.is_none_or(|state| run.state == state)
                && query.trigger.is_none_or(|trigger| run.trigger == trigger)
                && query.ok.is_none_or(|ok| run.ok == Some(ok))
                && query.error_class.as_deref().is_none_or(|class| run.error_class == Some(class))
        };
        let place = |key: i64, run: &Run| if query.tenant.is_some() { run.nominal } else { key };
        let mut all: Vec<(i64, i64, &Run)> = self.runs.iter().map(|(key, run)| (place(*key, run), *key, run)).collect();
        all.retain(|(place, _, run)| is_in_range(run, *place));
        all.sort_by_key(|(place, ..)| std::cmp::Reverse(*place));
        let mut page = RunPage::default();
        for (looked_at, (_, key, run)) in all.iter().enumerate() {
            if page.runs.len() >= query.limit as usize || looked_at >= query.most_looked_at as usize {
                page.next = all.get(looked_at - 1).map(|(place, ..)| *place);
                break;
            }
            if is_asked_for(run) {
                page.runs.push(past_run(*key, run));
            }
        }
        page
    }

    fn prune(&mut self, keep: Keep, now: Millis) -> u64 {
        let highest = self.runs.last_key_value().map(|(key, _)| *key);
        let mut names: Vec<ScheduleId> = self.runs.values().map(|run| run.id.clone()).collect();
        names.sort();
        names.dedup();
        let mut removed = 0;
        for id in names {
            let row = self.row_of(&id).map(|(key, row)| (key, keep.under(&row.spec.rest)));
            let keep = row.map_or(keep, |(_, keep)| keep);
            let mut runs: Vec<(Millis, i64)> =
                self.runs.iter().filter(|(_, run)| run.id == id).map(|(key, run)| (run.nominal, *key)).collect();
            runs.sort_unstable();
            let nth = |n: usize| runs.iter().rev().nth(n).map(|(nominal, _)| *nominal);
            let bounds = Bounds {
                beyond: if keep.runs > 0 { nth(keep.runs as usize) } else { None },
                oldest: keep.oldest(now),
                newest: if row.is_some() { nth(0) } else { None },
            };
            let ok = |key: &i64| self.runs.get(key).is_some_and(|run| run.ok == Some(true));
            let last_ok = runs.iter().rev().find(|(_, key)| ok(key)).map(|(_, key)| *key).filter(|_| row.is_some());
            for (nominal, key) in runs {
                let Some(run) = self.runs.get(&key) else { continue };
                let candidate = Candidate { nominal, trigger: run.trigger, ended: run.ended };
                if bounds.fate(candidate) != Fate::Goes || Some(key) == last_ok || Some(key) == highest {
                    continue;
                }
                self.runs.remove(&key);
                self.slots.remove(&(id.clone(), nominal));
                if let Some(timer) = row.and_then(|(row, _)| self.timers.get_mut(&row)) {
                    timer.pruned = timer.pruned.max(Some(nominal));
                }
                removed += 1;
            }
        }
        removed
    }
}

impl RunHistory for MemoryStore {
    fn runs(&self, query: RunQuery) -> StoreFuture<'_, RunPage> {
        self.read("read runs", |tables| tables.run_page(&query))
    }

    fn run(&self, run: i64) -> StoreFuture<'_, Option<PastRun>> {
        self.read("read a run", |tables| {
            let found = tables.runs.get(&run);
            found.map(|found| PastRun { log: found.log.clone(), ..past_run(run, found) })
        })
    }

    fn volumes(&self, row: i64) -> StoreFuture<'_, String> {
        self.read("read what imports brought", |tables| {
            tables.timers.get(&row).map(|timer| timer.volumes.clone()).unwrap_or_default()
        })
    }

    fn prune_runs(&self, _: Option<String>, keep: Keep, now: Millis) -> StoreFuture<'_, Pruned> {
        self.write("forget old runs", move |tables| Ok(Pruned { removed: tables.prune(keep, now), next: None }))
    }
}
