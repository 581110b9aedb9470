//! The load held against a count of every slot, and what is made of it.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::core::timing::{iso, parse_time};
use crate::core::windows::{Window, WindowSpec};

const DAY: usize = 1440;
const NOW: Millis = 1_800_000_012_345;
const FROM: Millis = NOW - NOW % MINUTE;

fn id(name: &str) -> ScheduleId {
    format!("noop/{name}").parse().unwrap()
}

fn spec(value: serde_json::Value) -> ScheduleSpec {
    serde_json::from_value(value).unwrap()
}

fn night(cron: &str, duration_sec: u32) -> Windows {
    let spec: WindowSpec = serde_json::from_value(json!({"cron": cron, "duration_sec": duration_sec})).unwrap();
    Windows::new([Window::new("night", spec).unwrap()])
}

/// Every slot counted by itself; windows to the minute.
fn by_slots(all: &[(ScheduleId, ScheduleSpec)], windows: &Windows, minutes: usize) -> Vec<u32> {
    let until = FROM + Millis::try_from(minutes).unwrap() * MINUTE;
    let mut load = vec![0; minutes];
    for (id, spec) in all {
        let rhythm = Rhythm::of(id, spec).unwrap();
        let mut owed = std::collections::BTreeMap::new();
        let stretches = merged(windows.stretches(FROM, until, id.connector, &[]));
        let first = stretches.first().map_or(FROM, |(begin, _)| FROM.min(*begin));
        let slots = std::iter::successors(rhythm.next_after(first - 1), |slot| rhythm.next_after(*slot));
        for slot in slots.take_while(|slot| *slot < until) {
            match stretches.iter().find(|(begin, end)| (*begin..*end).contains(&slot)) {
                Some((_, end)) => drop(owed.insert(*end, 1)),
                None => {
                    // One at the very end of a window stands for those within it.
                    owed.remove(&slot);
                    count_at(&mut load, slot, FROM, 1);
                }
            }
        }
        for end in owed.keys() {
            count_at(&mut load, *end, FROM, 1);
        }
    }
    load
}

