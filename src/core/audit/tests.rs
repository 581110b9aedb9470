//! The chain, checkpoints and sealed blocks under every kind of tampering.

use super::note::BadNote;
use super::*;
use serde_json::json;

fn draft(n: i64) -> Draft {
    Draft {
        tenant: format!("t{n}"),
        connector: Some(Connector::Noop),
        operation: operation::CREATED,
        source: Source::File,
        actor: "Zoë \"Z\" \\ \u{1}".into(),
        action_id: "0190".into(),
        metadata: json!({"diff": [{"to": n, "field": "interval_sec", "from": null}]}).into(),
    }
}

fn chain(length: i64) -> (Vec<Entry>, Head) {
    let mut head = Head::default();
    let entries =
        (1..=length).map(|n| head.append(draft(n), 1_700_000_000_000 + n, &iso(1_700_000_000_000 + n))).collect();
    (entries, head)
}

fn verify(entries: &[Entry], head: Option<Head>) -> Verdict {
    let mut verifier = Verifier::default();
    for entry in entries {
        verifier.push(entry);
    }
    verifier.finish(head)
}

#[test]
fn the_hash_is_over_the_canonical_form_of_the_view() {
    let (entries, _) = chain(1);
    let mut view = serde_json::to_value(entries[0].view()).unwrap();
    let object = view.as_object_mut().unwrap();
    object.remove("hash");
    object.remove("ts");
    let canonical = serde_json_canonicalizer::to_string(&view).unwrap();
    assert_eq!(entries[0].hash, Digest::of(canonical.as_bytes()));
}

proptest::proptest! {
    #[test]
    fn the_short_way_to_the_canonical_form_is_right(names in proptest::collection::vec("[a-z\u{e9}\u{10000}\u{ffff}\"\\\\]{0,4}", 0..4), number: i64, float: f64, text: String) {
        let inner: Map<String, Value> = names.iter().map(|name| (name.clone(), json!(number))).collect();
        for value in [json!({"b": inner, "a": text}), json!({"f": float, "t": [number, text]})] {
            let expect = serde_json_canonicalizer::to_string(&value);
            if let Ok(expect) = expect {
                proptest::prop_assert_eq!(Metadata::from(value), Metadata(expect));
            }
        }
    }
}

#[test]
fn every_kind_of_tampering_is_named_by_its_first_entry() {
    let (good, head) = chain(5);
    assert!(verify(&good, Some(head)).valid);
    assert!(verify(&[], Some(Head::default())).valid);

    let mut changed = good.clone();
    changed[2].actor = "mallory".into();
    assert_eq!(verify(&changed, Some(head)).first_bad_seq, Some(3));

    let mut rehashed = changed;
    rehashed[2].hash = rehashed[2].computed_hash();
    assert_eq!(verify(&rehashed, Some(head)).first_bad_seq, Some(4));

    let mut dropped = good.clone();
    dropped.remove(1);
    assert_eq!(verify(&dropped, Some(head)).first_bad_seq, Some(2));

    let mut swapped = good.clone();
    swapped.swap(1, 2);
    assert_eq!(verify(&swapped, Some(head)).first_bad_seq, Some(2));

    assert_eq!(verify(&good[..3], Some(head)).first_bad_seq, Some(4));
    assert_eq!(verify(&good, None).total_entries, 5);
}

/// A stand-in for Ed25519: the "signature" is a hash over key and text.
fn toy_signature(key: &[u8; 32], text: &[u8]) -> Vec<u8> {
    Digest::of(&[key.as_slice(), text].concat()).0.repeat(2)
}

fn is_right(key: &[u8; 32], text: &[u8], signature: &[u8]) -> bool {
    toy_signature(key, text) == signature
}

fn key(name: &str) -> VerifierKey {
    VerifierKey { name: name.to_owned(), key: [7; 32] }
}

