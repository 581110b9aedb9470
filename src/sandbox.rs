//! The practice AccuLynx: an HTTP server with the vendor's paging, filters, limits and traps over
//! invented data, for rehearsals, demonstrations and tests. It needs no account and keeps nothing.

use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::adapters::clock::Clock;
use crate::core::model::Millis;

pub mod world;

mod faults;
mod limits;
mod lists;
mod server;
mod webhooks;

pub use faults::{Fault, FaultKind};

/// The path under which the practice API answers; a schedule's `base_url` ends in it.
pub const BASE_PATH: &str = "/api/v2";

/// The path under which its webhooks are subscribed to.
pub const WEBHOOKS_PATH: &str = "/webhooks/v2";

/// What a key starts with; the rest is the company it opens (`sandbox-peakpro` opens `peakpro`).
pub const KEY_PREFIX: &str = "sandbox-";

/// How long open requests may go on once the sandbox is told to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// What the sandbox invents and how strict it is.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Same seed, same companies.
    pub seed: u64,
    /// Jobs each company has at the start; more come with time.
    pub jobs: u32,
    /// Contacts each company has at the start; more come with time.
    pub contacts: u32,
    /// A company gets a new job this often. At least a millisecond.
    pub job_every: Duration,
    /// Somewhere in a company's older jobs something changes this often. At least a millisecond.
    pub change_every: Duration,
    /// From when on companies grow; the start of `serve` when left out.
    pub since: Option<Millis>,
    /// Requests a second that one key may send.
    pub key_limit: u32,
    /// Requests a second that one address may send before it is banned.
    pub ip_limit: u32,
    /// How long a banned address is refused.
    pub ban: Duration,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        SandboxOptions {
            seed: 1,
            jobs: 120,
            contacts: 80,
            job_every: Duration::from_secs(300),
            change_every: Duration::from_secs(60),
            since: None,
            key_limit: 10,
            ip_limit: 30,
            ban: Duration::from_secs(30),
        }
    }
}

/// Serves the practice AccuLynx on `listener` until `shutdown` fires.
///
/// The data's time comes from `clock`, so it can be moved by hand; limits and bans run in real time.
/// The control routes below `/sandbox` ask for no key: listen on loopback.
pub async fn serve(
    listener: TcpListener,
    options: SandboxOptions,
    clock: Clock,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let service = server::router(options, clock, shutdown.clone()).into_make_service_with_connect_info::<SocketAddr>();
    // Small answers on kept connections: waiting to fill a packet would only make them late.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    // A client that holds its connection open must not hold up the end of the program.
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        ended = serving.into_future() => ended,
        () = overdue => Ok(()),
    }
}

#[cfg(test)]
mod tests;
