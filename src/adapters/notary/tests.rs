//! The notary on a real directory: keys made, kept and lost; checkpoints kept over crashes and days.

use std::fs;

use super::*;
use crate::core::model::Digest;

const NOW: Millis = 1_800_000_000_000;
const DAY: Millis = 24 * 3600 * 1000;

fn open(folder: &Path) -> (Notary, KeyState) {
    let (notary, state) = Notary::open(folder, None, "s1").unwrap();
    notary.publish().unwrap();
    (notary, state)
}

fn head(seq: i64) -> Head {
    Head { seq, hash: Digest::of(&seq.to_be_bytes()) }
}

fn seqs(notary: &Notary) -> Vec<i64> {
    let (all, _) = notary.kept().all().unwrap();
    all.iter().map(|signed| signed.checkpoint.head.seq).collect()
}

fn anchors(folder: &Path) -> Evidence {
    evidence(&Kept::at(folder).all().unwrap(), &known_keys(folder).unwrap(), "command-center/s1")
}

#[test]
fn a_key_is_made_once_and_only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let (first, state) = open(folder.path());
    assert_eq!(state, KeyState::Made);
    let key = folder.path().join(KEY_FILE);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let secret = fs::read_to_string(&key).unwrap();
    let public = fs::read_to_string(folder.path().join(PUBLIC_FILE)).unwrap();
    assert_eq!(public.trim(), first.key().to_string());
    // The last of five parts, which may hold a plus itself.
    assert!(!public.contains(secret.trim().splitn(5, '+').last().unwrap()));
    let (second, state) = open(folder.path());
    assert_eq!((state, second.key()), (KeyState::Kept, first.key()));
}

#[test]
fn signatures_are_real_and_any_change_breaks_them() {
    let folder = tempfile::tempdir().unwrap();
    let (notary, _) = open(folder.path());
    let signed = notary.sign(head(7), NOW).unwrap();
    let read = Signed::parse(&signed.note.to_string()).unwrap();
    assert_eq!(read.anchor(notary.keys(), is_right).unwrap().head, head(7));
    let mut forged = read;
    forged.note.text = forged.note.text.replace("\n7\n", "\n8\n");
    assert_eq!(forged.anchor(notary.keys(), is_right), Err(BadCheckpoint::Signature));
    // RFC 8032, 7.1, test 1.
    let key: [u8; 32] =
        hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap().try_into().unwrap();
    let signature = hex::decode(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    assert!(is_right(&key, b"", &signature.unwrap()));
}

#[test]
fn a_lost_key_is_replaced_and_what_it_signed_stays_good() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = open(folder.path());
    first.sign(head(1), NOW).unwrap();
    fs::remove_file(folder.path().join(KEY_FILE)).unwrap();
    let (second, state) = Notary::open(folder.path(), None, "s1").unwrap();
    assert_eq!(state, KeyState::Replaced { before: first.key().to_string() });
    // As long as nobody says that it is written down, the next start finds the same.
    let (second, state) = {
        drop(second);
        Notary::open(folder.path(), None, "s1").unwrap()
    };
    assert!(matches!(state, KeyState::Replaced { .. }));
    second.publish().unwrap();
    second.sign(head(2), NOW + 1).unwrap();
    let found = anchors(folder.path());
    assert_eq!((found.anchors.len(), found.forged, found.notes), (2, None, Vec::<String>::new()));
    assert_eq!(open(folder.path()).1, KeyState::Kept);
}

#[test]
fn a_key_that_was_taken_away_with_its_public_half_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = open(folder.path());
    let signed = first.sign(head(1), NOW).unwrap();
    for file in [KEY_FILE, PUBLIC_FILE] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let (second, state) = Notary::open(folder.path(), None, "s1").unwrap();
    let by = &signed.note.signatures[0];
    assert_eq!(state, KeyState::Replaced { before: format!("{}+{}", by.name, hex::encode(by.key_hash)) });
    second.publish().unwrap();
    assert_eq!(open(folder.path()).1, KeyState::Kept);
    // Somebody who believes the first key alone sees that another signs.
    let signed = second.sign(head(2), NOW + 1).unwrap();
    let found = signed.anchor_by(first.key(), is_right).unwrap_err();
    assert!(found.is_tampering() && found.to_string().contains("was replaced"), "{found}");
    assert!(signed.anchor_by(second.key(), is_right).is_ok());
    let (others, _) = Notary::open(tempfile::tempdir().unwrap().path(), None, "s2").unwrap();
    let found = signed.anchor_by(others.key(), is_right).unwrap_err();
    assert!(matches!(found, BadCheckpoint::OtherStore { .. }), "{found}");
}

