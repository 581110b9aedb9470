//! The connector that does nothing and succeeds: for rehearsals and benchmarks of everything around it.

use futures_util::future::{BoxFuture, FutureExt};

use super::{Connect, ImportContext, ImportOutcome};
use crate::core::model::ImportStats;

/// Reads nothing, writes nothing, never fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

impl Connect for Noop {
    fn import(&self, _context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        std::future::ready(ImportOutcome { stats: ImportStats::default(), error: None, log: None }).boxed()
    }
}
