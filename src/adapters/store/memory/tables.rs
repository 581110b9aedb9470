//! The tables of the store in memory and what a write does to them; the counterpart of the SQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::super::{
    ANSWER_TTL_MS, Applied, Author, Brake, Change, ChangeKind, CommitDue, Dismissal, Hold, Intent, LastRun, Problem,
    Promised, Put, Remembered, Revision, SealedFacts, Stamp, StoreError, StoreResult,
};
use super::failed;
use super::inbox::Events;
use super::runs::Run;
use crate::core::audit::{Draft, Entry, Head};
use crate::core::model::{Digest, Millis, Resource, ScheduleId};
use crate::core::row::{Fingerprint, RowSpec};
use crate::core::timing::iso;

#[derive(Clone, Debug)]
pub struct Row {
    pub id: ScheduleId,
    pub spec: RowSpec,
    pub fingerprint: Fingerprint,
    pub digest: Digest,
    pub basis: Digest,
    pub content: Vec<u8>,
    pub stamp: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Timer {
    pub due: Option<Millis>,
    pub last: LastRun,
    /// The latest slot whose run was forgotten.
    pub pruned: Option<Millis>,
    /// What the last complete readings brought.
    pub volumes: String,
}

#[derive(Default)]
pub struct Tables {
    pub schedules: BTreeMap<i64, Arc<Row>>,
    pub timers: BTreeMap<i64, Timer>,
    pub intents: BTreeMap<i64, Intent>,
    pub audit: Vec<Entry>,
    pub head: Head,
    pub sealed: SealedFacts,
    pub sealed_hash: Digest,
    pub runs: BTreeMap<i64, Run>,
    pub slots: BTreeSet<(ScheduleId, Millis)>,
    pub problems: BTreeMap<String, Problem>,
    pub brakes: BTreeMap<String, Brake>,
    pub holds: (Vec<Hold>, Option<Dismissal>),
    pub answers: HashMap<String, (Remembered, Millis)>,
    pub records: super::records::Records,
    pub bookmarks: BTreeMap<(ScheduleId, Resource), serde_json::Value>,
    pub refused_record: Option<String>,
    /// Without their contents, oldest first.
    pub revisions: BTreeMap<ScheduleId, Vec<Revision>>,
    pub contents: BTreeMap<Digest, Vec<u8>>,
    pub commit: Option<String>,
    pub commits: BTreeMap<i64, CommitDue>,
    pub defaults: BTreeMap<String, Vec<u8>>,
    pub events: Events,
    pub facts: BTreeMap<&'static str, String>,
    last_row: i64,
    last_intent: i64,
}

impl Tables {
    pub fn row_of(&self, id: &ScheduleId) -> Option<(i64, &Arc<Row>)> {
        self.schedules.iter().find(|(_, row)| row.id == *id).map(|(key, row)| (*key, row))
    }

    pub fn apply(&mut self, changes: Vec<Change>, intents: Vec<Intent>, now: Millis) -> StoreResult<Applied> {
        let before = (self.schedules.clone(), self.timers.clone(), self.audit.len(), self.head);
        let mut applied = Applied::default();
        let mut revised = Vec::new();
        for change in changes {
            let id = &change.id;
            let row = match change.kind {
                ChangeKind::Put(put) => {
                    let digest = Some(put.digest);
                    let row = self.put(id, *put);
                    revised.extend(row.is_ok().then(|| self.revise(id, &change.by, digest, now)).flatten());
                    row
                }
                ChangeKind::Delete => {
                    let row = self.delete(id);
                    revised.extend(self.revise(id, &change.by, None, now));
                    Ok(row)
                }
                ChangeKind::Note => Ok(0),
            };
            match row {
                Ok(row) => applied.rows.push(row),
                Err(error) => {
                    (self.schedules, self.timers) = (before.0, before.1);
                    self.audit.truncate(before.2);
                    self.head = before.3;
                    for id in revised {
                        self.revisions.get_mut(&id).and_then(Vec::pop);
                    }
                    return Err(error);
                }
            }
            applied.seqs.extend(self.append(change.audit, now));
        }
        for intent in intents {
            self.last_intent += 1;
            let key = self.last_intent;
            let commit = intent.commit.is_some().then_some(key);
            if commit.is_some() {
                self.commits.insert(key, CommitDue { key, at: now, intent: intent.clone() });
            }
            self.intents.insert(key, intent);
            applied.promised.push(Promised { intent: key, commit });
        }
        Ok(applied)
    }

