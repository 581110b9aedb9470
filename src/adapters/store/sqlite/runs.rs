//! Runs as the writer writes them: claims, attempts, ends.

use rusqlite::{Connection, Result};

use super::writer::Work;
use crate::adapters::store::{Advance, Claim, Claimed, Completion, Granted, OpenRun, Parked};
use crate::core::audit::Draft;
use crate::core::missed::{Miss, Missed};
use crate::core::model::{ImportStats, Millis, ScheduleId};
use crate::core::policy::Overlap;
use crate::core::run::{RunState, Trigger};

pub(super) fn claim(work: &mut Work<'_>, claims: Vec<Claim>, now: Millis) -> Result<Vec<Granted>> {
    let mut outrun: Option<ScheduleId> = None;
    let granted = claims.into_iter().map(|claim| {
        let is_outrun = match &claim.advance {
            Some(advance) => !is_as_known(work, advance)?,
            None => outrun.as_ref() == Some(&claim.id),
        };
        if is_outrun {
            outrun = Some(claim.id);
            return Ok(Granted::Outrun);
        }
        outrun = None;
        claim_one(work, claim, now)
    });
    granted.collect()
}

/// Whether what is applied is what whoever moves the timer knows of.
fn is_as_known(work: &mut Work<'_>, advance: &Advance) -> Result<bool> {
    let Some(known) = advance.applied else { return Ok(true) };
    let found = "SELECT 1 FROM schedules WHERE id = ?1 AND fingerprint = ?2";
    Ok(work.row(found, (advance.row, known), |_| Ok(()))?.is_some())
}

fn claim_one(work: &mut Work<'_>, claim: Claim, now: Millis) -> Result<Granted> {
    let schedule = claim.id.to_string();
    let open = open_of(work, &schedule)?;
    let queued = match claim.overlap {
        Some(Overlap::Allow) => Some(false),
        Some(Overlap::Skip) => (open.busy == 0).then_some(open.any > 0),
        Some(Overlap::QueueOne | Overlap::Cancel) => (open.queued == 0).then_some(open.any > 0),
        None => Some(open.any > 0),
    };
    let granted = match queued {
        None => Granted::Overlap,
        Some(is_queued) => insert(work, &schedule, &claim, is_queued || claim.begins_later(), now)?,
    };
    if let Some(advance) = &claim.advance {
        let missed = advance.missed.and(Miss::Overlap, u32::from(granted == Granted::Overlap));
        move_timer(work, &Advance { missed, ..*advance })?;
    }
    Ok(match granted {
        Granted::Run(claimed) => Granted::Run(Claimed { seqs: work.append(claim.audit, now)?, ..claimed }),
        passed => passed,
    })
}

/// A schedule's runs that are not done, without those between two attempts, which give way.
struct Open {
    any: i64,
    /// Those that a slot has to heed: not slots of the past, run on request, which line up behind it, nor
    /// the reading of a few records, which is soon over.
    busy: i64,
    /// Of these, the ones that have not begun.
    queued: i64,
}

fn open_of(work: &mut Work<'_>, schedule: &str) -> Result<Open> {
    let open = work.row(
        "SELECT count(*), count(*) FILTER (WHERE trigger NOT IN ('backfill', 'webhook')),
                count(*) FILTER (WHERE trigger NOT IN ('backfill', 'webhook') AND state = 'queued')
         FROM runs WHERE schedule = ?1 AND ended_ms IS NULL AND state <> 'waiting'",
        [schedule],
        |row| Ok(Open { any: row.get(0)?, busy: row.get(1)?, queued: row.get(2)? }),
    )?;
    Ok(open.unwrap_or(Open { any: 0, busy: 0, queued: 0 }))
}

