//! Random sequences of calls against a small model in memory: rows, timers, claims, the log's length.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::adapters::store::{Advance, Completion};
use crate::core::model::ImportStats;

/// Few names, slots and due times, so that calls meet.
#[derive(Clone, Debug)]
enum Call {
    Put {
        name: usize,
        interval_sec: u32,
        due: Option<Millis>,
        told: bool,
    },
    Delete {
        name: usize,
    },
    /// A put that succeeds together with one that cannot.
    Refused {
        name: usize,
    },
    Claim {
        name: usize,
        nominal: Millis,
        to: Option<Millis>,
        told: bool,
    },
    Advance {
        name: usize,
        from: Millis,
        to: Option<Millis>,
    },
    /// Ends the open run at this place, counted round.
    Complete {
        nth: usize,
        ok: bool,
    },
    Reopen,
}

const NAMES: [&str; 4] = ["noop/a", "noop/b", "acculynx/a", "acculynx/b"];

fn call() -> impl Strategy<Value = Call> {
    let (name, slot) = (0..NAMES.len(), 0..5_i64);
    let due = proptest::option::of(slot.clone());
    prop_oneof![
        4 => (name.clone(), 1..9_u32, due.clone(), any::<bool>())
            .prop_map(|(name, interval_sec, due, told)| Call::Put { name, interval_sec, due, told }),
        2 => name.clone().prop_map(|name| Call::Delete { name }),
        1 => name.clone().prop_map(|name| Call::Refused { name }),
        4 => (name.clone(), slot.clone(), due.clone(), any::<bool>())
            .prop_map(|(name, nominal, to, told)| Call::Claim { name, nominal, to, told }),
        3 => (name, slot, due).prop_map(|(name, from, to)| Call::Advance { name, from, to }),
        3 => (0..20_usize, any::<bool>()).prop_map(|(nth, ok)| Call::Complete { nth, ok }),
        1 => Just(Call::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    key: i64,
    interval_sec: u32,
    due: Option<Millis>,
    last_ok: Option<bool>,
    failures: u32,
}

/// A run that has not ended, with the row it was claimed for.
#[derive(Clone, Copy, Debug)]
struct Open {
    run: i64,
    row: i64,
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<&'static str, Row>,
    slots: BTreeSet<(&'static str, Millis)>,
    open: Vec<Open>,
    highest_key: i64,
    entries: u64,
}

impl Model {
    fn key(&self, name: &str) -> i64 {
        self.rows.get(name).map_or(-1, |row| row.key)
    }

    fn advance(&mut self, name: &str, from: Millis, to: Option<Millis>) {
        if let Some(row) = self.rows.get_mut(name).filter(|row| row.due == Some(from)) {
            row.due = to;
        }
    }

    async fn step<S: Site>(&mut self, call: &Call, site: &S, store: &mut SharedStore) {
        match *call {
            Call::Put { name, interval_sec, due, told } => {
                self.put(store, NAMES[name], interval_sec, due, told).await;
            }
            Call::Delete { name } => {
                let name = NAMES[name];
                let expect = self.rows.remove(name).map_or(0, |row| row.key);
                assert_eq!(apply(store, vec![change(name, ChangeKind::Delete)]).await.rows, [expect]);
            }
            Call::Refused { name } => {
                if let Some(taken) = self.rows.values().next().map(|row| row.key) {
                    let group = vec![put(NAMES[name], 99, Some(99)), impossible("noop/new", taken)];
                    store.apply(group, Vec::new(), NOW).await.unwrap_err();
                }
            }
            Call::Claim { name, nominal, to, told } => self.claim(store, NAMES[name], nominal, to, told).await,
            Call::Advance { name, from, to } => {
                store
                    .advance(vec![Advance {
                        row: self.key(NAMES[name]),
                        from,
                        to,
                        applied: None,
                        missed: Missed::NONE,
                    }])
                    .await
                    .unwrap();
                self.advance(NAMES[name], from, to);
            }
            Call::Complete { nth, ok } => self.complete(store, nth, ok).await,
            Call::Reopen => {
                store.close();
                *store = site.open();
            }
        }
    }

    async fn put(&mut self, store: &SharedStore, name: &'static str, interval: u32, due: Option<Millis>, told: bool) {
        let audit = if told { vec![draft(name)] } else { Vec::new() };
        self.entries += u64::from(told);
        let key = apply(store, vec![Change { audit, ..put(name, interval, due) }]).await.rows[0];
        let (highest, known) = (self.highest_key, self.rows.get(name).cloned());
        let known = known.unwrap_or_else(|| {
            assert!(key > highest, "key {key} was given before");
            Row { key, interval_sec: 0, due: None, last_ok: None, failures: 0 }
        });
        assert_eq!(key, known.key);
        self.highest_key = highest.max(key);
        let failures = if known.due.is_none() && due.is_some() { 0 } else { known.failures };
        self.rows.insert(name, Row { interval_sec: interval, due, failures, ..known });
    }

    async fn claim(
        &mut self,
        store: &SharedStore,
        name: &'static str,
        nominal: Millis,
        to: Option<Millis>,
        told: bool,
    ) {
        let advance = Advance { row: self.key(name), from: nominal, to, applied: None, missed: Missed::NONE };
        let audit = if told { vec![draft(name)] } else { Vec::new() };
        let asked = Claim { advance: Some(advance), audit, ..claim(name, nominal) };
        let granted = store.claim(vec![asked], NOW).await.unwrap().remove(0).run();
        assert_eq!(granted.is_some(), self.slots.insert((name, nominal)));
        if let Some(claimed) = granted {
            assert_eq!(claimed.seqs.len(), usize::from(told));
            self.entries += u64::from(told);
            self.open.push(Open { run: claimed.run, row: self.key(name) });
        }
        self.advance(name, nominal, to);
    }

    async fn complete(&mut self, store: &SharedStore, nth: usize, ok: bool) {
        if self.open.is_empty() {
            return;
        }
        let Open { run, row } = self.open.remove(nth % self.open.len());
        let (message, stats) = (String::new(), ImportStats::default());
        store.complete(Completion { ok, message, stats, ..end(run, row) }).await.unwrap();
        if let Some(row) = self.rows.values_mut().find(|known| known.key == row) {
            row.last_ok = Some(ok);
            row.failures = if ok { 0 } else { row.failures + 1 };
        }
    }

    async fn assert_equal(&self, store: &SharedStore) {
        for name in NAMES {
            let found = store.schedule(id(name)).await.unwrap().map(|row| Row {
                key: row.row,
                interval_sec: row.spec.interval_sec.unwrap_or(0),
                due: row.next_due,
                last_ok: row.last.ok,
                failures: row.last.failures,
            });
            assert_eq!(found.as_ref(), self.rows.get(name), "{name}");
        }
        let mut open: Vec<_> = self.open.iter().map(|open| open.run).collect();
        open.sort_unstable();
        let found: Vec<_> = store.open_runs().await.unwrap().iter().map(|open| open.run).collect();
        assert_eq!(found, open);
        let counts = store.fleet_counts().await.unwrap();
        assert_eq!((counts.schedules, counts.runs_total), (self.rows.len() as u64, self.slots.len() as u64));
    }
}

/// Shrinks to the shortest sequence that differs.
pub fn agrees<S: Site>(new: impl Fn() -> S) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let sequences = proptest::collection::vec(call(), 1..40);
    let outcome = TestRunner::new(config).run(&sequences, |calls| {
        let site = new();
        runtime.block_on(async {
            let (mut model, mut store) = (Model::default(), site.open());
            for call in &calls {
                model.step(call, &site, &mut store).await;
                model.assert_equal(&store).await;
            }
            assert_whole(&store, model.entries).await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
