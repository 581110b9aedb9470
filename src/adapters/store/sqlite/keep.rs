//! SQLite as a store whose log is sealed and whose history is bounded.

use futures_util::FutureExt as _;

use super::writer::Lane;
use super::{SqliteStore, audit, growth, seal};
use crate::adapters::store::{AuditStore, Pruned, Seal, SealedFacts, StoreFuture};
use crate::core::audit::Head;
use crate::core::model::Millis;
use crate::core::retention::KeepRevisions;

impl AuditStore for SqliteStore {
    fn store_id(&self) -> StoreFuture<'_, String> {
        self.answer_now("read which store it is", |connection| {
            connection.query_row("SELECT value FROM facts WHERE name = 'store_id'", [], |row| row.get(0))
        })
    }

    fn audit_at(&self, seq: i64) -> StoreFuture<'_, Option<Head>> {
        self.answer_later("read an audit entry", move |connection| audit::at(connection, seq))
    }

    fn seal_audit(&self, live: u64, block: u32) -> StoreFuture<'_, Seal> {
        async move {
            let found =
                self.answer_later("read entries to seal", move |connection| seal::prepare(connection, live, block));
            let block = match found.await? {
                None => return Ok(Seal::Nothing),
                Some(Err(bad)) => return Ok(Seal::Refused(bad.to_string())),
                Some(Ok(block)) => block,
            };
            let sealed =
                self.writer.submit(Lane::Completion, "seal audit entries", move |work| seal::exchange(work, &block));
            Ok(sealed.await?.map_or(Seal::Nothing, Seal::Done))
        }
        .boxed()
    }

    fn sealed(&self) -> StoreFuture<'_, SealedFacts> {
        self.answer_later("read what is sealed", audit::sealed)
    }

    fn prune_revisions(&self, after: Option<String>, keep: KeepRevisions, now: Millis) -> StoreFuture<'_, Pruned> {
        async move {
            let found = self.answer_later("look for old revisions", move |connection| {
                growth::outdated(connection, after, keep, now)
            });
            let growth::Found { rows, next } = found.await?;
            let mut removed = 0;
            if !rows.is_empty() {
                removed = self
                    .writer
                    .submit(Lane::Completion, "forget old revisions", move |work| growth::forget_revisions(work, &rows))
                    .await?;
            }
            if next.is_none() {
                self.forget_contents().await?;
            }
            Ok(Pruned { removed, next })
        }
        .boxed()
    }

    fn prune_records(&self, after: Option<String>, before: Millis) -> StoreFuture<'_, Pruned> {
        async move {
            let found = self.answer_later("look for records unseen for long", move |connection| {
                growth::unseen(connection, after, before)
            });
            let growth::Found { rows, next } = found.await?;
            if rows.is_empty() {
                return Ok(Pruned { removed: 0, next });
            }
            let removed = self.writer.submit(Lane::Completion, "forget records unseen for long", move |work| {
                growth::forget_records(work, &rows, before)
            });
            Ok(Pruned { removed: removed.await?, next })
        }
        .boxed()
    }
}

impl SqliteStore {
    /// Once all schedules were visited: contents that no revision has any more.
    async fn forget_contents(&self) -> crate::adapters::store::StoreResult<()> {
        loop {
            let unused = self.answer_later("look for contents without a revision", growth::unused_contents).await?;
            if unused.is_empty() {
                return Ok(());
            }
            let removed = self
                .writer
                .submit(Lane::Completion, "forget contents", move |work| growth::forget_contents(work, &unused));
            if removed.await? == 0 {
                return Ok(());
            }
        }
    }
}
