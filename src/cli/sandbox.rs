//! `sandbox`: the practice AccuLynx alone.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::serve::stop_on_signals;
use super::{CliError, Exit, out};
use crate::adapters::clock::Clock;
use crate::sandbox::{BASE_PATH, SandboxOptions, serve};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  command-center sandbox --addr 127.0.0.1:8900 --jobs 500
  curl -H 'Authorization: Bearer sandbox-peakpro' http://127.0.0.1:8900/api/v2/jobs")]
pub(super) struct SandboxArgs {
    /// Where it listens; stay on loopback, it has no secrets.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8900")]
    addr: SocketAddr,
    #[command(flatten)]
    data: DataArgs,
}

/// What the companies of the sandbox start with.
#[derive(Clone, Debug, Default, Args)]
struct DataArgs {
    /// Same seed, same companies.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Jobs each company starts with.
    #[arg(long, value_name = "N")]
    jobs: Option<u32>,
    /// Contacts each company starts with.
    #[arg(long, value_name = "N")]
    contacts: Option<u32>,
}

/// Options with what was said put over the defaults.
pub(super) fn options(seed: Option<u64>, jobs: Option<u32>, contacts: Option<u32>) -> SandboxOptions {
    let usual = SandboxOptions::default();
    SandboxOptions {
        seed: seed.unwrap_or(usual.seed),
        jobs: jobs.unwrap_or(usual.jobs),
        contacts: contacts.unwrap_or(usual.contacts),
        ..usual
    }
}

pub(super) async fn sandbox(args: SandboxArgs) -> Result<Exit, CliError> {
    let listener = TcpListener::bind(args.addr)
        .await
        .with_context(|| format!("cannot listen on {}; choose another address with --addr", args.addr))?;
    let addr = listener.local_addr().context("the listening socket has no address")?;
    out::note(&format!(
        "The practice AccuLynx answers at http://{addr}{BASE_PATH}; the key sandbox-NAME opens company NAME.\n\
         Try: curl -H 'Authorization: Bearer sandbox-peakpro' http://{addr}{BASE_PATH}/jobs"
    ));
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    stop_on_signals(move || stopping.cancel());
    serve(listener, options(args.data.seed, args.data.jobs, args.data.contacts), Clock::System, stop)
        .await
        .context("the practice AccuLynx failed")?;
    Ok(Exit::Done)
}
