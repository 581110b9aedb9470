//! The store in memory through the suite of all stores: the simulated world stands on it.

use super::*;
use crate::adapters::store::SharedStore;
use crate::adapters::store::conformance::{Site, store_conformance};

#[derive(Default)]
struct Place(Arc<Platter>);

impl Site for Place {
    fn open(&self) -> SharedStore {
        Arc::new(MemoryStore::open(self.0.clone(), Arc::new(Calm)))
    }

    fn write_past(&self) {
        self.0.by_hand(|_| ());
    }

    fn refuse_record(&self, key: &str) {
        self.0.by_hand(|tables| tables.refused_record = Some(key.to_owned()));
    }

    fn terms(&self) -> Vec<i64> {
        self.0.look(|tables| tables.runs.values().map(|run| run.term).collect())
    }
}

store_conformance!(Place::default());