fn insert(work: &mut Work<'_>, schedule: &str, claim: &Claim, is_queued: bool, now: Millis) -> Result<Granted> {
    let (run, term) = (work.new_run(), work.term);
    let guard = Some(claim).filter(|claim| claim.is_of_rhythm());
    let state = if is_queued { RunState::Queued } else { RunState::Running };
    let taken = work.execute(
        "INSERT OR IGNORE INTO runs (id, schedule, nominal_ms, trigger, state, term, started_ms, attempts, asked_by,
                                     action_id)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
         WHERE NOT EXISTS (
           SELECT 1 FROM timers
           WHERE id = ifnull(?11, (SELECT id FROM schedules WHERE connector = ?12 AND tenant = ?13))
             AND pruned_ms >= ?3)",
        rusqlite::params![
            run,
            schedule,
            claim.nominal,
            claim.trigger.as_str(),
            state.as_str(),
            term,
            now,
            claim.attempts,
            claim.asked.as_ref().map(|asked| &asked.by),
            claim.asked.as_ref().map(|asked| &asked.action_id),
            guard.and_then(|claim| claim.advance.as_ref()).map(|advance| advance.row),
            guard.map(|claim| claim.id.connector.as_str()),
            guard.map(|claim| claim.id.tenant.as_str()),
        ],
    )?;
    Ok(if taken > 0 { Granted::Run(Claimed { run, is_queued, seqs: Vec::new() }) } else { Granted::Taken })
}

pub(super) fn advance(work: &mut Work<'_>, advances: &[Advance]) -> Result<Vec<bool>> {
    let moved = advances.iter().map(|advance| {
        let is_as_known = is_as_known(work, advance)?;
        if is_as_known {
            move_timer(work, advance)?;
        }
        Ok(is_as_known)
    });
    moved.collect()
}

pub(super) fn lift(work: &mut Work<'_>, lifts: Vec<(Advance, Draft)>, now: Millis) -> Result<Vec<bool>> {
    let lifted = lifts.into_iter().map(|(advance, entry)| {
        let is_as_known = is_as_known(work, &advance)?;
        if is_as_known && move_timer(work, &advance)? > 0 {
            work.append(vec![entry], now)?;
        }
        Ok(is_as_known)
    });
    lifted.collect()
}

/// Returns how many timers stood where it was to move from.
fn move_timer(work: &mut Work<'_>, advance: &Advance) -> Result<usize> {
    let moved = work.execute(
        "UPDATE timers SET next_due_ms = ?3 WHERE id = ?1 AND next_due_ms = ?2",
        (advance.row, advance.from, advance.to),
    )?;
    if moved > 0 {
        count_missed(work, advance.row, advance.missed)?;
    }
    Ok(moved)
}

fn count_missed(work: &mut Work<'_>, row: i64, missed: Missed) -> Result<()> {
    if missed == Missed::NONE {
        return Ok(());
    }
    let of = |why| missed.get(why);
    work.execute(
        "UPDATE timers SET missed_folded = missed_folded + ?2, missed_overlap = missed_overlap + ?3,
                missed_brake = missed_brake + ?4, missed_window = missed_window + ?5,
                missed_deadline = missed_deadline + ?6
         WHERE id = ?1",
        (row, of(Miss::Folded), of(Miss::Overlap), of(Miss::Brake), of(Miss::Window), of(Miss::Deadline)),
    )
    .map(|_| ())
}

/// A run that had waited goes on. Returns whether it still may.
pub(super) fn begin(work: &mut Work<'_>, run: i64) -> Result<bool> {
    let term = work.term;
    // Whoever claimed it may have been another before this one.
    let begun = work.execute(
        "UPDATE runs SET state = 'running', retry_at_ms = NULL, term = ?2 WHERE id = ?1 AND ended_ms IS NULL",
        (run, term),
    );
    Ok(begun? > 0)
}

pub(super) fn park(work: &mut Work<'_>, parked: &Parked) -> Result<()> {
    work.execute(
        "UPDATE runs SET state = 'waiting', attempts = ?2, retry_at_ms = ?3, message = ?4, error_class = ?5, log = ?6
         WHERE id = ?1 AND ended_ms IS NULL",
        (parked.run, parked.attempts, parked.retry_at, &parked.message, parked.error_class, &parked.log),
    )
    .map(|_| ())
}

