//! `restore FILE`: puts a backup or a snapshot in the store's place, checked through before anything is touched.

use std::path::Path;

use serde_json::json;

use super::super::{CliError, Exit, Global, out, store_path};
use super::{RestoreArgs, caller};
use crate::adapters::clock::Clock;
use crate::adapters::snapshots::CopyError;
use crate::adapters::snapshots::bundle::Stage;
use crate::app::heal::{DesiredWritten, HealError, RestoreAsked, RestoreDone, restore_file};

pub(super) async fn file(file: &Path, args: &RestoreArgs, global: &Global) -> Result<Exit, CliError> {
    let named = args.data_dir.as_ref().map(|folder| folder.join("command_center.db"));
    let (database, desired_dir) = (named.unwrap_or_else(store_path), args.desired_dir.path());
    let asked = RestoreAsked {
        file,
        database: &database,
        desired_dir: &desired_dir,
        force: args.force,
        desired: args.desired,
        caller: caller(),
        now: Clock::System.now(),
    };
    let bar = out::stages();
    let mut tell = |stage: Stage| {
        bar.set_message(stage.doing);
        bar.set_length(stage.total);
        bar.set_position(stage.done);
    };
    let done = restore_file(&asked, &mut tell);
    bar.finish_and_clear();
    let done = match done {
        Ok(done) => done,
        Err(error) if is_refusal(&error) => {
            let hint = error.is_locked().then_some("stop the server first, then restore and start it again");
            if global.json() {
                out::json(&json!({"ok": false, "detail": error.to_string()}));
            }
            out::error(&error.to_string(), hint);
            return Ok(Exit::No);
        }
        Err(error) => return Err(anyhow::Error::from(error).into()),
    };
    // What the files say of the restored store is what the next start will make of it.
    let pending = crate::app::offline_diff(&desired_dir, &database).await.ok().map(|answer| answer.changes.len());
    show(file, &done, &database, pending, global);
    Ok(Exit::Done)
}

/// Whether the copy or the place was not as it has to be, and nothing was changed.
fn is_refusal(error: &HealError) -> bool {
    matches!(error, HealError::Refused(_) | HealError::Copy(CopyError::Bad { .. })) || error.is_locked()
}

fn show(file: &Path, done: &RestoreDone, database: &Path, pending: Option<usize>, global: &Global) {
    let manifest = &done.manifest;
    let aside = done.set_aside.as_ref().map(|path| path.display().to_string());
    let (files, displaced, left) = match &done.desired {
        DesiredWritten::None => (0, None, 0),
        DesiredWritten::Left { in_copy } => (0, None, *in_copy),
        DesiredWritten::Written { files, displaced } => {
            (*files, displaced.as_ref().map(|path| path.display().to_string()), 0)
        }
    };
    if global.json() {
        out::json(&json!({
            "ok": true, "database": database.display().to_string(), "from": file.display().to_string(),
            "from_iso": manifest.at_iso, "audit_seq": manifest.audit_seq, "entries_checked": done.entries,
            "set_aside": aside, "desired_written": files, "desired_displaced": displaced, "desired_left": left,
            "changes_at_start": pending,
        }));
        return;
    }
    out::line(&format!(
        "Restored {} as it was at {}: audit log up to entry {}, all {} entries checked.",
        database.display(),
        manifest.at_iso,
        manifest.audit_seq,
        done.entries
    ));
    if let Some(aside) = aside {
        out::line(&format!("The store that was there lies in {aside}."));
    }
    if files > 0 {
        out::line(&format!("{files} desired files written."));
    }
    if let Some(displaced) = displaced {
        out::line(&format!("Desired files that were different lie in {displaced}."));
    }
    if left > 0 {
        out::line(&format!(
            "The backup's {left} desired files were left out, as there are some; --desired writes them."
        ));
    }
    out::line(&match pending {
        Some(0) => "The desired files agree with it: the next start changes no schedule.".to_owned(),
        Some(count) => {
            format!("The next start makes {count} change(s) by the desired files; `command-center diff` shows them.")
        }
        None => "The next start reconciles it with the desired files.".to_owned(),
    });
    out::line(
        "Slots that passed meanwhile are caught up on by each schedule's rule; exec without retries passes them over.",
    );
}
