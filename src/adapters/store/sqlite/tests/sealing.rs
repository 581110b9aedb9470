//! What somebody does to sealed entries beside the program shows, and is named.

use super::*;
use crate::core::audit::{Verdict, Verifier};

/// A store with entries 1 to 12, of which 1 to 8 lie in two blocks.
async fn sealed() -> Place {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    for n in 0..12 {
        let tenant = if n % 2 == 0 { "a" } else { "b" };
        store.append(vec![draft(tenant)], 1_800_000_000_000 + n).await.unwrap();
    }
    for _ in 0..2 {
        assert!(matches!(store.seal_audit(4, 4).await.unwrap(), Seal::Done(_)));
    }
    store.close();
    place
}

async fn verdict(place: &Place) -> Verdict {
    let store = SqliteStore::open(&place.path()).unwrap();
    let mut verifier = Verifier::default();
    let mut log = store.audit_log();
    while let Some(batch) = log.recv().await {
        match batch {
            Ok(batch) => batch.iter().for_each(|entry| {
                verifier.push(entry);
            }),
            Err(StoreError::Damaged(damage)) => verifier.damaged(damage.first, damage.last, &damage.reason),
            Err(error) => panic!("{error}"),
        }
    }
    let verdict = verifier.finish(Some(store.audit_head().await.unwrap()));
    store.close();
    verdict
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_of_a_block_is_named() {
    let place = sealed().await;
    let whole = verdict(&place).await;
    assert!(whole.valid && whole.total_entries == 12, "{}", whole.message);
    let packed: Vec<u8> =
        place.shell().query_row("SELECT packed FROM audit_segments WHERE first_seq = 5", [], |row| row.get(0)).unwrap();
    for at in 0..packed.len() {
        let mut flipped = packed.clone();
        flipped[at] ^= 0x10;
        place.shell().execute("UPDATE audit_segments SET packed = ?1 WHERE first_seq = 5", [flipped]).unwrap();
        let found = verdict(&place).await;
        assert!(!found.valid && found.first_bad_seq == Some(5), "byte {at}: {found:?}");
        assert!(found.message.contains("5 to 8 are damaged"), "byte {at}: {}", found.message);
    }
    place.shell().execute("UPDATE audit_segments SET packed = ?1 WHERE first_seq = 5", [packed]).unwrap();
    assert!(verdict(&place).await.valid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_to_blocks_by_hand_shows() {
    for (what, bad) in [
        ("DELETE FROM audit_segments WHERE first_seq = 1", 1),
        ("DELETE FROM audit_segments WHERE first_seq = 5", 5),
        ("UPDATE audit_segments SET tenants = x'' WHERE first_seq = 5", 5),
        ("UPDATE audit_segments SET summary = '{}' WHERE first_seq = 1", 1),
        ("UPDATE audit_segments SET to_ms = 0 WHERE first_seq = 1", 1),
        ("UPDATE audit_segments SET last_seq = 7 WHERE first_seq = 5", 5),
        ("UPDATE audit_segments SET last_seq = 9223372036854775807 WHERE first_seq = 5", 1),
        ("UPDATE audit_segments SET raw_bytes = 9223372036854775807 WHERE first_seq = 5", 5),
        ("UPDATE audit_segments SET prev_hash = zeroblob(32) WHERE first_seq = 5", 5),
        (
            "INSERT INTO audit SELECT 3, at_ms, tenant, connector, operation, source, actor, action_id, metadata,
              prev_hash, hash FROM audit WHERE seq = 9",
            1,
        ),
    ] {
        let place = sealed().await;
        place.shell().execute_batch(what).unwrap();
        let found = verdict(&place).await;
        assert!(!found.valid && found.first_bad_seq == Some(bad), "{what}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_chain_is_not_sealed_away() {
    let place = sealed().await;
    place.shell().execute("UPDATE audit SET actor = 'mallory' WHERE seq = 10", []).unwrap();
    let store = SqliteStore::open(&place.path()).unwrap();
    let refused = store.seal_audit(0, 4).await.unwrap();
    assert!(matches!(&refused, Seal::Refused(why) if why.contains("entry 10 was changed")), "{refused:?}");
    store.close();
    assert_eq!(verdict(&place).await.first_bad_seq, Some(10));
}
