//! Records read and deleted. Deleting is one small write whatever their number: a higher *epoch* for
//! the resource hides every record of a lower one, and the space is given back bit by bit.

use futures_util::FutureExt as _;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Result, params_from_iter};

use super::writer::{Lane, Work};
use super::{SqliteStore, read};
use crate::adapters::store::{RecordPage, RecordQuery, RecordStore, ResourceCount, StoreFuture, StoredRecord};
use crate::core::audit::Draft;
use crate::core::model::{Digest, Millis, Resource, ScheduleId};

/// Of a row of `records`: whether it has not been deleted.
const IS_THERE: &str = "epoch >= ifnull((SELECT p.epoch FROM purges p WHERE p.connector = records.connector
                                         AND p.tenant = records.tenant AND p.resource = records.resource), 0)";

impl RecordStore for SqliteStore {
    fn records(&self, query: RecordQuery) -> StoreFuture<'_, RecordPage> {
        self.answer_later("read records", move |connection| page(connection, &query))
    }

    fn record_counts(&self, id: ScheduleId, resource: Option<Resource>) -> StoreFuture<'_, Vec<ResourceCount>> {
        self.answer_later("count records", move |connection| counts(connection, &id, resource.as_ref()))
    }

    fn delete_records(
        &self,
        id: ScheduleId,
        resource: Option<Resource>,
        draft: Draft,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>> {
        // In the lane of the pages, so that it goes before none that was handed in earlier.
        self.writer.submit(Lane::Completion, "delete records", move |work| {
            delete(work, &id, resource.as_ref())?;
            work.append(vec![draft], now)
        })
    }

    fn purge_records(&self, limit: u32) -> StoreFuture<'_, bool> {
        let pending = self.read("look for deleted records", |connection| {
            connection.query_row("SELECT EXISTS (SELECT 1 FROM purges WHERE done = 0)", [], |row| row.get(0))
        });
        match pending {
            Ok(true) => self.writer.submit(Lane::Completion, "remove records", move |work| purge(work, limit)),
            nothing => std::future::ready(nothing).boxed(),
        }
    }
}

fn page(connection: &Connection, query: &RecordQuery) -> Result<RecordPage> {
    let payload = if query.with_payload { "payload" } else { "NULL" };
    let mut sql = format!(
        "SELECT resource, key, hash, first_seen_ms, last_seen_ms, ifnull(changed_ms, last_seen_ms), {payload}
         FROM records WHERE connector = ?1 AND tenant = ?2 AND {IS_THERE}"
    );
    let text = |value: &str| Sql::Text(value.to_owned());
    let mut values = vec![text(query.id.connector.as_str()), text(query.id.tenant.as_str())];
    let mut when = |condition: &str, given: Vec<Sql>| {
        let first = values.len() + 1;
        sql.push_str(&condition.replace("?a", &format!("?{first}")).replace("?b", &format!("?{}", first + 1)));
        values.extend(given);
    };
    if let Some(resource) = &query.resource {
        when(" AND resource = ?a", vec![text(resource.as_str())]);
    }
    if let Some(key) = &query.key {
        when(" AND key = ?a", vec![text(key)]);
    }
    if let Some(since) = query.changed_since {
        when(" AND ifnull(changed_ms, last_seen_ms) >= ?a", vec![Sql::Integer(since)]);
    }
    if let Some((resource, key)) = &query.after {
        when(" AND (resource, key) > (?a, ?b)", vec![text(resource), text(key)]);
    }
    when(" ORDER BY resource, key LIMIT ?a", vec![Sql::Integer(i64::from(query.limit) + 1)]);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut found, mut bytes) = (RecordPage::default(), 0);
    while let Some(row) = rows.next()? {
        if found.records.len() >= query.limit as usize || bytes >= query.max_bytes {
            found.has_more = true;
            break;
        }
        let payload: Option<String> = row.get(6)?;
        bytes += payload.as_ref().map_or(0, String::len);
        found.records.push(StoredRecord {
            resource: row.get(0)?,
            key: row.get(1)?,
            hash: Digest(row.get(2)?),
            first_seen: row.get(3)?,
            last_seen: row.get(4)?,
            changed: row.get(5)?,
            payload,
        });
    }
    Ok(found)
}

fn counts(connection: &Connection, id: &ScheduleId, resource: Option<&Resource>) -> Result<Vec<ResourceCount>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT resource, sum(records), sum(bytes), max(newest), max(changed), max(marked) FROM (
           SELECT resource, count(*) AS records, sum(octet_length(payload)) AS bytes, max(first_seen_ms) AS newest,
                  max(ifnull(changed_ms, last_seen_ms)) AS changed, 0 AS marked
           FROM records WHERE connector = ?1 AND tenant = ?2 AND (?3 IS NULL OR resource = ?3) AND {IS_THERE}
           GROUP BY resource
           UNION ALL
           SELECT resource, 0, 0, NULL, NULL, 1 FROM bookmarks
           WHERE connector = ?1 AND tenant = ?2 AND (?3 IS NULL OR resource = ?3))
         GROUP BY resource ORDER BY resource"
    ))?;
    let rows =
        statement.query_map((id.connector.as_str(), id.tenant.as_str(), resource.map(Resource::as_str)), |row| {
            Ok(ResourceCount {
                resource: row.get(0)?,
                records: read::count(row, 1)?,
                bytes: read::count(row, 2)?,
                newest: row.get(3)?,
                changed: row.get(4)?,
                has_bookmark: row.get(5)?,
            })
        })?;
    rows.collect()
}

