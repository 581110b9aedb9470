//! Generated documents times every edit: what was meant is said, and every byte outside the keys
//! that were meant is the same, in the same order.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};

use super::super::*;
use super::acculynx;

/// A run of lines that belongs to some keys, or to none: comments and blank lines.
#[derive(Clone, Debug)]
struct Piece {
    keys: &'static [&'static str],
    text: String,
}

const CADENCE: &[&str] = &["interval_sec", "cron", "timezone"];
const PAUSE: &[&str] = &["paused", "pause_reason", "pause_until"];

fn piece(keys: &'static [&'static str], texts: &'static [&'static str]) -> impl Strategy<Value = Piece> {
    prop::sample::select(texts).prop_map(move |text| Piece { keys, text: text.to_owned() })
}

fn cadence() -> impl Strategy<Value = Piece> {
    piece(
        CADENCE,
        &[
            "interval_sec: 300\n",
            "interval_sec:\t7 # häufig 🏠\n",
            "\"interval_sec\"  :   300   \n",
            "cron: \"*/5 * * * *\" # c\n",
            "cron: '0 5 * * *'\ntimezone: \"America/Denver\" # 山\n",
            "timezone: Europe/Berlin\ncron: 0 5 * * *\n",
            "interval_sec: &n 300\n",
            "interval_sec: # the value follows\n  300\n",
        ],
    )
}

fn pause() -> impl Strategy<Value = Piece> {
    piece(
        PAUSE,
        &[
            "",
            "paused: false\n",
            "paused: true # warum\npause_reason: 'it''s off – größer' # see\n",
            "paused: true\npause_reason: \"Dach \\\"neu\\\" \\u00e9 🏠\"\n",
            "paused: true\npause_reason: >-\n  folded\n  text\npause_until: 2027-01-15T08:01:00Z # bis dann\n",
            "'paused': true\npause_until: \"2027-01-15T08:01:00Z\"\n",
            "pause_reason: plain, with#no\n# between\npaused: true\n",
        ],
    )
}

fn connection() -> impl Strategy<Value = Piece> {
    piece(
        &["connection"],
        &[
            "",
            "connection:\n  base_url: https://a.example # x\n  api_key: { env: CC_SECRET_A }\n",
            "connection: { base_url: 'https://a.example', api_key: { file: a } } # flow\n",
            "connection:\n    api_key:\n        # ключ\n        env: CC_SECRET_A # e\n    # after\n    base_url: \"https://a.example/é\"\n",
            "connection: {\n  # oben\n  base_url: https://a.example, # b\n  api_key: {env: CC_SECRET_A}\n}\n",
        ],
    )
}

fn resources() -> impl Strategy<Value = Piece> {
    piece(
        &["resources"],
        &[
            "",
            "resources: [jobs,  contacts] # all\n",
            "resources:\n- jobs # j\n- 'contacts'\n",
            "resources:\n    - jobs\n    # and\n    - contacts # c\n",
            "resources: [\n  \"jobs\", # j\n  contacts,\n]\n",
        ],
    )
}

fn labels() -> impl Strategy<Value = Piece> {
    piece(
        &["labels"],
        &[
            "",
            "labels: { region: west }\n",
            "labels:\n  region: west # r\n  \"tier\": 'gold'\n\n  # c\n  größe: \"12 m²\"\n",
            "labels: &l\n  region: &r west\n  same: *r\n",
            "labels: {region: west, tier: \"a, b\", 'ключ': '#nicht'}\n",
            "labels:\n  region: |\n    two\n    lines\n  tier: gold\n",
        ],
    )
}

fn comment() -> impl Strategy<Value = Piece> {
    piece(&[], &["", "# oben\n", "\n", "# a: b 🏠\n\n", "#\n#   eingerückt: [\n", "\n\n"])
}

#[derive(Clone, Debug)]
struct Document {
    pieces: Vec<Piece>,
    is_finished: bool,
}

impl Document {
    fn text(&self) -> String {
        self.pieces.iter().map(|piece| piece.text.as_str()).collect()
    }
}

fn document() -> impl Strategy<Value = Document> {
    let keyed = (cadence(), pause(), connection(), resources(), labels());
    let keyed = keyed.prop_map(|(a, b, c, d, e)| vec![a, b, c, d, e]).prop_shuffle();
    let between = prop::collection::vec(comment(), 6);
    (keyed, between, any::<(bool, bool, bool)>()).prop_map(|(keyed, between, (crlf, bom, is_finished))| {
        let mut pieces = Vec::new();
        let mut between = between.into_iter();
        for piece in keyed {
            pieces.extend(between.next());
            pieces.push(piece);
        }
        pieces.extend(between);
        if !is_finished {
            while let Some(last) = pieces.last_mut() {
                last.text.truncate(last.text.trim_end().len());
                if !last.text.is_empty() {
                    break;
                }
                pieces.pop();
            }
        }
        for piece in &mut pieces {
            if crlf {
                piece.text = piece.text.replace('\n', "\r\n");
            }
        }
        if bom {
            pieces.insert(0, Piece { keys: &[], text: "\u{feff}".to_owned() });
        }
        Document { pieces, is_finished }
    })
}

