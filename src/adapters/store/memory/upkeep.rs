//! A store in memory has nothing that could be damaged, and nothing to copy.

use std::path::PathBuf;

use futures_util::FutureExt as _;

use super::super::{Depth, Frozen, Soundness, StoreFuture, Upkeep};
use super::{MemoryStore, failed};
use crate::core::audit::Draft;
use crate::core::model::Millis;

impl Upkeep for MemoryStore {
    fn freeze(&self, _: Millis) -> StoreFuture<'_, Frozen> {
        std::future::ready(Err(failed("copy the store", "it is kept in memory"))).boxed()
    }

    fn check(&self, _: Depth, _: bool) -> StoreFuture<'_, Soundness> {
        std::future::ready(Ok(Soundness::Sound)).boxed()
    }

    fn wants_check(&self) -> bool {
        false
    }

    fn is_in_place(&self) -> bool {
        true
    }

    fn leave_to(&self, _: PathBuf) -> StoreFuture<'_, ()> {
        std::future::ready(Err(failed("copy the store", "it is kept in memory"))).boxed()
    }

    fn changes(&self) -> u64 {
        0
    }

    fn suspicion(&self) -> Option<String> {
        None
    }

    fn fact(&self, name: &'static str) -> StoreFuture<'_, Option<String>> {
        self.read("read a fact", move |tables| tables.facts.get(name).cloned())
    }

    fn put_fact(
        &self,
        name: &'static str,
        value: Option<String>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>> {
        self.write("write down a fact", move |tables| {
            match value {
                Some(value) => tables.facts.insert(name, value),
                None => tables.facts.remove(name),
            };
            Ok(tables.append(drafts, now))
        })
    }
}
