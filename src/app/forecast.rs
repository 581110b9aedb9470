//! What is to come: next starts, the load by minutes, and what a change of files would make of it.

use std::collections::BTreeMap;

use super::App;
use super::blocking::blocking;
use super::diff::foreseen;
use super::error::AppError;
use super::views::{FireView, ForecastAnswer, HourView, JumpView, LoadView, MinuteView, ScheduleForecast};
use crate::adapters::store::{SharedStore, SpecQuery, StoreError, StoreResult};
use crate::core::desired::Diagnostic;
use crate::core::forecast::{Forecast, Hour, JUMP_FIRES, Jump, Load, MAX_MINUTES, fires, jumps, warnings};
use crate::core::model::{Connector, Millis, ScheduleId, ScheduleSpec, Tenant};
use crate::core::timing::iso;
use crate::core::windows::Windows;

/// Minutes of a day.
const DAY: usize = 24 * 60;

/// Minutes whose jump is listed.
const MOST_JUMPS: usize = 100;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct ForecastQuery {
    pub connector: Option<Connector>,
    pub tenant: Option<Tenant>,
    /// How far to look ahead; a week at most.
    pub days: usize,
    /// Next starts of the tenant's schedules.
    pub count: usize,
}

/// What files would change of that which fires.
#[derive(Default)]
pub(super) struct Change {
    /// The values of schedules before and after.
    pub moves: BTreeMap<ScheduleId, (Option<ScheduleSpec>, Option<ScheduleSpec>)>,
    pub windows_before: Windows,
    pub windows_after: Windows,
    pub windows_move: bool,
}

impl App {
    /// Of what runs here.
    pub async fn forecast(&self, query: ForecastQuery) -> Result<ForecastAnswer, AppError> {
        let now = self.clock.now();
        let windows = (*self.windows()).clone();
        let mut forecast = Forecast::new(windows.clone(), now, query.days * DAY);
        let mut schedules = Vec::new();
        let mut rows = self.store.specs(SpecQuery { connector: query.connector });
        while let Some(batch) = rows.recv().await {
            for row in batch? {
                let is_wanted = query.tenant.as_ref().is_none_or(|tenant| row.id.tenant == *tenant);
                let Some(spec) = row.spec.spec().filter(|_| is_wanted) else { continue };
                forecast.add(&row.id, &spec);
                if query.tenant.is_some() {
                    schedules.push(next_starts(&row.id, &spec, &windows, now, query.count));
                }
            }
        }
        if let Some(tenant) = query.tenant.filter(|_| schedules.is_empty()) {
            let connector = query.connector.unwrap_or(Connector::Acculynx);
            return Err(AppError::NotFound(ScheduleId::new(connector, tenant)));
        }
        let load = blocking(move || forecast.finish()).await.map_err(|_| AppError::Store(StoreError::Stopped))?;
        Ok(answer(schedules, &load, None, Vec::new()))
    }

    /// Of a directory's files, beside what runs here.
    pub async fn forecast_of(&self, files: BTreeMap<String, String>, days: usize) -> Result<ForecastAnswer, AppError> {
        let now = self.clock.now();
        let (change, invalid) = foreseen(self, files, now).await?;
        let (before, after) = loads(&self.store, change, now, days * DAY).await?;
        Ok(answer(Vec::new(), &after, Some(&before), invalid))
    }
}

