//! Names, slots and timers of the fleet in memory.

use super::*;

fn member(row: i64, due: Option<Millis>) -> Member<'static> {
    Member {
        row,
        stamp: 1,
        content: Digest([1; 32]),
        applied: [2; 16],
        interval_sec: Some(60),
        cron: None,
        timezone: None,
        policy: "",
        paused: due.is_none(),
        next_due: due,
    }
}

#[test]
fn schedules_are_found_again_and_slots_reused() {
    let mut fleet = Fleet::default();
    for n in 0..1000 {
        fleet.put(Connector::Noop, &format!("t{n}"), &member(n + 1, Some(n)));
    }
    assert_eq!(fleet.len(), 1000);
    let glance = fleet.get(Connector::Noop, "t500").unwrap();
    assert_eq!((glance.row, glance.next_due), (501, Some(500)));
    assert_eq!(fleet.get(Connector::Acculynx, "t500"), None);
    assert_eq!(fleet.id(glance.slot).unwrap().to_string(), "noop/t500");

    fleet.remove(Connector::Noop, "t500");
    assert_eq!((fleet.get(Connector::Noop, "t500"), fleet.len()), (None, 999));
    let reused = fleet.put(Connector::Acculynx, "new", &member(7, None));
    assert_eq!(reused, glance.slot);
    assert_eq!(fleet.id(reused).unwrap().to_string(), "acculynx/new");
}

#[test]
fn only_current_timers_fire() {
    let mut fleet = Fleet::default();
    let a = fleet.put(Connector::Noop, "a", &member(1, Some(10)));
    let b = fleet.put(Connector::Noop, "b", &member(2, Some(20)));
    fleet.set_due(a, Some(30));
    fleet.set_due(a, Some(10));
    assert_eq!(fleet.take_due(15, 10), vec![(a, 10)]);
    fleet.set_due(a, Some(70));
    fleet.remove(Connector::Noop, "b");
    assert_eq!(fleet.take_due(69, 10), vec![]);
    assert_eq!(fleet.take_due(70, 10), vec![(a, 70)]);
    fleet.put_back(a);
    assert_eq!(fleet.take_due(70, 10), vec![(a, 70)]);
    fleet.rearm();
    assert_eq!((fleet.queued(), fleet.glance(b)), (1, None));
}

#[test]
fn what_has_to_wait_stays_due_and_is_looked_at_when_it_wakes() {
    let mut fleet = Fleet::default();
    let a = fleet.put(Connector::Noop, "a", &member(1, Some(10)));
    let b = fleet.put(Connector::Noop, "b", &member(2, Some(10)));
    assert_eq!(fleet.take_due(10, 10), vec![(a, 10), (b, 10)]);
    fleet.delay(a, 50);
    fleet.delay(b, 50);
    let glance = fleet.glance(a).unwrap();
    assert_eq!((glance.next_due, glance.wake, fleet.next_due()), (Some(10), Some(50), Some(50)));
    fleet.rearm();
    assert_eq!(fleet.take_due(49, 10), vec![]);
    // An edit sets b anew; what it waited for is over.
    fleet.put(Connector::Noop, "b", &member(2, Some(60)));
    assert_eq!(fleet.take_due(50, 10), vec![(a, 10)]);
    fleet.put_back(a);
    assert_eq!(fleet.take_due(50, 10), vec![(a, 10)]);
    fleet.delay(a, 90);
    fleet.wake_all();
    assert_eq!(fleet.take_due(55, 10), vec![(a, 10)]);
    fleet.advance(a, 10, Some(70));
    assert_eq!(fleet.take_due(90, 10), vec![(b, 60), (a, 70)]);
}

#[test]
fn what_labels_choose_is_forgotten_with_the_schedule() {
    let mut fleet = Fleet::default();
    let a = fleet.put(Connector::Noop, "a", &member(1, Some(10)));
    assert!(fleet.chosen(a).is_empty());
    fleet.choose(a, &[0, 3]);
    assert_eq!(*fleet.chosen(a), [0, 3]);
    fleet.remove(Connector::Noop, "a");
    assert_eq!(fleet.put(Connector::Noop, "b", &member(2, None)), a);
    assert!(fleet.chosen(a).is_empty());
    fleet.choose(a, &[1]);
    fleet.unchoose();
    assert!(fleet.chosen(a).is_empty());
}