fn any_spec() -> impl Strategy<Value = ScheduleSpec> {
    let cron = proptest::sample::select(vec!["* * * * *", "*/7 * * * *", "0 3 * * *", "30 2,14 * * 1-5", "5 * * * *"]);
    let cadence = prop_oneof![
        (1u32..200).prop_map(|sec| json!({"interval_sec": sec})),
        (1u32..100_000).prop_map(|sec| json!({"interval_sec": sec})),
        (cron, proptest::sample::select(vec!["UTC", "America/Denver", "Asia/Kathmandu"]))
            .prop_map(|(cron, zone)| json!({"cron": cron, "timezone": zone})),
    ];
    (cadence, proptest::option::of(0u32..7200), proptest::option::of((0i64..80_000, 0i64..80_000))).prop_map(
        |(mut value, jitter, bounds)| {
            if let Some(jitter) = jitter {
                value["jitter_sec"] = jitter.into();
            }
            if let Some((start, length)) = bounds {
                // Whole minutes, since a bound within a minute counts to the minute.
                value["start_at"] = iso(FROM + start / 60 * 60_000).into();
                value["end_at"] = iso(FROM + (start + length) / 60 * 60_000 - 1).into();
            }
            spec(value)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_load_is_what_counting_every_slot_gives(specs in proptest::collection::vec(any_spec(), 1..12), windowed in any::<bool>()) {
        let windows = if windowed { night("0 */5 * * *", 3600) } else { Windows::default() };
        let all: Vec<_> = specs.into_iter().enumerate().map(|(n, spec)| (id(&format!("t{n}")), spec)).collect();
        let mut forecast = Forecast::new(windows.clone(), NOW, DAY);
        all.iter().for_each(|(id, spec)| forecast.add(id, spec));
        let load = forecast.finish();
        let expect = by_slots(&all, &windows, DAY);
        let differ: Vec<_> = load.per_minute.iter().zip(&expect).enumerate().filter(|(_, (a, b))| a != b).take(5).collect();
        prop_assert!(differ.is_empty(), "{differ:?}");
    }
}

#[test]
fn a_large_fleet_takes_little_work() {
    // A hundred thousand schedules, every second, for a week: sixty thousand million fires.
    let mut forecast = Forecast::new(Windows::default(), NOW, MAX_MINUTES);
    let every_second = spec(json!({"interval_sec": 1}));
    let hourly = spec(json!({"cron": "0 * * * *", "timezone": "America/Denver", "jitter_sec": 600}));
    for n in 0..2000 {
        forecast.add(&id(&format!("s{n}")), &every_second);
        forecast.add(&id(&format!("h{n}")), &hourly);
    }
    let load = forecast.finish();
    assert!(load.complete);
    assert_eq!(load.schedules, 4000);
    assert_eq!(load.total(), 2000 * 604_800 + 2000 * 168);
}

#[test]
fn paused_schedules_fire_after_their_pause_or_not_at_all() {
    let mut forecast = Forecast::new(Windows::default(), NOW, DAY);
    forecast.add(&id("a"), &spec(json!({"interval_sec": 60, "paused": true})));
    forecast
        .add(&id("b"), &spec(json!({"interval_sec": 60, "paused": true, "pause_until": iso(FROM + 1_380 * MINUTE)})));
    let load = forecast.finish();
    assert_eq!((load.schedules, load.total()), (1, 60));
}

#[test]
fn what_is_to_be_done_with_a_load() {
    let at = |text: &str| parse_time(text).unwrap();
    let from = at("2026-11-21T10:30:00Z");
    let mut load = Load::empty(from, 90);
    load.per_minute.fill(3);
    load.per_minute[10] = 500;
    load.per_minute[40] = 7;
    assert_eq!((load.total(), load.median()), (88 * 3 + 507, 3));
    assert_eq!(load.busiest(2), [(from + 10 * MINUTE, 500), (from + 40 * MINUTE, 7)]);
    let hours: Vec<_> =
        load.hours().iter().map(|hour| (iso(hour.begin), hour.fires, iso(hour.peak_minute), hour.peak)).collect();
    let hour = |begin: &str, fires, peak: &str, count| (begin.to_owned(), fires, peak.to_owned(), count);
    assert_eq!(
        hours,
        [
            hour("2026-11-21T10:00:00.000Z", 29 * 3 + 500, "2026-11-21T10:40:00.000Z", 500),
            hour("2026-11-21T11:00:00.000Z", 59 * 3 + 7, "2026-11-21T11:10:00.000Z", 7),
        ]
    );
    let mut before = load.clone();
    before.per_minute[10] = 420;
    assert_eq!(jumps(&before, &load), [], "eighty more are no jump");
    before.per_minute[10] = 0;
    assert_eq!(jumps(&before, &load), [Jump { minute: from + 10 * MINUTE, before: 0, after: 500 }]);
    load.per_minute.fill(60);
    load.per_minute[10] = 500;
    assert_eq!(jumps(&before, &load), [], "less than ten times the median");
}

#[test]
fn next_starts_are_shown_as_windows_will_have_them() {
    let windows = night("0 2 * * *", 7200);
    let now = parse_time("2027-01-16T00:50:00Z").unwrap();
    let check = |value: serde_json::Value| -> Vec<String> {
        let shown = |fire: Fire| {
            let time = |at: Millis| iso(at)[11..16].to_owned();
            let window = fire.window.map(|name| format!(" {} for {} and {}", name, time(fire.nominal), fire.folded));
            time(fire.at) + &window.unwrap_or_default()
        };
        fires(&id("a"), &spec(value), &windows, now, 3).into_iter().map(shown).collect()
    };
    assert_eq!(check(json!({"cron": "0 * * * *"})), ["01:00", "04:00", "05:00"], "04:00 stands for all of them");
    assert_eq!(check(json!({"cron": "30 * * * *"})), ["01:30", "04:00 night for 03:30 and 1", "04:30"]);
    assert_eq!(check(json!({"cron": "30 * * * *", "catch_up": "none"})), ["01:30", "04:30", "05:30"]);
    assert_eq!(check(json!({"cron": "30 * * * *", "start_deadline_sec": 900})), ["01:30", "04:30", "05:30"]);
    let all = check(json!({"cron": "30 * * * *", "catch_up": "all"}));
    assert_eq!(all, ["01:30", "04:00 night for 02:30 and 0", "04:00 night for 03:30 and 0"]);
    assert_eq!(check(json!({"cron": "0 * * * *", "paused": true})), [""; 0]);
    assert_eq!(check(json!({"cron": "0 * * * *", "end_at": "2027-01-16T01:30:00Z"})), ["01:00"]);
}

#[test]
fn a_warning_says_where_how_many_and_what_to_do() {
    let from = parse_time("2026-11-21T10:00:00Z").unwrap();
    let before = Load::empty(from, DAY);
    let mut after = before.clone();
    after.per_minute[17 * 60] = 3000;
    assert_eq!(
        warnings(&before, &after),
        [
            "this change puts 3000 fires on 2026-11-22 03:00 UTC (before: 0; the median minute: 0); jitter_sec spreads them"
        ]
    );
    after.per_minute[18 * 60] = 3001;
    for minute in [5, 6, 7] {
        after.per_minute[minute] = 200;
    }
    let told = warnings(&before, &after);
    assert_eq!(told.len(), 4);
    assert!(
        told[0].starts_with("this change puts 3001 fires on :00 of 2 hours, the most at 2026-11-22 04:00 UTC"),
        "{told:?}"
    );
    assert!(told[3].starts_with("1 more minutes of the hour"), "{told:?}");
    assert!(warnings(&after, &after).is_empty());
}

#[test]
fn schedules_fire_alike_whatever_they_import() {
    let was = json!({"interval_sec": 300, "labels": {"region": "west"}, "jitter_sec": 30});
    let alike = |change: serde_json::Value, has_windows| {
        let mut is = was.clone();
        is.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        fire_alike(&spec(was.clone()), &spec(is), has_windows)
    };
    assert!(alike(json!({"resources": ["jobs"]}), true));
    assert!(alike(json!({"labels": {}}), false));
    assert!(!alike(json!({"labels": {}}), true), "a window may choose by them");
    for change in [
        json!({"interval_sec": 301}),
        json!({"interval_sec": null, "cron": "* * * * *"}),
        json!({"paused": true}),
        json!({"jitter_sec": 31}),
        json!({"end_at": "2030-01-01T00:00:00Z"}),
        json!({"catch_up": "all"}),
    ] {
        assert!(!alike(change.clone(), false), "{change}");
    }
}
