//! What is kept at the destination, what goes, and how far back one can go.

use super::*;

const DAY: i64 = 86_400_000;

#[tokio::test]
async fn snapshots_roll_what_is_old_goes_and_all_that_is_kept_comes_back() {
    let mut site = Site::new();
    site.write(1).await;
    site.whole().await;
    let first = site.view().await.generation.unwrap();
    let mut moments = Vec::new();
    for step in 0..16 {
        if step == 9 {
            // A new generation, as after a kill.
            site = site.restart();
            site.whole().await;
        }
        site.place.inner().now += DAY / 4;
        for _ in 0..3 {
            site.make_noise(3_000).await;
            site.write(1).await;
            site.rounds(1).await;
        }
        site.whole().await;
        let (seq, now) = (site.head().await, site.place.inner().now);
        moments.push((now, seq));
        let kept = site.place.inner().now - DAY;
        for (_, seq) in moments.iter().filter(|(at, _)| *at >= kept) {
            assert_eq!(site.restored(Target::Seq(*seq)).await.unwrap().point.head.seq, *seq, "step {step}");
        }
    }
    let second = site.view().await.generation.unwrap();
    let error = site.restored(Target::Seq(moments[0].1)).await.unwrap_err();
    assert!(matches!(error, RestoreError::TooOld { .. }), "{error}");
    let inner = site.place.inner();
    let names = |end: &str| inner.files.keys().filter(|name| name.ends_with(end)).count();
    assert!(inner.deleted.iter().any(|name| name.contains(&first) && name.ends_with(".seg")));
    assert!(inner.deleted.iter().any(|name| name.contains(&second) && name.ends_with(".manifest")), "they roll");
    assert!(!inner.files.keys().any(|name| name.contains(&first)), "a generation that is old goes as a whole");
    assert!((2..=12).contains(&names(".manifest")) && names(".manifest") == names(".db.zst"));
}

#[tokio::test]
async fn a_destination_that_answers_now_and_then_is_read_to_the_end() {
    let site = Site::new();
    for _ in 0..40 {
        site.write(1).await;
        site.rounds(1).await;
    }
    site.whole().await;
    site.place.inner().unread = 2;
    let restored = site.restored(Target::Newest).await.unwrap();
    assert_eq!(restored.point.head, site.store.audit_head().await.unwrap());
    assert!(restored.segments > 30 && restored.notes.is_empty());
}

#[tokio::test]
async fn a_moment_brings_back_what_was_there_then_and_no_later_change() {
    let site = Site::new();
    site.write(1).await;
    site.whole().await;
    site.make_noise(10).await;
    site.rounds(1).await;
    // Entries of the tests bear an early time; the noise is of now, and the snapshot before too.
    let restored = site.restored(Target::Newest).await.unwrap();
    let now = restored.point.at;
    assert!(now > 1_000_000_000_000, "changes without an entry are of the time at which they were made: {now}");
    let earlier = site.restored(Target::Time(now - 1)).await;
    assert!(earlier.is_ok_and(|earlier| earlier.is_cut && earlier.point.at < now));
    assert!(matches!(site.restored(Target::Time(2_000)).await, Err(RestoreError::TooOld { .. })));
    // Behind the last entry is the last, and that is said; before the first there is none.
    let head = site.head().await;
    let beyond = site.restored(Target::Seq(head + 5)).await.unwrap();
    assert_eq!(beyond.point.head.seq, head);
    assert!(beyond.notes[0].contains("before the"), "{:?}", beyond.notes);
    assert!(site.restored(Target::Time(now + 1)).await.unwrap().notes.is_empty());
    assert!(matches!(site.restored(Target::Seq(0)).await, Err(RestoreError::TooOld { .. })));
}