#[test]
fn a_damaged_key_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("keys/own.key");
    let (notary, _) = Notary::open(folder.path(), Some(&elsewhere), "s1").unwrap();
    drop(notary);
    assert!(elsewhere.exists() && !folder.path().join(KEY_FILE).exists());
    for damaged in ["", "PRIVATE+KEY+a+00000000+AQ==", "hello"] {
        fs::write(&elsewhere, damaged).unwrap();
        let error = Notary::open(folder.path(), Some(&elsewhere), "s1").err().unwrap();
        assert!(error.to_string().contains("own.key holds no audit key"), "{error}");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), damaged);
    }
}

#[test]
fn checkpoints_are_kept_in_order_and_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (notary, _) = open(folder.path());
    assert_eq!(notary.last(), None);
    for seq in [1, 2, 2, 5] {
        notary.sign(head(seq), NOW + seq).unwrap();
    }
    assert_eq!(seqs(&notary), [1, 2, 5]);
    let (notary, _) = open(folder.path());
    let last = notary.last().unwrap();
    assert_eq!((last.checkpoint.head, last.checkpoint.at), (head(5), NOW + 5));
    let next = notary.sign(head(6), NOW + 6).unwrap();
    assert_eq!(next.checkpoint.previous, Some(last.hash()));
}

#[test]
fn one_that_a_crash_tore_off_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (notary, _) = open(folder.path());
    notary.sign(head(1), NOW).unwrap();
    let path = notary.kept().files().unwrap().remove(0);
    let whole = fs::read(&path).unwrap();
    for cut in 1..whole.len() {
        let torn = [whole.as_slice(), &whole[..cut]].concat();
        fs::write(&path, torn).unwrap();
        let (notary, _) = open(folder.path());
        notary.sign(head(9), NOW + 9).unwrap();
        let found = seqs(&notary);
        assert!(found.first() == Some(&1) && found.last() == Some(&9), "cut at {cut}: {found:?}");
        assert_eq!(anchors(folder.path()).forged, None, "cut at {cut}");
    }
}

#[test]
fn a_forged_checkpoint_and_those_of_others_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (notary, _) = open(folder.path());
    notary.sign(head(3), NOW).unwrap();
    let (other, _) = Notary::open(folder.path(), None, "s2").unwrap();
    other.sign(head(4), NOW + 1).unwrap();
    let found = anchors(folder.path());
    assert_eq!((found.anchors.len(), found.notes), (1, vec!["1 kept checkpoints are of another store".to_owned()]));
    let path = notary.kept().files().unwrap().remove(0);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\n3\n", "\n2\n", 1)).unwrap();
    let (seq, says) = anchors(folder.path()).forged.unwrap();
    assert!(seq == 2 && says.contains("signature is wrong"), "{says}");
}

#[test]
fn days_long_past_keep_their_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let (notary, _) = open(folder.path());
    for day in 0..12 {
        for n in 0..3 {
            notary.sign(head(day * 3 + n + 1), NOW + day * DAY + n).unwrap();
        }
    }
    assert_eq!(seqs(&notary)[..6], [3, 6, 9, 12, 13, 14]);
    assert_eq!(anchors(folder.path()).anchors.len(), 4 + 8 * 3);
}

#[test]
fn what_was_lost_is_put_aside_and_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (notary, _) = open(folder.path());
    for seq in 1..=4 {
        notary.sign(head(seq), NOW + seq * DAY).unwrap();
    }
    assert_eq!(notary.set_aside_after(4, NOW).unwrap(), 0);
    assert_eq!(notary.set_aside_after(2, NOW).unwrap(), 2);
    assert_eq!(seqs(&notary), [1, 2]);
    assert_eq!(notary.last().unwrap().checkpoint.head, head(2));
    let aside = fs::read_dir(notary.kept().folder()).unwrap().flatten().map(|entry| entry.path());
    let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains("set-aside")).collect();
    let (moved, _) = crate::core::audit::read_kept(&fs::read_to_string(&aside[0]).unwrap());
    assert_eq!(moved.len(), 2);
}