    fn put(&mut self, id: &ScheduleId, put: Put) -> StoreResult<i64> {
        let known = self.row_of(id).map(|(key, _)| key);
        let key = match (put.row, known) {
            (_, Some(key)) => key,
            (Some(lost), None) if self.schedules.contains_key(&lost) => {
                return Err(failed("apply changes", "the key is another schedule's"));
            }
            (Some(lost), None) => lost,
            (None, None) => self.last_row + 1,
        };
        self.last_row = self.last_row.max(key);
        self.contents.insert(put.digest, put.content.clone());
        let Put { spec, fingerprint, digest, basis, content, stamp, next_due, keeps_due, .. } = put;
        self.schedules.insert(key, Arc::new(Row { id: id.clone(), spec, fingerprint, digest, basis, content, stamp }));
        if !(keeps_due && self.timers.contains_key(&key)) {
            let timer = self.timers.entry(key).or_default();
            if timer.due.is_none() && next_due.is_some() {
                timer.last.failures = 0;
            }
            timer.due = next_due;
        }
        Ok(key)
    }

    /// Adds a revision unless the last one says the same; returns the schedule if so.
    fn revise(&mut self, id: &ScheduleId, by: &Author, digest: Option<Digest>, now: Millis) -> Option<ScheduleId> {
        let known = self.revisions.entry(id.clone()).or_default();
        if known.last().and_then(|last| last.digest) == digest {
            return None;
        }
        known.push(Revision {
            number: known.last().map_or(0, |last| last.number) + 1,
            at: now,
            source: by.source.as_str().to_owned(),
            actor: by.actor.clone(),
            action_id: by.action_id.clone(),
            digest,
            content: None,
        });
        Some(id.clone())
    }

    fn delete(&mut self, id: &ScheduleId) -> i64 {
        let Some((key, _)) = self.row_of(id) else { return 0 };
        self.schedules.remove(&key);
        self.timers.remove(&key);
        key
    }

    pub fn append(&mut self, drafts: Vec<Draft>, now: Millis) -> Vec<i64> {
        let now_iso = iso(now);
        let mut seqs = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let entry = self.head.append(draft, now, &now_iso);
            seqs.push(entry.seq);
            self.audit.push(entry);
        }
        seqs
    }

    pub fn set_stamps(&mut self, stamps: Vec<Stamp>) {
        for Stamp { row, digest, stamp } in stamps {
            if let Some(row) = self.schedules.get_mut(&row).filter(|row| row.digest == digest) {
                Arc::make_mut(row).stamp = stamp;
            }
        }
    }

    pub fn put_problem(&mut self, problem: Problem) {
        let since = self.problems.get(&problem.path).map_or(problem.since, |known| known.since);
        self.problems.insert(problem.path.clone(), Problem { since, ..problem });
    }

    pub fn remember_answer(&mut self, key: String, remembered: Remembered, now: Millis) {
        self.answers.retain(|_, (_, at)| *at >= now - ANSWER_TTL_MS);
        self.answers.insert(key, (remembered, now));
    }

    /// The columns' fingerprint as it is, whatever was applied.
    pub fn actual(row: &Row) -> Fingerprint {
        row.spec.fingerprint()
    }

    pub fn stopped<T>() -> StoreResult<T> {
        Err(StoreError::Stopped)
    }
}