fn signed(head: Head) -> Signed {
    let checkpoint = Checkpoint { origin: origin("s1"), head, at: 1_700_000_000_123, previous: Some(Digest([3; 32])) };
    let (text, key) = (checkpoint.text(), key(&checkpoint.origin));
    let bytes = toy_signature(&key.key, text.as_bytes());
    let signature = Signature { name: key.name.clone(), key_hash: key.hash(), bytes };
    Signed { checkpoint, note: Note { text, signatures: vec![signature] } }
}

fn anchor(signed: &Signed) -> Anchor {
    signed.anchor(&[key("command-center/s1")], is_right).unwrap()
}

fn held_against(entries: &[Entry], anchors: Vec<Anchor>) -> Verdict {
    let mut verifier = Verifier::against(anchors);
    for entry in entries {
        verifier.push(entry);
    }
    verifier.finish(None)
}

/// Every hash made anew, as somebody would who can write the database.
fn rewritten(entries: &[Entry]) -> Vec<Entry> {
    let mut prev_hash = Digest([0; 32]);
    let entries = entries.iter().cloned().enumerate().map(|(at, mut entry)| {
        entry.seq = i64::try_from(at).unwrap() + 1;
        entry.prev_hash = prev_hash;
        entry.hash = entry.computed_hash();
        prev_hash = entry.hash;
        entry
    });
    entries.collect()
}

#[test]
fn the_specifications_own_example_is_read() {
    let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let key: VerifierKey = text.parse().unwrap();
    assert_eq!((key.name.as_str(), key.to_string()), ("example.com/foo", text.to_owned()));
    let note = "This is an example message.\n\n\u{2014} example.com/foo \
                Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let read: Note = note.parse().unwrap();
    assert_eq!((read.text.as_str(), read.to_string()), ("This is an example message.\n", note.to_owned()));
    assert!(key.made(&read.signatures[0]));
    assert!(matches!(text.replace("530d", "530e").parse::<VerifierKey>(), Err(BadNote::KeyHash(_))));
}