/// Adds what pages brought to the counts of their run, so that these are true wherever it is cut off.
pub(super) fn add_counts(work: &mut Work<'_>, run: i64, stats: ImportStats) -> Result<()> {
    if stats == ImportStats::default() {
        return Ok(());
    }
    let known = "SELECT stats FROM runs WHERE id = ?1 AND ended_ms IS NULL";
    let Some(known) = work.row(known, [run], |row| row.get::<_, Option<String>>(0))? else { return Ok(()) };
    let mut sum = counts_of(known.as_deref());
    sum += stats;
    let text = serde_json::to_string(&sum).unwrap_or_default();
    work.execute("UPDATE runs SET stats = ?2 WHERE id = ?1", (run, text)).map(|_| ())
}

fn counts_of(text: Option<&str>) -> ImportStats {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The run's end, once, and the schedule's last run if the schedule still exists. Returns its
/// failures in a row.
pub(super) fn complete(work: &mut Work<'_>, completion: &Completion) -> Result<u32> {
    let stats = completion.stats_text();
    let ended = work.row(
        "UPDATE runs SET state = ?2, ended_ms = ?3, ok = ?4, message = ?5, error_class = ?6, stats = ?7,
                started_ms = ?8, attempts = ?9, log = ?10, retry_at_ms = NULL
         WHERE id = ?1 AND ended_ms IS NULL
         RETURNING CASE WHEN trigger = 'schedule' AND error_class IS NOT 'deadline' THEN started_ms - nominal_ms END",
        rusqlite::params![
            completion.run,
            completion.state.as_str(),
            completion.ended,
            completion.ok,
            &completion.message,
            completion.error_class,
            &stats,
            completion.started,
            completion.attempts,
            &completion.log,
        ],
        |row| row.get::<_, Option<Millis>>(0),
    )?;
    let Some(late_ms) = ended else { return Ok(0) };
    if completion.is_deadline_missed() {
        count_missed(work, completion.row, Missed::of(Miss::Deadline, 1))?;
    }
    let failures = work.row(
        "UPDATE timers SET last_run_ms = ?2, last_ok = ?3, last_message = ?4, last_stats = ?5,
                           failures = CASE WHEN ?3 THEN 0 ELSE failures + ?6 END,
                           last_late_ms = coalesce(max(?7, 0), last_late_ms)
         WHERE id = ?1 RETURNING failures",
        (
            completion.row,
            completion.ended,
            completion.ok,
            &completion.message,
            &stats,
            u32::from(completion.state.counts()),
            late_ms,
        ),
        |row| row.get(0),
    )?;
    if let Some(volume) = &completion.volume {
        work.execute("UPDATE timers SET volumes = ?2 WHERE id = ?1", (completion.row, &volume.recent))?;
        if let Some((_, entry)) = &volume.short {
            work.append(vec![entry.clone()], completion.ended)?;
        }
    }
    Ok(failures.unwrap_or(0))
}

pub(super) fn open(connection: &Connection) -> Result<Vec<OpenRun>> {
    let mut statement = connection.prepare(
        "SELECT id, schedule, nominal_ms, trigger, state, started_ms, attempts, retry_at_ms, log, stats
         FROM runs WHERE ended_ms IS NULL ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        let id: Option<ScheduleId> = row.get_ref(1)?.as_str()?.parse().ok();
        // What a newer version wrote is treated like what was asked for by hand.
        let trigger = Trigger::named(row.get_ref(3)?.as_str()?).unwrap_or(Trigger::RunNow);
        let state = RunState::named(row.get_ref(4)?.as_str()?).unwrap_or(RunState::Running);
        let Some(id) = id else { return Ok(None) };
        Ok(Some(OpenRun {
            run: row.get(0)?,
            id,
            nominal: row.get(2)?,
            trigger,
            state,
            started: row.get(5)?,
            attempts: row.get(6)?,
            retry_at: row.get(7)?,
            log: row.get(8)?,
            stats: counts_of(row.get::<_, Option<String>>(9)?.as_deref()),
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}
