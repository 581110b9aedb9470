//! The history of runs, read and pruned. The index of slots serves one tenant's page, the key serves
//! all; pruning walks the schedules, reads off the writer's thread what goes, and hands that in bit by bit.

use futures_util::FutureExt as _;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params_from_iter};

use super::writer::{Lane, Work};
use super::{Readers, SqliteStore};
use crate::adapters::store::runs::read_stats;
use crate::adapters::store::{PastRun, Pruned, RunHistory, RunPage, RunQuery, StoreError, StoreFuture};
use crate::core::model::{Millis, ScheduleId};
use crate::core::retention::{Bounds, Candidate, Fate, Keep};
use crate::core::run::{RunState, Trigger};

/// Schedules that a step visits at most, and runs that it forgets, about.
const VISITS: usize = 500;
const REMOVALS: usize = 1_000;
/// Runs of one schedule looked at in a step.
const LOOKS: i64 = 2_000;
/// Runs forgotten in one transaction, some milliseconds.
const AT_ONCE: usize = 200;

impl RunHistory for SqliteStore {
    fn runs(&self, query: RunQuery) -> StoreFuture<'_, RunPage> {
        self.answer_later("read runs", move |connection| page(connection, &query))
    }

    fn run(&self, run: i64) -> StoreFuture<'_, Option<PastRun>> {
        self.answer_now("read a run", |connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS}, log FROM runs WHERE id = ?1"))?;
            let found = statement.query_row([run], |row| {
                let Some(run) = past_run(row)? else { return Ok(None) };
                Ok(Some(PastRun { log: row.get(15)?, ..run }))
            });
            found.optional().map(Option::flatten)
        })
    }

    fn volumes(&self, row: i64) -> StoreFuture<'_, String> {
        self.answer_now("read what imports brought", |connection| {
            let mut statement = connection.prepare_cached("SELECT volumes FROM timers WHERE id = ?1")?;
            let found: Option<Option<String>> = statement.query_row([row], |row| row.get(0)).optional()?;
            Ok(found.flatten().unwrap_or_default())
        })
    }

    fn prune_runs(&self, after: Option<String>, keep: Keep, now: Millis) -> StoreFuture<'_, Pruned> {
        let readers: std::sync::Arc<Readers> = self.readers.clone();
        async move {
            let found = tokio::task::spawn_blocking(move || {
                readers.with("look for old runs", |connection| outdated(connection, after, keep, now))
            });
            let Outdated { runs, next } = found.await.unwrap_or(Err(StoreError::Stopped))?;
            let mut removed = 0;
            for some in runs.chunks(AT_ONCE) {
                let some = some.to_vec();
                removed +=
                    self.writer.submit(Lane::Completion, "forget old runs", move |work| forget(work, &some)).await?;
            }
            Ok(Pruned { removed, next })
        }
        .boxed()
    }
}

const COLUMNS: &str = "id, schedule, nominal_ms, trigger, state, started_ms, ended_ms, ok, message, error_class, stats,
                       attempts, retry_at_ms, asked_by, action_id";

/// `None` for a run of a connector that this version does not know.
fn past_run(row: &Row<'_>) -> Result<Option<PastRun>> {
    let id: Option<ScheduleId> = row.get_ref(1)?.as_str()?.parse().ok();
    let Some(id) = id else { return Ok(None) };
    let (stats, short) = row.get::<_, Option<String>>(10)?.map(|text| read_stats(&text)).unwrap_or_default();
    Ok(Some(PastRun {
        run: row.get(0)?,
        id,
        nominal: row.get(2)?,
        trigger: Trigger::named(row.get_ref(3)?.as_str()?).unwrap_or(Trigger::RunNow),
        state: RunState::named(row.get_ref(4)?.as_str()?).unwrap_or(RunState::Done),
        started: row.get(5)?,
        ended: row.get(6)?,
        ok: row.get(7)?,
        message: row.get(8)?,
        error_class: row.get(9)?,
        stats,
        short,
        attempts: row.get(11)?,
        retry_at: row.get(12)?,
        asked_by: row.get(13)?,
        action_id: row.get(14)?,
        log: None,
    }))
}

fn page(connection: &Connection, query: &RunQuery) -> Result<RunPage> {
    let connector = query.connector.as_str();
    let mut values: Vec<Sql> = Vec::new();
    let place = if let Some(tenant) = &query.tenant {
        values.push(Sql::Text(format!("{connector}/{tenant}")));
        "nominal_ms"
    } else {
        values.push(Sql::Text(format!("{connector}/")));
        // What follows a slash.
        values.push(Sql::Text(format!("{connector}0")));
        "id"
    };
    let mut sql = format!("SELECT {COLUMNS} FROM runs WHERE ");
    sql.push_str(if query.tenant.is_some() { "schedule = ?1" } else { "+schedule >= ?1 AND +schedule < ?2" });
    let mut when = |condition: &str, value: Option<i64>| {
        if let Some(value) = value {
            values.push(Sql::Integer(value));
            sql.push_str(&format!(" AND {condition} ?{}", values.len()));
        }
    };
    when("nominal_ms >=", query.since);
    when("nominal_ms <", query.until);
    when(&format!("{place} <"), query.before);
    sql.push_str(&format!(" ORDER BY {place} DESC"));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut found, mut looked_at) = (RunPage::default(), 0);
    let mut last = None;
    while let Some(row) = rows.next()? {
        if found.runs.len() >= query.limit as usize || looked_at >= query.most_looked_at {
            found.next = last;
            break;
        }
        looked_at += 1;
        last = Some(row.get(if query.tenant.is_some() { 2 } else { 0 })?);
        if is_asked_for(row, query)? {
            found.runs.extend(past_run(row)?);
        }
    }
    Ok(found)
}