#[test]
fn a_checkpoint_says_why_it_proves_nothing() {
    let (_, head) = chain(3);
    let good = signed(head);
    assert_eq!(Signed::parse(&format!("\n{}\r\n", good.note)).unwrap(), good, "what mails add is no matter");
    let check = |signed: &Signed, key: VerifierKey| signed.anchor(&[key], is_right).unwrap_err();
    let own = key("command-center/s1");
    let mut forged = good.clone();
    forged.note.text = forged.note.text.replacen("3", "2", 1);
    assert_eq!(check(&forged, own.clone()), BadCheckpoint::Signature);
    assert!(check(&forged, own).is_tampering());
    assert!(matches!(check(&good, key("command-center/s2")), BadCheckpoint::UnknownKey { .. }));
    let mut foreign = good;
    foreign.checkpoint.origin = origin("s2");
    assert!(matches!(check(&foreign, key("command-center/s1")), BadCheckpoint::OtherStore { .. }));
    for text in ["", "\n\n", "a\n\nb\n", "command-center/s1\n03\nx\n\n\u{2014} a AAAAAAA=\n"] {
        assert!(Signed::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn kept_checkpoints_survive_one_that_was_torn_off() {
    let (entries, _) = chain(4);
    let all: Vec<Signed> = entries.iter().map(|entry| signed(Head { seq: entry.seq, hash: entry.hash })).collect();
    let texts: Vec<String> = all.iter().map(|signed| format!("{}\n", signed.note)).collect();
    assert_eq!(read_kept(&texts.concat()), (all.clone(), 0));
    for cut in 0..texts[1].len() {
        if !texts[1].is_char_boundary(cut) {
            continue;
        }
        let (found, unreadable) = read_kept(&format!("{}{}\n\n{}", texts[0], &texts[1][..cut], texts[2]));
        assert!(found.contains(&all[0]) && found.contains(&all[2]), "cut at {cut}: {found:?}");
        assert!(found.len() == 3 || unreadable <= 1, "cut at {cut}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    /// Whatever is done to a log shows; with a checkpoint also what makes a whole new chain.
    #[test]
    fn every_tampering_of_a_log_of_any_length_shows(length in 2i64..40, at in 0usize..40, other in 0usize..40, how in 0u8..7) {
        let (good, head) = chain(length);
        let (at, other) = (at % good.len(), other % good.len());
        let anchors = vec![anchor(&signed(head)), anchor(&signed(Head { seq: good[at].seq, hash: good[at].hash }))];
        proptest::prop_assert!(held_against(&good, anchors.clone()).valid);
        let mut bad = good.clone();
        let mut needs_checkpoint = false;
        match how {
            0 => bad[at].actor.push('x'),
            1 => bad[at].metadata = "{}".into(),
            2 => drop(bad.remove(at)),
            3 if at != other => bad.swap(at, other),
            4 => bad.insert(at, good[other].clone()),
            5 => {
                needs_checkpoint = true;
                bad.truncate(good.len() - 1);
            }
            _ => {
                needs_checkpoint = true;
                bad[at].actor.push('x');
                bad = rewritten(&bad);
            }
        }
        let with = held_against(&bad, anchors);
        proptest::prop_assert!(!with.valid && with.first_bad_seq.is_some(), "{}", with.message);
        let last_was_dropped = how == 2 && at == good.len() - 1;
        let without = verify(&bad, None).valid;
        proptest::prop_assert_eq!(without, needs_checkpoint || last_was_dropped);
    }

    #[test]
    fn notes_and_keys_never_panic_and_come_back_as_they_were(text: String, lines in proptest::collection::vec("[ -~\u{2014}]{0,40}", 0..8)) {
        let lines = lines.join("\n");
        for text in [text, format!("{lines}\n\n\u{2014} a AAAAAAA=\n"), lines] {
            if let Ok(note) = text.parse::<Note>() {
                proptest::prop_assert_eq!(note.to_string(), text.clone());
            }
            if let Ok(key) = text.parse::<VerifierKey>() {
                proptest::prop_assert_eq!(key.to_string().parse(), Ok(key));
            }
            let _ = (Signed::parse(&text), Checkpoint::parse(&text), read_kept(&text));
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was(seq in 0i64.., hash: [u8; 32], at in 0i64..4_000_000_000_000, previous: Option<[u8; 32]>) {
        let checkpoint = Checkpoint { origin: origin("s1"), head: Head { seq, hash: Digest(hash) }, at, previous: previous.map(Digest) };
        proptest::prop_assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint));
    }

    #[test]
    fn a_sealed_block_holds_what_was_sealed_and_bears_any_bytes(length in 1i64..30, skip in 0usize..30, flip: (u16, u8), noise: Vec<u8>) {
        let (entries, _) = chain(length);
        let entries = &entries[skip % entries.len()..];
        let before = Head { seq: entries[0].seq - 1, hash: entries[0].prev_hash };
        let (segment, bytes) = encode(before, entries).unwrap();
        let open = |bytes: &[u8]| decode(segment.first_seq, entries.len() as u64, segment.prev_hash, bytes);
        proptest::prop_assert_eq!(open(&bytes).unwrap(), entries);
        proptest::prop_assert!(segment.may_hold_tenant(&entries[0].tenant) && !segment.may_hold_tenant("nobody"));
        proptest::prop_assert_eq!(segment.summary.operations.values().sum::<u64>(), entries.len() as u64);
        // A flipped bit makes nonsense, or entries that do not verify.
        let mut flipped = bytes;
        let at = usize::from(flip.0) % flipped.len();
        flipped[at] ^= 1 << (flip.1 % 8);
        if let Ok(found) = open(&flipped) {
            let mut chain = Verifier::after(before);
            proptest::prop_assert!(!found.iter().all(|entry| chain.push(entry)));
        }
        let _ = open(&noise);
        let _ = decode(i64::MAX, u64::MAX, segment.prev_hash, &noise);
        proptest::prop_assert!(encode(Head::default(), &entries[1..]).is_err());
    }
}
