//! Plans rendered: YAML's meaning in, signs and fields out.

use super::*;
use proptest::prelude::*;

const NOW: Millis = 1_800_000_000_000;

fn id(name: &str) -> ScheduleId {
    format!("noop/{name}").parse().unwrap()
}

fn every(interval_sec: u32) -> ScheduleSpec {
    ScheduleSpec { interval_sec: Some(interval_sec), ..ScheduleSpec::default() }
}

fn paused(spec: ScheduleSpec) -> ScheduleSpec {
    ScheduleSpec { paused: true, pause_reason: Some("maintenance".into()), ..spec }
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

/// Plans one schedule and renders it; `file` 1 is the file that was applied.
fn check(
    file: Option<(u8, &ScheduleSpec)>,
    row: Option<&ScheduleSpec>,
    due: Option<Millis>,
    expect: &str,
) -> Option<Millis> {
    let desired = file.map_or(Desired::Absent, |(n, spec)| Desired::Present { spec, digest: digest(n) });
    let observed = row.map(|spec| Observed { spec, applied: digest(1), next_due: due });
    let planned = plan_schedule(&id("t"), desired, observed, false, NOW);
    let text = render_text(&Plan::new(planned.steps));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines.join("\n"), expect);
    planned.next_due
}

fn slot(interval_sec: u32) -> Option<Millis> {
    Rhythm::interval(&id("t"), interval_sec).next_after(NOW)
}

#[test]
fn a_new_file_is_created_and_due_at_its_next_slot() {
    let due = check(
        Some((1, &every(300))),
        None,
        None,
        "+ noop/t (create)\n+ interval_sec = 300\n+ paused       = false\nPlan: 1 to create, 0 to change, 0 to delete.",
    );
    assert_eq!(due, slot(300));
}

#[test]
fn an_edit_of_pause_and_interval_is_two_steps() {
    let due = check(
        Some((2, &paused(every(600)))),
        Some(&every(300)),
        slot(300),
        "~ noop/t (update)\n~ interval_sec = 300 -> 600\n~ noop/t (pause)\n+ pause_reason = \"maintenance\"\n\
         ~ paused       = false -> true\nPlan: 0 to create, 2 to change, 0 to delete.",
    );
    assert_eq!(due, None);
}

#[test]
fn a_resume_takes_the_next_slot_and_never_back_fills() {
    let due = check(
        Some((2, &every(300))),
        Some(&paused(every(300))),
        None,
        "~ noop/t (resume)\n- pause_reason = \"maintenance\"\n~ paused       = true -> false\n\
         Plan: 0 to create, 1 to change, 0 to delete.",
    );
    assert_eq!(due, slot(300));
}

#[test]
fn with_an_unchanged_file_every_difference_is_drift() {
    check(
        Some((1, &every(300))),
        Some(&every(60)),
        slot(60),
        "~ noop/t (repair spec)\n~ interval_sec = 60 -> 300\nPlan: 0 to create, 1 to change, 0 to delete.",
    );
    check(
        Some((1, &every(300))),
        Some(&ScheduleSpec { paused: true, ..every(300) }),
        None,
        "~ noop/t (repair pause)\n~ paused = true -> false\nPlan: 0 to create, 1 to change, 0 to delete.",
    );
    let wrong = slot(300).map(|due| due + 7);
    let expect = format!(
        "~ noop/t (repair timer)\n~ next_run_iso = {} -> {}\nPlan: 0 to create, 1 to change, 0 to delete.",
        due_change(wrong, slot(300)).from,
        due_change(wrong, slot(300)).to
    );
    check(Some((1, &every(300))), Some(&every(300)), wrong, &expect);
}

#[test]
fn a_lost_row_is_repaired_not_created() {
    let planned = plan_schedule(&id("t"), Desired::Present { spec: &every(300), digest: digest(1) }, None, true, NOW);
    assert_eq!(planned.steps[0].action, Action::Repair(Facet::Row));
}

