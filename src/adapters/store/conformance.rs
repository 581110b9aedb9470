//! What every store must do, as checks that any engine can be put through: give an engine a `Site`
//! and `store_conformance!` makes one test of each check.

pub(super) mod audit;
pub(super) mod history;
pub(super) mod inbox;
pub(super) mod lasting;
pub(super) mod listing;
pub(super) mod many;
pub(super) mod model;
pub(super) mod notes;
pub(super) mod past;
pub(super) mod records;
pub(super) mod runs;
pub(super) mod schedules;
pub(super) mod sealing;

use tokio::sync::mpsc;

use super::{Applied, Author, Change, ChangeKind, Claim, Completion, Put, SharedStore, StoreResult};
use crate::core::audit::{Draft, Verdict, Verifier, operation};
use crate::core::missed::{Miss, Missed};
use crate::core::model::{Digest, ImportStats, Millis, ScheduleId, Source};
use crate::core::policy::Overlap;
use crate::core::row::RowSpec;
use crate::core::run::{RunState, Trigger};

/// A place of its own where one store lives, empty at first. What the checks cannot do through the
/// `Store` itself, the engine's site does for them.
pub(super) trait Site {
    /// Opens what stands there; the store opened before has been closed.
    fn open(&self) -> SharedStore;
    /// Writes something harmless past every open store, as a person with the engine's own tools would.
    fn write_past(&self);
    /// From now on the engine refuses a record with this key.
    fn refuse_record(&self, key: &str);
    /// The fencing terms of all runs, in order of the runs' ids.
    fn terms(&self) -> Vec<i64>;
}

/// One test for every check, each over a new site.
macro_rules! store_conformance {
    ($site:expr) => {
        $crate::adapters::store::conformance::store_conformance! { @each $site;
            schedules: what_is_put_is_read_back a_put_renews_the_row_and_keeps_its_history
                a_timer_that_stood_still_counts_failures_anew
                a_put_that_keeps_the_due_time_leaves_a_timer_that_moved_on
                a_lost_row_gets_its_key_again a_key_is_never_given_twice a_delete_leaves_nothing
                changes_apply_together_or_not_at_all a_failure_undoes_only_itself stamps_are_remembered;
            history: every_content_is_a_revision_once revisions_are_filtered_and_paged
                a_deletion_is_a_revision_and_its_content_stays a_refused_change_leaves_no_revision
                the_fleet_as_it_was_then;
            audit: entries_stand_and_fall_with_their_change the_chain_holds_under_concurrency
                the_head_outlives_the_store filters_narrow_the_page pages_join_without_gap_or_repeat
                counts_add_up;
            runs: one_slot_is_granted_once different_slots_are_all_granted one_batch_grants_a_slot_once
                a_timer_moves_only_from_where_it_stands a_lift_is_told_of_once
                overlap_is_decided_from_the_runs_that_are_not_done a_run_for_events_keeps_no_slot_back
                a_run_between_two_attempts_makes_way_and_is_found_again
                a_claim_moves_its_timer_unless_an_edit_came_between
                whoever_knows_a_schedule_otherwise_neither_claims_nor_moves_it
                a_claims_entries_come_only_with_its_grant terms_rise_with_each_opening
                a_completion_shows_in_the_status missed_slots_and_lateness_are_kept failures_add_up_until_a_success
                a_completion_after_the_delete_touches_no_other_schedule open_runs_survive_a_restart;
            past: a_run_is_read_back_whole runs_are_filtered_and_paged history_is_kept_by_count
                open_runs_and_the_last_good_one_stay history_is_kept_by_age a_forgotten_slot_is_not_taken_again
                what_a_run_lacks_is_kept_with_it;
            records: a_page_counts_new_changed_and_unchanged records_of_others_are_not_touched
                a_page_and_its_bookmark_are_one a_page_counts_for_its_run no_bookmark_keeps_the_last records_are_read_back_in_order
                pages_of_records_join records_are_counted_by_resource
                deleted_records_are_gone_at_once_with_their_bookmarks what_came_again_survives_the_purge;
            sealing: a_sealed_log_reads_as_it_did what_was_recent_stays_unsealed
                old_revisions_are_forgotten_and_young_ones_stay records_unseen_for_long_are_forgotten;
            notes: a_problem_keeps_its_since brakes_hold_until_released holds_and_their_dismissal_are_kept_together
                intents_stand_in_order_until_forgotten commits_stand_in_order_until_forgotten
                answers_are_remembered_and_expire the_last_good_defaults_are_kept;
            inbox: an_event_is_new_once_for_each_schedule events_wait_in_order_until_settled_also_over_a_restart
                old_events_are_forgotten;
            listing: statuses_page_through_everything_once one_tenants_status the_fleet_comes_in_order
                a_reader_that_leaves_harms_nobody;
            many: specifications_come_in_the_order_of_names an_action_is_found_with_what_was_before_it;
            lasting: everything_outlives_the_store a_write_counts_though_nobody_waits
                foreign_writes_are_noticed_once a_closed_store_answers_stopped what_was_handed_in_is_finished;
        }
        #[test]
        fn random_sequences_agree_with_the_model() {
            $crate::adapters::store::conformance::model::agrees(|| $site);
        }
    };
    (@each $site:expr; $($area:ident: $($check:ident)*;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let site = $site;
                $crate::adapters::store::conformance::$area::$check(&site).await;
            }
        )*)*
    };
}
pub(super) use store_conformance;

