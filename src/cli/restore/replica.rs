//! `restore --from`: a store from a replica, into its place.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{RestoreArgs, caller};
use crate::adapters::clock::Clock;
use crate::adapters::replica::{Destination, SharedPlace, Step};
use crate::adapters::secrets::Secrets;
use crate::app::{BringBack, bring_back, is_refusal};
use crate::cli::{CliError, Exit, Global, out, path_variable, store_path};
use crate::core::replica::choose::Target;
use crate::core::timing::{iso, parse_time};

/// Reaches a replica; its secrets are looked up as the server does.
pub(super) fn place(url: &str) -> Result<(SharedPlace, Destination), CliError> {
    let hint = "see docs/replication.md";
    let destination = Destination::parse(url).map_err(|problem| CliError::usage(format!("--from: {problem}"), hint))?;
    let secrets = Secrets { folder: path_variable("COMMAND_CENTER_SECRETS_DIR") };
    let place = destination.open(&secrets).map_err(|error| CliError::usage(format!("--from: {error}"), hint))?;
    Ok((place, destination))
}

/// A bar in bytes; drawn only where a person is looking.
pub(super) fn bar(message: &'static str) -> ProgressBar {
    let bar = out::bytes_bar(message);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:32} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// How far to go.
fn target(args: &RestoreArgs) -> Result<Target, CliError> {
    Ok(match (args.to_seq, args.to_time.as_deref()) {
        (Some(seq), _) => Target::Seq(seq),
        (_, Some(text)) => Target::Time(parse_time(text).ok_or_else(|| {
            let hint = "a time in RFC 3339 (2026-11-21T08:00:00Z) or epoch seconds";
            CliError::usage(format!("--to-time {text} is no time"), hint)
        })?),
        _ => Target::Newest,
    })
}

pub(super) async fn replica(args: &RestoreArgs, global: &Global) -> Result<Exit, CliError> {
    let (place, destination) = place(args.from.as_deref().unwrap_or_default())?;
    let target = target(args)?;
    let database: PathBuf = args.data_dir.as_ref().map_or_else(store_path, |dir| dir.join("command_center.db"));
    let desired = args.write_desired.then(|| args.desired_dir.path());
    let name = format!("replica {}", destination.shown());
    let asked = BringBack {
        place: &*place,
        name: &name,
        target,
        database: &database,
        force: args.force,
        desired: desired.as_deref(),
        caller: caller(),
        now: Clock::System.now(),
    };
    let bar = bar("restoring");
    let told = bar.clone();
    let progress = move |step: Step| {
        told.set_length(step.total);
        told.set_position(step.done);
    };
    let done = bring_back(&asked, &progress).await;
    bar.finish_and_clear();
    let done = match done {
        Ok(done) => done,
        Err(error) if is_refusal(&error) => {
            out::error(&format!("{error:#}"), None);
            return Ok(Exit::No);
        }
        Err(error) => return Err(error.into()),
    };
    let (restored, point) = (&done.restored, done.restored.point);
    if global.json() {
        out::json(&json!({
            "ok": true, "from": destination.shown(), "database": database, "generation": restored.generation,
            "last_seq": point.head.seq, "last_entry_iso": iso(point.at), "hash": point.head.hash.to_hex(),
            "segments": restored.segments, "bytes": restored.bytes, "entries_verified": done.entries,
            "schedules": done.schedules, "set_aside": done.set_aside, "desired_files": done.desired,
            "notes": restored.notes, "took_sec": done.took.as_secs_f64(),
        }));
        return Ok(Exit::Done);
    }
    restored.notes.iter().for_each(|note| out::warning(note));
    out::line(&format!(
        "restored {} from {}\n  up to audit entry {} ({}), {} schedules; {} entries verified\n  {} segments after the snapshot of {}, {} bytes, in {:.1} s",
        database.display(),
        destination.shown(),
        point.head.seq,
        iso(point.at),
        done.schedules,
        done.entries,
        restored.segments,
        iso(restored.snapshot.taken_at),
        restored.bytes,
        done.took.as_secs_f64()
    ));
    if restored.is_cut {
        out::line("  what came after that stays in the replica");
    }
    if let Some(aside) = &done.set_aside {
        out::line(&format!("  the store that was there is now {}", aside.display()));
    }
    if let (Some(count), Some(root)) = (done.desired, &desired) {
        out::line(&format!("  {count} files written into {}", root.display()));
    }
    Ok(Exit::Done)
}
