//! Segments read back as they were, notice every flipped bit, and any cut of history into segments
//! replays to the same database.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PAGE: u32 = 512;

fn point(seq: i64) -> Point {
    Point { head: Head { seq, hash: Digest::of(&seq.to_le_bytes()) }, at: seq * 10 }
}

fn section(seq: i64, pages_in_db: u32, pages: &[(u32, u8)]) -> Section {
    let pages = pages.iter().map(|(number, fill)| (*number, vec![*fill; PAGE as usize])).collect();
    Section { point: point(seq), pages_in_db, pages }
}

fn segment(index: u64, previous: Digest, sections: Vec<Section>) -> Segment {
    Segment { generation: "00000001-0001-t".into(), index, previous, page_size: PAGE, sections }
}

/// Pages by number, and the size.
type Database = (BTreeMap<u32, Vec<u8>>, u32);

fn apply(database: &mut Database, section: &Section) {
    database.0.extend(section.pages.iter().cloned());
    database.1 = section.pages_in_db;
    database.0.retain(|number, _| *number <= section.pages_in_db);
}

fn histories() -> impl Strategy<Value = Vec<Section>> {
    let pages = prop::collection::btree_map(1u32..20, any::<u8>(), 0..6);
    let step = (1u32..20, pages).prop_map(|(size, pages)| (size, pages.into_iter().collect::<Vec<_>>()));
    prop::collection::vec(step, 1..30).prop_map(|steps| {
        let with_seq = steps.into_iter().zip(1i64..);
        with_seq.map(|((size, pages), seq)| section(seq, size, &pages)).collect()
    })
}

#[test]
fn no_flipped_bit_and_no_cut_goes_unnoticed() {
    let history = vec![section(1, 2, &[(1, 7), (2, 9)]), section(2, 3, &[(3, 1)])];
    let (bytes, _) = segment(3, Digest::of(b"before"), history).encode().unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(Segment::decode(&flipped).is_err(), "byte {at}, bit {bit}");
        }
        assert!(Segment::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn any_cut_replays_to_the_same_state(history in histories(), cuts in prop::collection::vec(1usize..6, 30)) {
        let mut straight = Database::default();
        let mut replayed = Database::default();
        let mut rest = history.as_slice();
        let (mut index, mut previous) = (0, Digest([0; 32]));
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            if part.is_empty() {
                break;
            }
            rest = after;
            index += 1;
            let (bytes, digest) = segment(index, previous, part.to_vec()).encode().unwrap();
            let (read, found) = Segment::decode(&bytes).unwrap();
            prop_assert_eq!(found, digest);
            prop_assert_eq!(read.previous, previous);
            previous = digest;
            for (section, whole) in read.sections.iter().zip(part) {
                apply(&mut replayed, section);
                apply(&mut straight, whole);
                prop_assert_eq!(&replayed, &straight);
            }
            prop_assert_eq!(read.end(), part.last().map(|section| section.point));
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(history in histories(), place in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (bytes, _) = segment(3, Digest::of(b"before"), history).encode().unwrap();
        let mut flipped = bytes.clone();
        flipped[place.index(bytes.len())] ^= 1 << bit;
        prop_assert!(Segment::decode(&flipped).is_err());
        prop_assert!(Segment::decode(&bytes[..place.index(bytes.len())]).is_err());
    }

    #[test]
    fn whatever_lies_there_is_refused_with_words(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // Also with a digest that fits.
        let mut stamped = bytes.clone();
        stamped.extend_from_slice(&Digest::of(&bytes).0);
        prop_assert!(Segment::decode(&stamped).is_err());
        prop_assert!(Segment::decode(&bytes).is_err());
    }
}