/// Some moment; the checks count from it.
const NOW: Millis = 1_800_000_000_000;

fn id(name: &str) -> ScheduleId {
    name.parse().unwrap()
}

fn spec(interval_sec: u32) -> RowSpec {
    RowSpec {
        interval_sec: Some(interval_sec),
        cron: None,
        timezone: None,
        paused: false,
        pause_reason: None,
        pause_until: None,
        rest: "{}".into(),
    }
}

fn row(interval_sec: u32, next_due: Option<Millis>) -> Put {
    let content = format!("interval_sec: {interval_sec}\n").into_bytes();
    let spec = spec(interval_sec);
    let (fingerprint, digest) = (spec.fingerprint(), Digest::of(&content));
    Put { row: None, fingerprint, spec, digest, basis: digest, content, stamp: 0, next_due, keeps_due: false }
}

fn change(name: &str, kind: ChangeKind) -> Change {
    Change { id: id(name), kind, by: author("0190"), audit: Vec::new() }
}

fn author(action_id: &str) -> Author {
    Author { source: Source::Api, actor: "zoe".into(), action_id: action_id.into() }
}

fn put(name: &str, interval_sec: u32, next_due: Option<Millis>) -> Change {
    change(name, ChangeKind::Put(Box::new(row(interval_sec, next_due))))
}

/// A put that no engine can take: it asks for a key that another schedule has.
fn impossible(name: &str, taken: i64) -> Change {
    let put = Put { row: Some(taken), ..row(1, None) };
    Change { audit: vec![draft(name)], ..change(name, ChangeKind::Put(Box::new(put))) }
}

fn draft(name: &str) -> Draft {
    let id = id(name);
    Draft {
        tenant: id.tenant.to_string(),
        connector: Some(id.connector),
        operation: operation::UPDATED,
        source: Source::Api,
        actor: "Zoë \"Z\"".into(),
        action_id: "0190".into(),
        metadata: serde_json::json!({"diff": []}).into(),
    }
}

fn claim(name: &str, nominal: Millis) -> Claim {
    Claim {
        id: id(name),
        nominal,
        trigger: Trigger::Schedule,
        overlap: Some(Overlap::Allow),
        asked: None,
        attempts: 0,
        advance: None,
        audit: Vec::new(),
    }
}

/// A good end of a run, at once.
fn end(run: i64, row: i64) -> Completion {
    Completion {
        run,
        started: NOW,
        row,
        ended: NOW,
        state: RunState::Done,
        ok: true,
        message: String::new(),
        error_class: None,
        stats: ImportStats::default(),
        attempts: 1,
        log: None,
        volume: None,
    }
}

async fn apply(store: &SharedStore, changes: Vec<Change>) -> Applied {
    store.apply(changes, Vec::new(), NOW).await.unwrap()
}

/// Applies one put and gives the row's key.
async fn add(store: &SharedStore, name: &str, next_due: Option<Millis>) -> i64 {
    apply(store, vec![put(name, 300, next_due)]).await.rows[0]
}

/// Takes one slot, which must be free, and gives the run.
async fn start(store: &SharedStore, name: &str, nominal: Millis) -> i64 {
    store.claim(vec![claim(name, nominal)], NOW).await.unwrap().remove(0).run().unwrap().run
}

async fn due(store: &SharedStore, name: &str) -> Option<Millis> {
    store.schedule(id(name)).await.unwrap().unwrap().next_due
}

/// All that a stream hands over.
async fn gather<T>(mut batches: mpsc::Receiver<StoreResult<Vec<T>>>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(batch) = batches.recv().await {
        all.extend(batch.unwrap());
    }
    all
}

/// What a walk over the whole log says, measured against the head that was written down.
async fn verdict(store: &SharedStore) -> Verdict {
    let mut verifier = Verifier::default();
    for entry in gather(store.audit_log()).await {
        verifier.push(&entry);
    }
    verifier.finish(Some(store.audit_head().await.unwrap()))
}

/// The log must be whole and hold this many entries.
async fn assert_whole(store: &SharedStore, entries: u64) {
    let verdict = verdict(store).await;
    assert!(verdict.valid, "{}", verdict.message);
    assert_eq!(verdict.total_entries, entries);
}
