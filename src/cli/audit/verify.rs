//! `audit verify`: has the server walk the log, or walks a copy of the store; against kept checkpoints and
//! one that the caller brings.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::super::client::{Client, ClientError, Request};
use super::super::{CliError, Exit, Global, out, path_variable, store_path};
use super::LONG;
use crate::adapters::notary::{Kept, evidence, is_right, known_keys};
use crate::adapters::store::{AuditStore as _, SqliteStore, Store as _, StoreError};
use crate::core::audit::{Anchor, BadCheckpoint, Signed, Verdict, Verifier, VerifierKey, origin};

/// Between two looks at how far the server has come.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center audit verify                                     by the server, or the store when none runs
  command-center audit verify --dsn ./data/command_center.db      without asking a server
  command-center audit verify --checkpoint kept.txt --key \"$(cat kept.pub)\"

Exit codes: 0 valid, 1 tampered, 2 could not check.")]
pub(in crate::cli) struct VerifyArgs {
    /// Check this database instead of asking a server; read from a private copy.
    #[arg(long, value_name = "FILE")]
    dsn: Option<PathBuf>,
    /// A checkpoint that was kept: today's log has to continue it. - reads it from stdin.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Believe this key alone, as `audit key` printed it, instead of those that lie beside the store.
    #[arg(long, value_name = "VKEY", requires = "checkpoint")]
    key: Option<String>,
}

/// What the caller brings.
struct Brought {
    text: String,
    key: Option<String>,
}

pub(in crate::cli) async fn verify(args: VerifyArgs, global: &Global) -> Result<Exit, CliError> {
    let text = args.checkpoint.as_deref().map(read_checkpoint).transpose()?;
    let brought = text.map(|text| Brought { text, key: args.key });
    let verdict = match &args.dsn {
        Some(dsn) => verify_store(dsn, dsn.parent().map(Path::to_owned), brought.as_ref()).await?,
        None => match ask(&global.client()?, request(brought.as_ref())).await {
            Ok((verdict, _)) => verdict,
            Err(error) if error.is_unreachable() && store_path().exists() => {
                let dsn = store_path();
                out::note(&format!("{error}; checking the store {}", dsn.display()));
                let data_dir = path_variable("COMMAND_CENTER_DATA_DIR").or(dsn.parent().map(Path::to_owned));
                verify_store(&dsn, data_dir, brought.as_ref()).await?
            }
            Err(error) => return Err(error.into()),
        },
    };
    for note in &verdict.notes {
        out::warning(&out::clean(note));
    }
    if global.json() {
        out::json(&verdict);
    } else if verdict.valid {
        out::line(&out::paint(out::GREEN, &format!("valid: {}", out::clean(&verdict.message))));
    } else {
        let at = verdict.first_bad_seq.map(|seq| format!(" from entry {seq} on")).unwrap_or_default();
        out::line(&out::paint(out::RED, &format!("tampered{at}: {}", out::clean(&verdict.message))));
    }
    Ok(Exit::yes(verdict.valid))
}

/// Waits for the server's verdict, and shows meanwhile how far it has come, where a person looks.
async fn ask(client: &Client, request: Request<'_>) -> Result<(Verdict, Value), ClientError> {
    let spinner = out::spinner("the server checks the audit log");
    let mut verdict = std::pin::pin!(client.ask::<Verdict>(request));
    loop {
        tokio::select! {
            found = &mut verdict => {
                spinner.finish_and_clear();
                return found;
            }
            () = tokio::time::sleep(LOOK), if !spinner.is_hidden() => {}
        }
        // One look that fails is no matter.
        let health = client.send(Request::get("/ops/health")).await.unwrap_or_default();
        let walk = |name: &str| health.pointer(&format!("/db/audit/verifying/{name}")).and_then(Value::as_i64);
        if let (Some(at), Some(end)) = (walk("entries"), walk("of")) {
            spinner.set_message(format!("the server checks the audit log: {at} of {end} entries"));
        }
    }
}

fn request(brought: Option<&Brought>) -> Request<'static> {
    let request = match brought {
        None => Request::get("/ops/audit/verify"),
        Some(Brought { text, key }) => Request::post("/ops/audit/verify", json!({"checkpoint": text, "key": key})),
    };
    request.wait(LONG)
}