/// Every field set and taken away, and the edits of the API.
fn patches() -> Vec<Value> {
    vec![
        json!({ "paused": true, "pause_reason": null, "pause_until": null }),
        json!({ "paused": true, "pause_reason": "Umzug – \"später\" # 屋根: 'x'", "pause_until": null }),
        json!({ "paused": true, "pause_reason": "x", "pause_until": "2027-02-01T00:00:00Z" }),
        json!({ "paused": false, "pause_reason": null, "pause_until": null }),
        json!({ "paused": null, "pause_reason": null, "pause_until": null }),
        json!({ "interval_sec": 61 }),
        json!({ "cron": "15 6 * * 1-5" }),
        json!({ "cron": "15 6 * * 1-5", "timezone": "Europe/Paris" }),
        json!({ "timezone": null }),
        json!({ "connection": { "base_url": "https://b.example/ü" } }),
        json!({ "connection": { "base_url": null } }),
        json!({ "connection": { "api_key": { "env": "CC_SECRET_B", "file": null } } }),
        json!({ "connection": { "api_key": { "file": "b", "env": null } } }),
        json!({ "connection": { "api_key": null } }),
        json!({ "connection": null }),
        json!({ "resources": ["contacts"] }),
        json!({ "resources": ["contacts", "jobs"] }),
        json!({ "resources": null }),
        json!({ "labels": { "region": "ost – süd" } }),
        json!({ "labels": { "region": null } }),
        json!({ "labels": { "neu": "äöü 🏠", "tier": "yes" } }),
        json!({ "labels": null }),
        json!({ "interval_sec": 9, "paused": true, "labels": { "a": "b" }, "resources": ["jobs"], "connection": null }),
    ]
}

/// The keys that a patch may touch: those it names, and those which cannot stand beside them.
fn touches(patch: &Value, piece: &Piece) -> bool {
    patch.as_object().unwrap().keys().any(|key| piece.keys.contains(&key.as_str()))
}

/// Every piece that was not meant stands in `after` as it was, in order, and nothing else does but
/// what stands for those that were meant.
fn outside_is_the_same(document: &Document, patch: &Value, after: &str) -> Result<(), String> {
    let mut rest = after;
    let mut touched_text = 0;
    for piece in &document.pieces {
        if touches(patch, piece) {
            touched_text += piece.text.len();
            continue;
        }
        // Blank lines beside an entry are its own spacing, and go with it.
        let text = piece.text.trim_end();
        let Some(at) = rest.find(text) else { return Err(format!("{text:?} is gone, or has moved")) };
        rest = &rest[at + text.len()..];
    }
    let kept: usize = document.pieces.iter().filter(|p| !touches(patch, p)).map(|p| p.text.trim_end().len()).sum();
    let new = after.len() - kept;
    // No edit writes more than its own lines.
    if new > touched_text + 400 { Err(format!("{new} bytes for {touched_text}")) } else { Ok(()) }
}

fn check(document: &Document, patch: &Value) -> Result<bool, String> {
    let (id, text) = (acculynx(), document.text());
    let patch_object = patch.as_object().unwrap();
    let before = document_value(&id, text.as_bytes()).map_err(|found| format!("{found:?}"))?;
    let bytes = match edit(&id, text.as_bytes(), patch_object) {
        Ok(bytes) => bytes,
        Err(refused) if refused.suggestion.is_empty() => return Err(format!("no way is shown: {refused}")),
        Err(_) => return Ok(false),
    };
    let after = String::from_utf8(bytes.clone()).map_err(|error| error.to_string())?;
    let said = document_value(&id, &bytes).map_err(|found| format!("{found:?} in {after:?}"))?;
    if said != merged(&before, patch_object) {
        return Err(format!("says {said} in {after:?}"));
    }
    if said == before && after != text {
        return Err(format!("nothing was to be changed, and it is {after:?}"));
    }
    outside_is_the_same(document, patch, &after).map_err(|found| format!("{found} in {after:?}"))?;
    let has_crlf = text.contains("\r\n");
    if text.contains('\n') && has_crlf == after.replace("\r\n", "").contains('\n') {
        return Err(format!("line ends are mixed in {after:?}"));
    }
    if document.is_finished && !after.is_empty() && !after.ends_with('\n') {
        return Err(format!("the last line has lost its end in {after:?}"));
    }
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]
    #[test]
    fn every_edit_of_any_document_changes_what_was_meant_and_no_other_byte(document in document()) {
        for patch in patches() {
            if let Err(found) = check(&document, &patch) {
                return Err(TestCaseError::fail(format!("{patch} on {:?}: {found}", document.text())));
            }
        }
    }
}

/// A fuzz in which every edit is refused would prove nothing.
#[test]
fn most_edits_of_generated_documents_are_made() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut made, mut all) = (0, 0);
    for _ in 0..40 {
        let document = document().new_tree(&mut runner).unwrap().current();
        for patch in patches() {
            made += usize::from(check(&document, &patch).unwrap());
            all += 1;
        }
    }
    assert!(made * 100 > all * 80, "{made} of {all}");
}