#[test]
fn an_unknown_file_changes_nothing() {
    let spec = every(300);
    let observed = Observed { spec: &spec, applied: digest(1), next_due: Some(5) };
    let planned = plan_schedule(&id("t"), Desired::Unknown, Some(observed), true, NOW);
    assert_eq!(planned, SchedulePlan { steps: vec![], next_due: Some(5) });
}

fn deletions(count: usize) -> Vec<Step> {
    (0..count).map(|n| Step { id: id(&format!("t{n}")), action: Action::Delete, diff: vec![], held: None }).collect()
}

fn check_guard(count: usize, blast: Blast, expect: Option<HoldReason>) {
    let mut steps = deletions(count);
    guard(&mut steps, blast, GuardPolicy::default());
    assert!(steps.iter().all(|step| step.held == expect), "{count} of {blast:?}: {:?}", steps[0].held);
}

#[test]
fn the_guard_holds_what_is_too_much() {
    let fleet = |fleet, files, recent| Blast { fleet, files, recent, confirmed: false };
    check_guard(3, fleet(10, 7, 0), None);
    check_guard(4, fleet(10, 6, 0), Some(HoldReason::BlastRadius));
    check_guard(2, fleet(8, 6, 2), Some(HoldReason::BlastRadius));
    check_guard(4, fleet(5, 1, 0), None);
    check_guard(5, fleet(5, 0, 0), Some(HoldReason::EmptyDirectory));
    check_guard(9, Blast { confirmed: true, ..fleet(10, 1, 0) }, None);
}

#[test]
fn the_digest_names_the_changes_not_their_order_or_holds() {
    let mut held = deletions(3);
    held.reverse();
    held[0].held = Some(HoldReason::BlastRadius);
    assert_eq!(Plan::new(deletions(3)).digest(), Plan::new(held).digest());
    assert_ne!(Plan::new(deletions(3)).digest(), Plan::new(deletions(2)).digest());
}

#[test]
fn markdown_cells_cannot_break_the_table() {
    let mut spec = every(5);
    spec.labels.insert("note".into(), "a|b`c\nd".into());
    let steps = vec![Step { id: id("t"), action: Action::Create, diff: diff(None, Some(&spec)), held: None }];
    let text = render_markdown(&Plan::new(steps));
    assert!(text.contains("| + | `noop/t` | create | labels.note | `(none)` | `\"a\\|b'c\\nd\"` |"), "{text}");
}

fn any_spec() -> impl Strategy<Value = ScheduleSpec> {
    let end = proptest::option::of(-10i64..10);
    (1u32..100_000, any::<bool>(), proptest::option::of("[a-z]{1,6}"), any::<bool>(), end).prop_map(
        |(interval, paused, label, cron, end)| {
            let mut spec = if cron {
                ScheduleSpec {
                    cron: Some(format!("{} * * * *", interval % 60)),
                    timezone: Some("UTC".into()),
                    ..ScheduleSpec::default()
                }
            } else {
                every(interval)
            };
            spec.paused = paused;
            spec.pause_until = end.filter(|_| paused).map(|end| crate::core::timing::iso(NOW + end));
            if let Some(label) = label {
                spec.labels.insert("l".into(), label);
            }
            spec
        },
    )
}

proptest! {
    #[test]
    fn planning_after_applying_is_empty(want in any_spec(), have in proptest::option::of(any_spec()), file in 1u8..3, due in proptest::option::of(0i64..2 * NOW)) {
        let desired = Desired::Present { spec: &want, digest: digest(file) };
        let observed = have.as_ref().map(|spec| Observed { spec, applied: digest(1), next_due: due });
        let first = plan_schedule(&id("t"), desired, observed, true, NOW);
        let applied = Observed { spec: &want, applied: digest(file), next_due: first.next_due };
        let second = plan_schedule(&id("t"), desired, Some(applied), true, NOW + 5);
        prop_assert_eq!(second.steps, vec![]);
    }
}
