//! Loops that stand still and end, judged second by second.

use super::*;

const STALL: Duration = Duration::from_secs(30);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn said(need: Need, beats: u64, away: u64) -> Said {
    Said { need, beats, away: secs(away), has_ended: false }
}

const RULES: Rules = Rules { stall: STALL, recovers: true };

/// Looks once a second for as long as `until` does not hold; returns when it did.
fn look_until(
    watch: &mut Watch,
    said: Said,
    rules: Rules,
    from: u64,
    until: impl Fn(Finding) -> bool,
) -> Option<(u64, Finding)> {
    (from..from + 5_000).find_map(|at| {
        let finding = watch.look("a", said, rules, secs(at));
        until(finding).then_some((at, finding))
    })
}

fn is_replaced(finding: Finding) -> bool {
    finding.verdict == Verdict::Replace
}

#[test]
fn a_loop_is_stalled_when_it_is_away_for_longer_than_it_announced() {
    let mut watch = Watch::default();
    let waits = said(Need::Needed, 1, 100);
    let (at, finding) = look_until(&mut watch, waits, RULES, 0, is_replaced).unwrap();
    assert_eq!((at, finding.stood, finding.restarts), (131, secs(131), 1));
    // Its successor has all its time, and what comes round has.
    assert_eq!(watch.look("a", waits, RULES, secs(200)).verdict, Verdict::Well);
    assert_eq!(watch.look("a", said(Need::Needed, 2, 0), RULES, secs(230)).verdict, Verdict::Well);
    assert_eq!(watch.look("a", said(Need::Needed, 2, 0), RULES, secs(260)).verdict, Verdict::Well);
    assert_eq!(watch.look("a", said(Need::Needed, 2, 0), RULES, secs(261)).verdict, Verdict::Replace);
}

#[test]
fn what_starting_anew_does_not_help_is_hopeless_and_tried_again_later() {
    let mut watch = Watch::default();
    let stuck = said(Need::Needed, 1, 0);
    let (at, _) = look_until(&mut watch, stuck, RULES, 0, |finding| finding.is_hopeless).unwrap();
    assert_eq!(at, 4 * 31);
    let (again, finding) = look_until(&mut watch, stuck, RULES, at, is_replaced).unwrap();
    assert_eq!((again, finding.restarts), (31 + 600, 4));
}

#[test]
fn a_vital_one_is_hopeless_at_once_and_an_optional_one_never() {
    let mut watch = Watch::default();
    let (at, finding) =
        look_until(&mut watch, said(Need::Vital, 1, 0), RULES, 0, |f| f.verdict != Verdict::Well).unwrap();
    assert_eq!((at, finding.verdict, finding.is_hopeless), (31, Verdict::Stalled, true));
    let mut watch = Watch::default();
    assert!(look_until(&mut watch, said(Need::Optional, 1, 0), RULES, 0, |f| f.is_hopeless).is_none());
}

#[test]
fn without_recovering_it_is_named_and_left_alone() {
    let mut watch = Watch::default();
    let rules = Rules { recovers: false, ..RULES };
    let stuck = said(Need::Needed, 1, 0);
    let (_, finding) = look_until(&mut watch, stuck, rules, 0, |f| f.verdict != Verdict::Well).unwrap();
    assert_eq!((finding.verdict, finding.is_hopeless), (Verdict::Stalled, false));
    assert!(look_until(&mut watch, stuck, rules, 100, |f| f.is_hopeless || is_replaced(f)).is_none());
}

#[test]
fn one_that_ends_is_started_again_after_ever_longer_pauses() {
    let mut watch = Watch::default();
    let ended = Said { has_ended: true, ..said(Need::Optional, 0, 0) };
    let again = |finding: Finding| finding.verdict == Verdict::Again;
    let mut at = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let (next, _) = look_until(&mut watch, ended, RULES, at, again).unwrap();
        pauses.push(next - at);
        at = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    // It goes well for a while, and is forgiven.
    watch.look("a", said(Need::Optional, 1, 1000), RULES, secs(at + 400));
    assert_eq!(watch.look("a", ended, RULES, secs(at + 400)).verdict, Verdict::Resting(secs(1)));
}

#[test]
fn neither_sleep_nor_a_clock_that_is_set_counts_as_time() {
    let longest = secs(3);
    let mut had = Had::default();
    assert_eq!(had.pass(secs(10), 0, longest), None);
    assert_eq!(had.pass(secs(11), 1_000, longest), None);
    assert_eq!(had.total(), secs(1));
    // The steady clock stands while the machine sleeps, or goes on, as on Windows and under a debugger.
    assert_eq!(had.pass(secs(12), 3_602_000, longest), Some(secs(3600)));
    assert_eq!(had.pass(secs(3612), 7_202_000, longest), Some(secs(3597)));
    assert_eq!(had.total(), secs(5));
    // Set back, and a little slow.
    assert_eq!(had.pass(secs(3613), 0, longest), None);
    assert_eq!(had.pass(secs(3617), 4_000, longest), None);
    assert_eq!(had.total(), secs(9));
}

#[test]
fn the_program_restarts_itself_rarely_and_ever_more_so() {
    let minute = 60_000;
    let past = Recoveries::default().one_more(minute).unwrap();
    assert_eq!(Recoveries::parse(&past.to_text()), past);
    assert_eq!(past.one_more(2 * minute), Err(Duration::from_secs(9 * 60)));
    let past = past.one_more(11 * minute).unwrap();
    assert_eq!(past.one_more(21 * minute), Err(Duration::from_secs(10 * 60)));
    assert_eq!(past.one_more(31 * minute).unwrap().count, 3);
    assert_eq!(past.one_more(25 * 60 * minute).unwrap().count, 1);
    assert_eq!(past.one_more(minute).unwrap().count, 3, "the clock was set back");
    assert_eq!(Recoveries::parse("x"), Recoveries::default());
}

#[test]
fn what_a_panic_says_is_shown_without_anybodys_data() {
    let text = "called `Result::unwrap()` on an `Err` value: Bad { key: \"hunter2\", at: 3 }\nnote: more";
    assert_eq!(shown(text), "called `Result::unwrap()` on an `Err` value: Bad { key: \"…\", at: 3 }");
    assert!(!shown("cannot reach https://me:hunter2@example.com/").contains("hunter2"));
    assert_eq!(shown(&"x".repeat(1000)).chars().count(), SHOWN + 1);
}
