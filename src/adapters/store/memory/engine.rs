//! `Store` over the tables in memory.

use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::super::*;
use super::log::{audit_counts, fleet_counts, tenant_counts};
use super::many::{deeds, specs};
use super::tables::{Row, Tables};
use super::{Ending, MemoryStore, failed, wait};
use crate::core::policy::policy_text;

impl MemoryStore {
    /// Hands a write in. It is done when its time comes, also if nobody waits for it any more.
    pub(super) fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&mut Tables) -> StoreResult<T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        if self.closed.load(Ordering::SeqCst) || self.fates.is_dead() {
            return self.no_answer();
        }
        let (ending, before, after) = self.fates.write(operation);
        let (sender, receiver) = oneshot::channel();
        let ticket = self.platter.hand_in(Box::new(move |tables| {
            let result = match ending {
                Ending::Done => body(tables),
                Ending::Full => Err(StoreError::Full),
                Ending::Failed => Err(failed(operation, "simulated")),
                Ending::Doubtful => body(tables).and(Err(failed(operation, "simulated, and yet it is done"))),
            };
            // Nobody waiting any more is no error.
            let _ = sender.send(result);
        }));
        if before == 0 {
            self.platter.work_off(ticket);
        }
        let platter = self.platter.clone();
        async move {
            if before > 0 {
                wait(before).await;
                self.dead_end().await;
                platter.work_off(ticket);
            }
            if ending == Ending::Doubtful {
                platter.doubt();
            }
            wait(after).await;
            self.dead_end().await;
            receiver.await.unwrap_or(Err(StoreError::Stopped))
        }
        .boxed()
    }

    fn no_answer<T: Send + 'static>(&self) -> StoreFuture<'_, T> {
        let dead = self.fates.is_dead();
        async move { if dead { std::future::pending().await } else { Tables::stopped() } }.boxed()
    }

    /// Goes no further once the program has been killed.
    async fn dead_end(&self) {
        if self.fates.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    fn look<T>(&self, operation: &'static str, look: impl FnOnce(&Tables) -> T) -> StoreResult<T> {
        if self.closed.load(Ordering::SeqCst) {
            return Tables::stopped();
        }
        if self.fates.read_fails(operation) {
            return Err(failed(operation, "simulated"));
        }
        Ok(self.platter.look(look))
    }

    pub(super) fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&Tables) -> T,
    ) -> StoreFuture<'static, T> {
        if self.fates.is_dead() {
            return std::future::pending().boxed();
        }
        std::future::ready(self.look(operation, look)).boxed()
    }

    fn stream<T: Clone>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&Tables) -> Vec<T>,
    ) -> mpsc::Receiver<StoreResult<Vec<T>>> {
        let batches: Vec<StoreResult<Vec<T>>> = match self.look(operation, look) {
            Ok(all) => all.chunks(1024).map(|batch| Ok(batch.to_vec())).collect(),
            Err(error) => vec![Err(error)],
        };
        let (sender, receiver) = mpsc::channel(batches.len().max(1));
        for batch in batches {
            // There is room for each.
            let _ = sender.try_send(batch);
        }
        receiver
    }
}

pub(super) fn due(tables: &Tables, key: i64) -> Option<Millis> {
    tables.timers.get(&key).and_then(|timer| timer.due)
}

pub(super) fn last(tables: &Tables, key: i64) -> LastRun {
    tables.timers.get(&key).map(|timer| timer.last.clone()).unwrap_or_default()
}

fn fleet_row(tables: &Tables, key: i64, row: &Row) -> FleetRow {
    FleetRow {
        row: key,
        connector: row.id.connector,
        tenant: row.id.tenant.to_string(),
        interval_sec: row.spec.interval_sec,
        cron: row.spec.cron.clone(),
        timezone: row.spec.timezone.clone(),
        policy: policy_text(&row.spec.rest).to_owned(),
        paused: row.spec.paused,
        pause_until: row.spec.pause_until,
        actual: Tables::actual(row),
        applied: row.fingerprint,
        digest: row.digest,
        basis: row.basis,
        stamp: row.stamp,
        next_due: due(tables, key),
    }
}

