//! Changes of the clock: a table of what must come, and the rule itself, minute by minute, as the
//! judge of everything else.

use chrono::{Duration, NaiveDate, Timelike as _};
use proptest::prelude::*;

use super::*;
use crate::core::timing::iso;

fn at(text: &str) -> Millis {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

/// What an expression fires in a zone within a day or two, as the zone's wall clock shows it. A
/// time that comes twice is marked with its half.
fn shown(expression: &str, zone: &str, from: &str, until: &str) -> String {
    let times = CronTimes::new(expression, zone).unwrap();
    let tz: Tz = zone.parse().unwrap();
    let (from, until) = (at(from), at(until));
    let slots: Vec<Millis> = std::iter::successors(times.next_after(from - 1), |slot| times.next_after(*slot))
        .take_while(|slot| *slot < until)
        .collect();
    let show = |slot: &Millis| {
        let local = utc(*slot).unwrap().with_timezone(&tz);
        let half = match tz.from_local_datetime(&local.naive_local()) {
            MappedLocalTime::Ambiguous(first, _) if first == local => "a",
            MappedLocalTime::Ambiguous(..) => "b",
            _ => "",
        };
        format!("{}{half}", local.format("%d %H:%M"))
    };
    slots.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// Zone, from and until in UTC, then expressions with what they fire.
type Change = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const CHANGES: &[Change] = &[
    // 02:00-03:00 is skipped.
    (
        "America/Denver",
        "2026-03-08T07:00:00Z",
        "2026-03-09T06:00:00Z",
        &[
            ("30 2 * * *", "08 03:00"),
            ("0 3 * * *", "08 03:00"),
            ("0,30 2 * * *", "08 03:00"),
            ("0 1,2,3,4 * * *", "08 01:00 08 03:00 08 04:00"),
            ("30 1-4 * * *", "08 01:30 08 03:00 08 03:30 08 04:30"),
            ("*/20 2 * * *", "08 03:00"),
            ("10-50/20 2 * * *", "08 03:00"),
            ("* 2 * * *", "08 03:00"),
            (
                "0 */2 8 * *",
                "08 00:00 08 03:00 08 04:00 08 06:00 08 08:00 08 10:00 08 12:00 08 14:00 08 16:00 08 18:00 08 20:00 08 22:00",
            ),
            ("30 0-5/1 * * *", "08 00:30 08 01:30 08 03:00 08 03:30 08 04:30 08 05:30"),
            ("15 2 * * 1", ""),
            ("30 2 8 3 *", "08 03:00"),
        ],
    ),
    // An expression of every hour owes nothing for the hour that is not there.
    (
        "America/Denver",
        "2026-03-08T08:00:00Z",
        "2026-03-08T10:30:00Z",
        &[
            ("7 * * * *", "08 01:07 08 03:07 08 04:07"),
            ("*/30 * * * *", "08 01:00 08 01:30 08 03:00 08 03:30 08 04:00"),
            ("7 */1 * * *", "08 01:07 08 03:07 08 04:07"),
            ("7 0-23 * * *", "08 01:07 08 03:07 08 04:07"),
        ],
    ),
    // 01:00-02:00 comes twice.
    (
        "America/Denver",
        "2026-11-01T06:00:00Z",
        "2026-11-01T10:00:00Z",
        &[
            ("30 1 * * *", "01 01:30a"),
            ("0 1 * * *", "01 01:00a"),
            ("0 2 * * *", "01 02:00"),
            ("0,30 1 * * *", "01 01:00a 01 01:30a"),
            ("30 0,1,2 * * *", "01 00:30 01 01:30a 01 02:30"),
            ("0 0-2 * * *", "01 00:00 01 01:00a 01 02:00"),
            ("*/30 1 * * *", "01 01:00a 01 01:30a 01 01:00b 01 01:30b"),
            ("0-30/30 1 * * *", "01 01:00a 01 01:30a 01 01:00b 01 01:30b"),
            ("30 * * * *", "01 00:30 01 01:30a 01 01:30b 01 02:30"),
            ("30 1-3/2 * * *", "01 01:30a 01 01:30b"),
        ],
    ),
    (
        "Europe/Berlin",
        "2026-03-28T23:00:00Z",
        "2026-03-29T04:00:00Z",
        &[("15 2 * * *", "29 03:00"), ("0 1-3 * * 0", "29 01:00 29 03:00"), ("*/15 2 * * *", "29 03:00")],
    ),
    (
        "Europe/Berlin",
        "2026-10-24T22:00:00Z",
        "2026-10-25T03:00:00Z",
        &[("15 2 * * *", "25 02:15a"), ("15 */2 * * *", "25 00:15 25 02:15a 25 02:15b"), ("59 2 25 10 *", "25 02:59a")],
    ),
    // Half an hour: 02:00-02:30 is skipped, 01:30-02:00 comes twice.
    (
        "Australia/Lord_Howe",
        "2026-10-03T13:30:00Z",
        "2026-10-03T17:30:00Z",
        &[
            ("15 2 * * *", "04 02:30"),
            ("0,45 2 * * *", "04 02:30 04 02:45"),
            ("15 * * * *", "04 00:15 04 01:15 04 03:15 04 04:15"),
        ],
    ),
    (
        "Australia/Lord_Howe",
        "2026-04-04T13:00:00Z",
        "2026-04-04T16:00:00Z",
        &[
            ("45 1 * * *", "05 01:45a"),
            ("15 1 * * *", "05 01:15"),
            ("*/15 1 * * *", "05 01:00 05 01:15 05 01:30a 05 01:45a 05 01:30b 05 01:45b"),
        ],
    ),
    // Midnight itself: 2018-11-04 begins at 01:00, the hour before 2018-02-18 comes twice.
    (
        "America/Sao_Paulo",
        "2018-11-03T12:00:00Z",
        "2018-11-04T12:00:00Z",
        &[("0 0 * * *", "04 01:00"), ("30 0 4 * *", "04 01:00"), ("59 23 * * *", "03 23:59")],
    ),
    (
        "America/Sao_Paulo",
        "2018-02-17T12:00:00Z",
        "2018-02-18T12:00:00Z",
        &[("30 23 * * *", "17 23:30a"), ("0 0 * * *", "18 00:00"), ("30 23-23/1 * * *", "17 23:30a 17 23:30b")],
    ),
    // The clock goes back for Ramadan and on again after it.
    (
        "Africa/Casablanca",
        "2026-02-14T23:00:00Z",
        "2026-02-15T06:00:00Z",
        &[("30 2 * * *", "15 02:30a"), ("*/30 2 * * *", "15 02:00a 15 02:30a 15 02:00b 15 02:30b")],
    ),
    ("Africa/Casablanca", "2026-03-21T23:00:00Z", "2026-03-22T06:00:00Z", &[("30 2 * * *", "22 03:00")]),
    // Forty-five minutes off, and never changed.
    ("Asia/Kathmandu", "2026-03-08T18:15:00Z", "2026-03-09T18:15:00Z", &[("30 2 * * *", "09 02:30")]),
    // A whole day is not there: 2011-12-30.
    (
        "Pacific/Apia",
        "2011-12-30T09:00:00Z",
        "2011-12-31T10:00:00Z",
        &[
            ("0 6 * * *", "31 00:00 31 06:00"),
            ("0 6 30 12 *", "31 00:00"),
            ("0 12,23 * * *", "29 23:00 31 00:00 31 12:00 31 23:00"),
        ],
    ),
    // The hour before one in the morning comes twice, the hour after midnight is skipped.
    (
        "Atlantic/Azores",
        "2026-10-25T00:00:00Z",
        "2026-10-25T03:00:00Z",
        &[("30 0 * * *", "25 00:30a"), ("30 * * * *", "25 00:30a 25 00:30b 25 01:30")],
    ),
    (
        "Atlantic/Azores",
        "2026-03-29T00:00:00Z",
        "2026-03-29T03:00:00Z",
        &[("0 0 * * *", "29 01:00"), ("45 0,1 * * *", "29 01:00 29 01:45")],
    ),
];

#[test]
fn changes_of_the_clock() {
    for (zone, from, until, expressions) in CHANGES {
        for (expression, want) in *expressions {
            assert_eq!(shown(expression, zone, from, until), *want, "{expression} in {zone} from {from}");
        }
    }
}

#[test]
fn a_search_may_start_anywhere_within_a_second() {
    let times = CronTimes::new("30 1 * * *", "America/Denver").unwrap();
    let first = at("2026-11-01T07:30:00Z");
    assert_eq!(times.next_after(first - 1), Some(first));
    assert_eq!(times.next_after(first - 999), Some(first));
    assert_eq!(times.next_after(first).map(iso).as_deref(), Some("2026-11-02T08:30:00.000Z"));
    assert_eq!(times.latest(first + 999), Some(first));
    assert_eq!(times.latest(first - 1).map(iso).as_deref(), Some("2026-10-31T07:30:00.000Z"));
}

/// One field of a simple expression, and whether it names a number.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    set: Vec<u32>,
    stepped: bool,
}

fn field(most: u32) -> impl Strategy<Value = Field> {
    (0..6u8, 0..=most, 0..=most, 1..=most.min(30)).prop_map(move |(kind, a, b, step)| {
        let (low, high) = (a.min(b), a.max(b));
        let every = |from: u32, to: u32, step: u32| (from..=to).step_by(step as usize).collect::<Vec<_>>();
        let (text, set, stepped) = match kind {
            0 => ("*".to_owned(), every(0, most, 1), true),
            1 => (format!("*/{step}"), every(0, most, step), true),
            2 if low < high => (format!("{low}-{high}"), every(low, high, 1), false),
            3 if low < high => (format!("{low}-{high}/{step}"), every(low, high, step), true),
            4 if low < high => (format!("{low},{high}"), vec![low, high], false),
            _ => (a.to_string(), vec![a], false),
        };
        Field { text, set, stepped }
    })
}

/// The rule, minute by minute: every instant in a few days around `day` that must fire.
fn by_the_rule(minute: &Field, hour: &Field, tz: Tz, day: NaiveDate) -> Vec<Millis> {
    let start = day.and_hms_opt(0, 0, 0).unwrap() - Duration::days(3);
    let mut slots = std::collections::BTreeSet::new();
    for n in 0..7 * 24 * 60 {
        let local = start + Duration::minutes(n);
        if !minute.set.contains(&local.minute()) || !hour.set.contains(&local.hour()) {
            continue;
        }
        match tz.from_local_datetime(&local) {
            MappedLocalTime::Single(at) => {
                slots.insert(at.timestamp_millis());
            }
            MappedLocalTime::Ambiguous(first, second) => {
                slots.insert(first.timestamp_millis());
                if minute.stepped || hour.stepped {
                    slots.insert(second.timestamp_millis());
                }
            }
            MappedLocalTime::None if hour.set.len() == 24 => {}
            MappedLocalTime::None => {
                let after = (1..).map(|n| local + Duration::minutes(n));
                let end = after.take(3000).find_map(|local| tz.from_local_datetime(&local).single()).unwrap();
                slots.insert(end.timestamp_millis());
            }
        }
    }
    slots.into_iter().collect()
}

const DAYS: [(&str, i32, u32, u32); 16] = [
    ("America/Denver", 2026, 3, 8),
    ("America/Denver", 2026, 11, 1),
    ("Europe/Berlin", 2026, 3, 29),
    ("Europe/Berlin", 2026, 10, 25),
    ("Australia/Lord_Howe", 2026, 4, 5),
    ("Australia/Lord_Howe", 2026, 10, 4),
    ("America/Sao_Paulo", 2018, 2, 18),
    ("America/Sao_Paulo", 2018, 11, 4),
    ("Africa/Casablanca", 2026, 2, 15),
    ("Africa/Casablanca", 2026, 3, 22),
    ("Asia/Kathmandu", 2026, 1, 1),
    ("Pacific/Apia", 2011, 12, 30),
    ("Atlantic/Azores", 2026, 3, 29),
    ("Atlantic/Azores", 2026, 10, 25),
    ("America/St_Johns", 1988, 4, 3),
    ("Pacific/Kwajalein", 1993, 8, 21),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Forth and back, from slots and from between them, it is the rule and nothing else.
    #[test]
    fn slots_are_those_of_the_rule(
        minute in field(59), hour in field(23), (zone, year, month, day) in proptest::sample::select(DAYS.to_vec()),
        starts in proptest::collection::vec(0i64..2 * 24 * 3_600_000, 1..40),
    ) {
        let expression = format!("{} {} * * *", minute.text, hour.text);
        let times = CronTimes::new(&expression, zone).unwrap();
        let day = NaiveDate::from_ymd_opt(year, month, day).unwrap();
        let tz: Tz = zone.parse().unwrap();
        let slots = by_the_rule(&minute, &hour, tz, day);
        let begin = (day.and_hms_opt(0, 0, 0).unwrap() - Duration::days(1)).and_utc().timestamp_millis();
        let middle: Vec<Millis> = slots.iter().copied().filter(|s| (begin..begin + 3 * 86_400_000).contains(s)).collect();
        for pair in middle.windows(2) {
            prop_assert_eq!(times.next_after(pair[0]), Some(pair[1]), "{} in {} after {}", expression, zone, iso(pair[0]));
            prop_assert_eq!(times.latest(pair[1] - 1), Some(pair[0]), "{} in {} before {}", expression, zone, iso(pair[1]));
            prop_assert_eq!(times.latest(pair[1]), Some(pair[1]));
        }
        for start in starts.into_iter().map(|start| begin + start) {
            let next = slots.iter().copied().find(|slot| *slot > start);
            let last = slots.iter().rev().copied().find(|slot| *slot <= start);
            prop_assert_eq!(times.next_after(start), next, "{} in {} after {}", expression, zone, iso(start));
            prop_assert_eq!(times.latest(start), last, "{} in {} at {}", expression, zone, iso(start));
        }
    }
}