/// Asked of the columns themselves: most rows may not be.
fn is_asked_for(row: &Row<'_>, query: &RunQuery) -> Result<bool> {
    let is = |column: usize, text: Option<&str>| -> Result<bool> {
        Ok(text.is_none() || row.get_ref(column)?.as_str_or_null()? == text)
    };
    Ok(is(3, query.trigger.map(Trigger::as_str))?
        && is(4, query.state.map(RunState::as_str))?
        && is(9, query.error_class.as_deref())?
        && (query.ok.is_none() || row.get::<_, Option<bool>>(7)? == query.ok))
}

/// A run that goes, and the mark that keeps its slot from being taken again.
#[derive(Clone, Copy)]
struct Old {
    run: i64,
    nominal: Millis,
    /// Of its schedule, while there is one.
    row: Option<i64>,
}

struct Outdated {
    runs: Vec<Old>,
    next: Option<String>,
}

fn outdated(connection: &Connection, after: Option<String>, keep: Keep, now: Millis) -> Result<Outdated> {
    let mut found = Outdated { runs: Vec::new(), next: after };
    // The highest key stays: the next run's is counted from it.
    let highest: Option<i64> = connection.query_row("SELECT max(id) FROM runs", [], |row| row.get(0))?;
    let mut next = connection.prepare_cached("SELECT min(schedule) FROM runs WHERE schedule > ?1")?;
    for _ in 0..VISITS {
        let behind = found.next.take().unwrap_or_default();
        let name: Option<String> = next.query_row([&behind], |row| row.get(0))?;
        let Some(name) = name else { return Ok(found) };
        let before = found.runs.len();
        visit(connection, &name, keep, now, &mut found.runs)?;
        found.runs.retain(|old| Some(old.run) != highest);
        found.next = Some(name);
        if found.runs.len() >= REMOVALS && found.runs.len() > before {
            break;
        }
    }
    Ok(found)
}

/// Adds what one schedule has too much.
fn visit(connection: &Connection, name: &str, keep: Keep, now: Millis, old: &mut Vec<Old>) -> Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT id, spec FROM schedules WHERE connector = ?1 AND tenant = ?2")?;
    let known = statement
        .query_row(name.split_once('/').unwrap_or_default(), |row| {
            Ok((row.get::<_, i64>(0)?, keep.under(row.get_ref(1)?.as_str().unwrap_or_default())))
        })
        .optional()?;
    let row = known.map(|(row, _)| row);
    let keep = known.map_or(keep, |(_, keep)| keep);
    let slot = |sql: &str, offset: u32| -> Result<Option<Millis>> {
        connection.prepare_cached(sql)?.query_row((name, offset), |row| row.get(0)).optional()
    };
    const NTH: &str = "SELECT nominal_ms FROM runs WHERE schedule = ?1 ORDER BY nominal_ms DESC LIMIT 1 OFFSET ?2";
    let bounds = Bounds {
        beyond: if keep.runs > 0 { slot(NTH, keep.runs)? } else { None },
        oldest: keep.oldest(now),
        newest: if row.is_some() { slot(NTH, 0)? } else { None },
    };
    let mut last_ok = None;
    let mut statement = connection.prepare_cached(
        "SELECT id, nominal_ms, trigger, ended_ms, ok FROM runs WHERE schedule = ?1 ORDER BY nominal_ms LIMIT ?2",
    )?;
    let mut rows = statement.query((name, LOOKS))?;
    while let Some(found) = rows.next()? {
        let nominal = found.get(1)?;
        let trigger = Trigger::named(found.get_ref(2)?.as_str()?).unwrap_or(Trigger::RunNow);
        match bounds.fate(Candidate { nominal, trigger, ended: found.get(3)? }) {
            Fate::Goes => {}
            Fate::Stays => continue,
            Fate::StaysWithLater => break,
        }
        if row.is_some() && found.get::<_, Option<bool>>(4)? == Some(true) {
            let last = match last_ok {
                Some(last) => last,
                None => *last_ok.insert(last_success(connection, name)?),
            };
            if last == Some(nominal) {
                continue;
            }
        }
        old.push(Old { run: found.get(0)?, nominal, row });
    }
    Ok(())
}

fn last_success(connection: &Connection, name: &str) -> Result<Option<Millis>> {
    connection
        .prepare_cached("SELECT nominal_ms FROM runs WHERE schedule = ?1 AND ok = 1 ORDER BY nominal_ms DESC LIMIT 1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn forget(work: &mut Work<'_>, runs: &[Old]) -> Result<u64> {
    let mut removed = 0;
    for old in runs {
        removed += work.execute("DELETE FROM runs WHERE id = ?1 AND ended_ms IS NOT NULL", [old.run])? as u64;
        work.execute(
            "UPDATE timers SET pruned_ms = ?2 WHERE id = ?1 AND ifnull(pruned_ms, ?2 - 1) < ?2",
            (old.row, old.nominal),
        )?;
    }
    Ok(removed)
}