fn delete(work: &mut Work<'_>, id: &ScheduleId, resource: Option<&Resource>) -> Result<()> {
    let (connector, tenant) = (id.connector.as_str(), id.tenant.as_str());
    if let Some(resource) = resource {
        delete_resource(work, connector, tenant, resource.as_str())?;
        return match id.connector.shared_bookmark() {
            Some(shared) => delete_bookmark(work, connector, tenant, shared.as_str()),
            None => Ok(()),
        };
    }
    let mut last = String::new();
    loop {
        let next: Option<String> = work.value(
            "SELECT min(resource) FROM (
               SELECT min(resource) AS resource FROM records WHERE connector = ?1 AND tenant = ?2 AND resource > ?3
               UNION ALL
               SELECT min(resource) FROM bookmarks WHERE connector = ?1 AND tenant = ?2 AND resource > ?3)",
            &[&connector, &tenant, &last],
        )?;
        let Some(next) = next else { return Ok(()) };
        delete_resource(work, connector, tenant, &next)?;
        last = next;
    }
}

fn delete_resource(work: &mut Work<'_>, connector: &str, tenant: &str, resource: &str) -> Result<()> {
    work.execute(
        "INSERT INTO purges (connector, tenant, resource, epoch, done) VALUES (?1, ?2, ?3, 1, 0)
         ON CONFLICT (connector, tenant, resource) DO UPDATE SET epoch = epoch + 1, done = 0, reached = NULL",
        (connector, tenant, resource),
    )?;
    delete_bookmark(work, connector, tenant, resource)
}

fn delete_bookmark(work: &mut Work<'_>, connector: &str, tenant: &str, resource: &str) -> Result<()> {
    let key = (connector, tenant, resource);
    work.execute("DELETE FROM bookmarks WHERE connector = ?1 AND tenant = ?2 AND resource = ?3", key).map(|_| ())
}

/// The epoch in which a resource's records are written.
pub(super) fn epoch(work: &Work<'_>, id: &ScheduleId, resource: &str) -> Result<i64> {
    let found = work.row(
        "SELECT epoch FROM purges WHERE connector = ?1 AND tenant = ?2 AND resource = ?3",
        (id.connector.as_str(), id.tenant.as_str(), resource),
        |row| row.get(0),
    )?;
    Ok(found.unwrap_or(0))
}

struct Purge {
    connector: String,
    tenant: String,
    resource: String,
    epoch: i64,
    /// The key up to which it has come.
    reached: Option<String>,
}

/// Goes on with one purge by `limit` keys. Records that came again since are passed over.
fn purge(work: &mut Work<'_>, limit: u32) -> Result<bool> {
    const UNDONE: &str = "SELECT connector, tenant, resource, epoch, reached FROM purges WHERE done = 0 LIMIT 1";
    let found = work.row(UNDONE, [], |row| {
        Ok(Purge {
            connector: row.get(0)?,
            tenant: row.get(1)?,
            resource: row.get(2)?,
            epoch: row.get(3)?,
            reached: row.get(4)?,
        })
    })?;
    let Some(Purge { connector, tenant, resource, epoch, reached }) = found else { return Ok(false) };
    // No key comes before the empty one, which a comparison by > would miss.
    let from = if reached.is_some() { "key > ?4" } else { "key >= ?4" };
    let of = format!("connector = ?1 AND tenant = ?2 AND resource = ?3 AND {from}");
    let reached = reached.unwrap_or_default();
    let last: Option<String> = work.row(
        &format!("SELECT key FROM records WHERE {of} ORDER BY key LIMIT 1 OFFSET ?5"),
        (&connector, &tenant, &resource, &reached, limit.saturating_sub(1)),
        |row| row.get(0),
    )?;
    match &last {
        Some(last) => work.execute(
            &format!("DELETE FROM records WHERE {of} AND key <= ?6 AND epoch < ?5"),
            (&connector, &tenant, &resource, &reached, epoch, last),
        )?,
        None => work.execute(
            &format!("DELETE FROM records WHERE {of} AND epoch < ?5"),
            (&connector, &tenant, &resource, &reached, epoch),
        )?,
    };
    work.execute(
        "UPDATE purges SET reached = ?4, done = ?5 WHERE connector = ?1 AND tenant = ?2 AND resource = ?3",
        (&connector, &tenant, &resource, &last, last.is_none()),
    )?;
    work.row("SELECT 1 FROM purges WHERE done = 0 LIMIT 1", [], |_| Ok(())).map(|more| more.is_some())
}