fn status_row(tables: &Tables, key: i64, row: &Row) -> StatusRow {
    StatusRow {
        row: key,
        tenant: row.id.tenant.to_string(),
        interval_sec: row.spec.interval_sec,
        cron: row.spec.cron.clone(),
        timezone: row.spec.timezone.clone(),
        paused: row.spec.paused,
        pause_reason: row.spec.pause_reason.clone(),
        pause_until: row.spec.pause_until,
        digest: row.digest,
        next_due: due(tables, key),
        last: last(tables, key),
    }
}

fn schedule_row(tables: &Tables, key: i64, row: &Row) -> ScheduleRow {
    ScheduleRow {
        row: key,
        spec: row.spec.clone(),
        digest: row.digest,
        basis: row.basis,
        content: row.content.clone(),
        stamp: row.stamp,
        next_due: due(tables, key),
        last: last(tables, key),
    }
}

fn revisions(tables: &Tables, query: &RevisionQuery) -> Vec<Revision> {
    let asked = |revision: &&Revision| {
        let prefix = query.digest_prefix.as_deref();
        query.before.is_none_or(|before| revision.number < before)
            && query.until.is_none_or(|until| revision.at <= until)
            && prefix.is_none_or(|prefix| revision.digest.is_some_and(|digest| digest.to_hex().starts_with(prefix)))
    };
    let with_content = |revision: &Revision| {
        let content = revision.digest.filter(|_| query.with_content).and_then(|digest| tables.contents.get(&digest));
        Revision { content: content.cloned(), ..revision.clone() }
    };
    let all = tables.revisions.get(&query.id).map(Vec::as_slice).unwrap_or_default();
    all.iter().rev().filter(asked).take(query.limit as usize).map(with_content).collect()
}

fn past_state(tables: &Tables, id: &ScheduleId, all: &[Revision], at: Millis) -> Option<PastState> {
    let version = |digest: Digest| Version { digest, content: tables.contents.get(&digest).cloned() };
    let then = all.iter().rev().find(|revision| revision.at <= at);
    Some(PastState {
        id: id.clone(),
        known_since: all.first()?.at,
        is_begun_late: all.first()?.number > 1,
        number: then.map(|revision| revision.number),
        then: then.and_then(|revision| revision.digest).map(version),
        now: tables.row_of(id).map(|(_, row)| version(row.digest)),
    })
}