/// What is to be said of a change before it is made: minutes that it makes much busier.
pub(super) async fn warn(store: &SharedStore, change: Change, fleet: usize, now: Millis) -> StoreResult<Vec<String>> {
    if change.windows_move && fleet.max(change.moves.len()) < JUMP_FIRES as usize {
        return Ok(Vec::new());
    }
    if !change.windows_move {
        // Most changes are small, and then nothing else has to be read.
        let mut before = Forecast::new(change.windows_before.clone(), now, DAY);
        let mut after = Forecast::new(change.windows_after.clone(), now, DAY);
        for (id, (was, is)) in &change.moves {
            was.iter().for_each(|spec| before.add(id, spec));
            is.iter().for_each(|spec| after.add(id, spec));
        }
        let jump = move || {
            let (before, after) = (before.finish(), after.finish());
            let mut pairs = before.per_minute.iter().zip(&after.per_minute);
            pairs.any(|(before, after)| *after >= before.saturating_add(JUMP_FIRES))
        };
        if !blocking(jump).await.unwrap_or(false) {
            return Ok(Vec::new());
        }
    }
    let (before, after) = loads(store, change, now, DAY).await?;
    Ok(warnings(&before, &after))
}

/// The loads without and with a change.
async fn loads(store: &SharedStore, mut change: Change, now: Millis, minutes: usize) -> StoreResult<(Load, Load)> {
    let mut before = Forecast::new(change.windows_before, now, minutes);
    let mut after = Forecast::new(change.windows_after, now, minutes);
    let mut rows = store.specs(SpecQuery::default());
    while let Some(batch) = rows.recv().await {
        for row in batch? {
            let Some(spec) = row.spec.spec() else { continue };
            before.add(&row.id, &spec);
            match change.moves.remove(&row.id) {
                Some((_, is)) => is.iter().for_each(|spec| after.add(&row.id, spec)),
                None => after.add(&row.id, &spec),
            }
        }
    }
    for (id, (_, is)) in &change.moves {
        is.iter().for_each(|spec| after.add(id, spec));
    }
    let finished = blocking(move || (before.finish(), after.finish())).await;
    finished.map_err(|_| StoreError::Stopped)
}

fn next_starts(id: &ScheduleId, spec: &ScheduleSpec, windows: &Windows, now: Millis, count: usize) -> ScheduleForecast {
    let fires = fires(id, spec, windows, now, count);
    ScheduleForecast {
        connector: id.connector.to_string(),
        tenant: id.tenant.to_string(),
        paused: spec.is_paused_at(now),
        fires: fires
            .into_iter()
            .map(|fire| FireView {
                at_iso: iso(fire.at),
                nominal_iso: iso(fire.nominal),
                window: fire.window,
                folded: fire.folded,
            })
            .collect(),
    }
}

fn answer(
    schedules: Vec<ScheduleForecast>,
    load: &Load,
    before: Option<&Load>,
    invalid: Vec<Diagnostic>,
) -> ForecastAnswer {
    let jumps = before.map(|before| jumps(before, load)).unwrap_or_default();
    let minutes = Millis::try_from(load.per_minute.len().min(MAX_MINUTES)).unwrap_or(0);
    let jump = |jump: &Jump| JumpView { minute_iso: iso(jump.minute), before: jump.before, after: jump.after };
    ForecastAnswer {
        ok: invalid.is_empty(),
        from_iso: iso(load.from),
        until_iso: iso(load.from + minutes * 60_000),
        schedules,
        load: load_view(load),
        before: before.map(load_view),
        jumps: jumps.iter().take(MOST_JUMPS).map(jump).collect(),
        warnings: before.map(|before| warnings(before, load)).unwrap_or_default(),
        invalid,
    }
}

fn load_view(load: &Load) -> LoadView {
    let hour = |hour: Hour| HourView {
        hour_iso: iso(hour.begin),
        fires: hour.fires,
        peak_minute_iso: iso(hour.peak_minute),
        peak: hour.peak,
    };
    let minute = |(minute, fires): (Millis, u32)| MinuteView { minute_iso: iso(minute), fires };
    LoadView {
        schedules: load.schedules,
        fires: load.total(),
        median_minute: load.median(),
        busiest: load.busiest(10).into_iter().map(minute).collect(),
        hours: load.hours().into_iter().map(hour).collect(),
        per_minute: load.per_minute.clone(),
        complete: load.complete,
    }
}