fn read_checkpoint(path: &Path) -> Result<String, CliError> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path).map_err(CliError::read(path));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(CliError::read(Path::new("stdin")))?;
    Ok(text)
}

/// Checks a private copy. One that was taken while someone wrote may be torn, so that a bad
/// verdict counts only when a second copy gives it too.
async fn verify_store(dsn: &Path, data_dir: Option<PathBuf>, brought: Option<&Brought>) -> Result<Verdict, CliError> {
    if !dsn.exists() {
        let message = format!("there is no database {}", dsn.display());
        return Err(CliError::usage(message, "name it with --dsn"));
    }
    let data_dir = data_dir.unwrap_or_else(|| PathBuf::from("."));
    let first = verify_copy(dsn, &data_dir, brought).await?;
    if first.valid { Ok(first) } else { verify_copy(dsn, &data_dir, brought).await }
}

async fn verify_copy(dsn: &Path, data_dir: &Path, brought: Option<&Brought>) -> Result<Verdict, CliError> {
    // Before the copy is made: a checkpoint that came after it would be of an entry that the copy lacks.
    let kept = Kept::at(data_dir).all().map_err(anyhow::Error::from)?;
    let keys = known_keys(data_dir).map_err(anyhow::Error::from)?;
    let folder = tempfile::tempdir().map_err(CliError::write(&std::env::temp_dir()))?;
    let store = SqliteStore::open_copy(dsn, folder.path()).map_err(anyhow::Error::from)?;
    let name = origin(&store.store_id().await.map_err(anyhow::Error::from)?);
    let mut found = evidence(&kept, &keys, &name);
    let verdict = match brought.map(|brought| read_brought(brought, &keys, &name)).transpose() {
        Err(BroughtError::Tampered(message)) => Ok(Verdict { message, ..Verdict::default() }),
        Err(BroughtError::Other(error)) => Err(error),
        Ok(anchor) => {
            found.anchors.extend(anchor);
            walk(&store, found.anchors).await.map_err(|error| anyhow::Error::from(error).into())
        }
    };
    store.close();
    drop(store);
    let mut verdict = verdict?;
    if let Some((_, says)) = found.forged.filter(|_| verdict.valid) {
        (verdict.valid, verdict.message) = (false, says);
    }
    verdict.notes = found.notes;
    Ok(verdict)
}

enum BroughtError {
    /// It was changed after it was signed.
    Tampered(String),
    Other(CliError),
}

fn read_brought(brought: &Brought, known: &[VerifierKey], name: &str) -> Result<Anchor, BroughtError> {
    let other = |message: String, hint: &str| BroughtError::Other(CliError::usage(message, hint));
    let hint = "give a file that `audit checkpoint` wrote, and with --key what `audit key` printed";
    let key = brought.key.as_deref().map(str::parse).transpose();
    let key = key.map_err(|error: crate::core::audit::BadNote| other(error.to_string(), hint))?;
    let read = Signed::parse(&brought.text).and_then(|signed| {
        let anchor = match &key {
            Some(key) => signed.anchor_by(key, is_right)?,
            None => signed.anchor(known, is_right)?,
        };
        let (found, expected) = (signed.checkpoint.origin, name.to_owned());
        if found == expected { Ok(anchor) } else { Err(BadCheckpoint::OtherStore { found, expected }) }
    });
    read.map_err(|error| match error.is_tampering() {
        true => BroughtError::Tampered(error.to_string()),
        false => other(error.to_string(), hint),
    })
}

async fn walk(store: &SqliteStore, anchors: Vec<Anchor>) -> Result<Verdict, StoreError> {
    let head = store.audit_head().await?;
    let bar = out::bar(usize::try_from(head.seq).unwrap_or(0));
    let mut verifier = Verifier::against(anchors);
    let mut log = store.audit_log();
    while let Some(batch) = log.recv().await {
        match batch {
            Ok(batch) => {
                for entry in &batch {
                    verifier.push(entry);
                }
            }
            Err(StoreError::Damaged(damage)) => {
                verifier.damaged(damage.first, damage.last, &damage.reason);
                break;
            }
            Err(error) => return Err(error),
        }
        bar.set_position(u64::try_from(verifier.seq()).unwrap_or(0));
    }
    bar.finish_and_clear();
    Ok(verifier.finish(Some(head)))
}