impl Store for MemoryStore {
    fn apply(&self, changes: Vec<Change>, intents: Vec<Intent>, now: Millis) -> StoreFuture<'_, Applied> {
        self.write("apply changes", move |tables| tables.apply(changes, intents, now))
    }

    fn append(&self, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, Vec<i64>> {
        self.write("append to the audit log", move |tables| Ok(tables.append(drafts, now)))
    }

    fn claim(&self, claims: Vec<Claim>, now: Millis) -> StoreFuture<'_, Vec<Granted>> {
        let term = self.term;
        self.write("claim runs", move |tables| Ok(tables.claim(claims, term, now)))
    }

    fn advance(&self, advances: Vec<Advance>) -> StoreFuture<'_, Vec<bool>> {
        self.write("move timers", move |tables| Ok(advances.iter().map(|advance| tables.advance(advance)).collect()))
    }

    fn begin_run(&self, run: i64) -> StoreFuture<'_, bool> {
        self.write("begin a run", move |tables| Ok(tables.begin(run)))
    }

    fn park_run(&self, parked: Parked) -> StoreFuture<'_, ()> {
        self.write("record a failed attempt", move |tables| {
            tables.park(parked);
            Ok(())
        })
    }

    fn complete(&self, completion: Completion) -> StoreFuture<'_, u32> {
        self.write("record a run's end", move |tables| Ok(tables.complete(completion)))
    }

    fn write_pages(&self, id: ScheduleId, run: i64, pages: Vec<Page>, now: Millis) -> StoreFuture<'_, ImportStats> {
        self.write("store imported records", move |tables| {
            let stats = tables.pages(&id, pages, now)?;
            tables.add_counts(run, stats);
            Ok(stats)
        })
    }

    fn bookmark(&self, id: ScheduleId, resource: Resource) -> StoreFuture<'_, Option<Value>> {
        self.read("read a bookmark", |tables| tables.bookmarks.get(&(id, resource)).cloned())
    }

    fn lift(&self, lifts: Vec<(Advance, Draft)>, now: Millis) -> StoreFuture<'_, Vec<bool>> {
        self.write("lift pauses", move |tables| Ok(tables.lift(lifts, now)))
    }

    fn forget_commits(&self, keys: Vec<i64>) -> StoreFuture<'_, ()> {
        self.write("forget commits made", move |tables| {
            keys.iter().for_each(|key| drop(tables.commits.remove(key)));
            Ok(())
        })
    }

    fn note_commit(&self, commit: String) -> StoreFuture<'_, ()> {
        self.write("note the commit", move |tables| {
            tables.commit = Some(commit);
            Ok(())
        })
    }

    fn set_stamps(&self, stamps: Vec<Stamp>) -> StoreFuture<'_, ()> {
        self.write("remember files' stats", move |tables| {
            tables.set_stamps(stamps);
            Ok(())
        })
    }

    fn put_problem(&self, problem: Problem, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, ()> {
        self.write("record an invalid file", move |tables| {
            tables.put_problem(problem);
            tables.append(drafts, now);
            Ok(())
        })
    }

    fn clear_problem(&self, path: String, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, ()> {
        self.write("clear an invalid file", move |tables| {
            tables.problems.remove(&path);
            tables.append(drafts, now);
            Ok(())
        })
    }

    fn put_defaults(
        &self,
        path: String,
        content: Option<Vec<u8>>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, ()> {
        self.write("keep defaults", move |tables| {
            match content {
                Some(content) => tables.defaults.insert(path, content),
                None => tables.defaults.remove(&path),
            };
            tables.append(drafts, now);
            Ok(())
        })
    }

    fn defaults(&self) -> StoreFuture<'_, Vec<(String, Vec<u8>)>> {
        self.read("read the last good defaults", |tables| tables.defaults.clone().into_iter().collect())
    }

    fn put_brake(&self, brake: Brake, draft: Draft) -> StoreFuture<'_, Vec<i64>> {
        self.write("pull the brake", move |tables| {
            let since = brake.since;
            tables.brakes.insert(brake.scope.clone(), brake);
            Ok(tables.append(vec![draft], since))
        })
    }

    fn release_brake(&self, scope: String, draft: Draft, now: Millis) -> StoreFuture<'_, Vec<i64>> {
        self.write("release the brake", move |tables| {
            tables.brakes.remove(&scope);
            Ok(tables.append(vec![draft], now))
        })
    }

    fn put_holds(
        &self,
        holds: Vec<Hold>,
        dismissal: Option<Dismissal>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>> {
        self.write("record what is held", move |tables| {
            tables.holds = (holds, dismissal);
            Ok(tables.append(drafts, now))
        })
    }

    fn forget_intents(&self, ids: Vec<i64>) -> StoreFuture<'_, ()> {
        self.write("forget finished edits", move |tables| {
            ids.iter().for_each(|id| drop(tables.intents.remove(id)));
            Ok(())
        })
    }

    fn remember_answer(&self, key: String, remembered: Remembered, now: Millis) -> StoreFuture<'_, ()> {
        self.write("remember an answer", move |tables| {
            tables.remember_answer(key, remembered, now);
            Ok(())
        })
    }

    fn schedule_count(&self) -> StoreFuture<'_, usize> {
        self.read("count schedules", |tables| tables.schedules.len())
    }

    fn fleet(&self) -> mpsc::Receiver<StoreResult<Vec<FleetRow>>> {
        self.stream("read the fleet", |tables| {
            tables.schedules.iter().map(|(key, row)| fleet_row(tables, *key, row)).collect()
        })
    }

    fn statuses(&self, query: StatusQuery) -> mpsc::Receiver<StoreResult<Vec<StatusRow>>> {
        self.stream("read statuses", |tables| {
            let asked = |row: &Row| {
                row.id.connector == query.connector
                    && query.tenant.as_ref().is_none_or(|tenant| row.id.tenant.as_str() == tenant)
            };
            let rows = tables.schedules.range(query.after + 1..).filter(|(_, row)| asked(row));
            rows.take(query.limit as usize).map(|(key, row)| status_row(tables, *key, row)).collect()
        })
    }

    fn audit_log(&self) -> mpsc::Receiver<StoreResult<Vec<Entry>>> {
        self.stream("read the audit log", |tables| tables.audit.clone())
    }

    fn audit_page(&self, query: AuditQuery) -> StoreFuture<'_, Vec<Entry>> {
        self.read("read the audit log", |tables| {
            let found = tables.audit.iter().rev().filter(|entry| query.lets_through(entry));
            found.take(query.limit as usize).cloned().collect()
        })
    }

    fn audit_head(&self) -> StoreFuture<'_, Head> {
        self.read("read the audit's head", |tables| tables.head)
    }

    fn schedule(&self, id: ScheduleId) -> StoreFuture<'_, Option<ScheduleRow>> {
        self.read("read a schedule", |tables| tables.row_of(&id).map(|(key, row)| schedule_row(tables, key, row)))
    }

    fn open_runs(&self) -> StoreFuture<'_, Vec<OpenRun>> {
        self.read("read open runs", Tables::open_runs)
    }

    fn intents(&self) -> StoreFuture<'_, Vec<(i64, Intent)>> {
        self.read("read promised edits", |tables| {
            tables.intents.iter().map(|(key, intent)| (*key, intent.clone())).collect()
        })
    }

    fn problems(&self) -> StoreFuture<'_, Vec<Problem>> {
        self.read("read invalid files", |tables| tables.problems.values().cloned().collect())
    }

    fn brakes(&self) -> StoreFuture<'_, Vec<Brake>> {
        self.read("read brakes", |tables| tables.brakes.values().cloned().collect())
    }

    fn holds(&self) -> StoreFuture<'_, (Vec<Hold>, Option<Dismissal>)> {
        self.read("read what is held", |tables| tables.holds.clone())
    }

    fn answer(&self, key: String, now: Millis) -> StoreFuture<'_, Option<Remembered>> {
        self.read("read a remembered answer", |tables| {
            let found = tables.answers.get(&key).filter(|(_, at)| *at >= now - ANSWER_TTL_MS);
            found.map(|(found, _)| found.clone())
        })
    }

    fn revisions(&self, query: RevisionQuery) -> StoreFuture<'_, Vec<Revision>> {
        self.read("read the history", |tables| revisions(tables, &query))
    }

    fn fleet_at(&self, at: Millis) -> mpsc::Receiver<StoreResult<Vec<PastState>>> {
        self.stream("read the fleet as it was", |tables| {
            tables.revisions.iter().filter_map(|(id, all)| past_state(tables, id, all, at)).collect()
        })
    }

    fn specs(&self, query: SpecQuery) -> mpsc::Receiver<StoreResult<Vec<SpecRow>>> {
        self.stream("read specifications", |tables| specs(tables, query))
    }

    fn deeds(&self, action_id: String) -> StoreFuture<'_, Vec<Deed>> {
        self.read("read what an action changed", |tables| deeds(tables, &action_id))
    }

    fn commits_due(&self, limit: u32) -> StoreFuture<'_, Vec<CommitDue>> {
        self.read("read edits to commit", |tables| tables.commits.values().take(limit as usize).cloned().collect())
    }

    fn noted_commit(&self) -> StoreFuture<'_, Option<String>> {
        self.read("read the noted commit", |tables| tables.commit.clone())
    }

    fn facts(&self) -> StoreFuture<'_, StoreFacts> {
        self.read("read the store's facts", |tables| StoreFacts {
            engine: "memory".to_owned(),
            rows: [("schedules", tables.schedules.len()), ("runs", tables.runs.len()), ("audit", tables.audit.len())]
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count as u64))
                .collect(),
            ..StoreFacts::default()
        })
    }

    fn fleet_counts(&self) -> StoreFuture<'_, FleetCounts> {
        self.read("count the fleet", fleet_counts)
    }

    fn tenant_counts(&self, tenant: String) -> StoreFuture<'_, Vec<TenantCounts>> {
        self.read("count a tenant's runs", |tables| tenant_counts(tables, &tenant))
    }

    fn audit_counts(&self, since: Option<Millis>, until: Option<Millis>) -> StoreFuture<'_, AuditCounts> {
        self.read("count audit entries", |tables| audit_counts(tables, since, until))
    }

    fn changed_by_others(&self) -> StoreFuture<'_, bool> {
        if self.fates.is_dead() || self.closed.load(Ordering::SeqCst) {
            return self.no_answer();
        }
        let changed = std::mem::take(&mut self.platter.lock().foreign);
        std::future::ready(Ok(changed)).boxed()
    }

    fn close(&self) {
        self.platter.work_off(u64::MAX);
        self.closed.store(true, Ordering::SeqCst);
    }
}
