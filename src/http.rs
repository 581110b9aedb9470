//! The outer API: router, access, errors, one file per resource. Holds no policy; every decision
//! is `core`'s and every deed the `App`'s.

mod problem;

mod table;

mod query;

mod body;

mod extract;

mod copies;
mod cursor;

mod access;

mod idempotency;

mod browser;

mod request_log;

mod running;
mod schedule;

mod history;

mod status;

mod audit;

mod export;

mod records;

mod runs;

mod ops;
mod proof;

mod brake;

mod git;

mod holds;

mod forecast;

mod bulk;

mod analytics;

mod webhooks;

mod starting;
mod system;

mod schemas;

mod openapi;

mod docs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::serve::{Listener, ListenerExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::compression::{CompressionLayer, CompressionLevel};

use crate::app::App;
pub use starting::Starting;
use table::Route;

/// Answers of fewer bytes go as they are: a packet or two costs less than a compressor's tables.
const COMPRESS_FROM: u64 = 4096;

/// How long requests under way may take to end once the program is to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Every route, in the order in which the API pages show them. The router and the OpenAPI
/// document are both made from this list.
fn routes() -> Vec<Route> {
    let mut all = schedule::routes();
    all.extend(running::routes());
    all.extend(history::routes());
    all.extend(status::routes());
    all.extend(audit::routes());
    all.extend(runs::routes());
    all.extend(records::routes());
    all.extend(ops::routes());
    all.extend(proof::routes());
    all.extend(brake::routes());
    all.extend(copies::routes());
    all.extend(git::routes());
    all.extend(holds::routes());
    all.extend(forecast::routes());
    all.extend(bulk::routes());
    all.extend(analytics::routes());
    all.extend(webhooks::routes());
    all.extend(system::routes());
    all.extend(schemas::routes());
    all.extend(docs::routes());
    all
}

/// The whole API over `app`. Serve it with connect info (`SocketAddr`): a request whose peer is
/// not known is treated as one from an untrusted peer.
pub fn router(app: Arc<App>) -> Router {
    let in_flight = idempotency::InFlight::default();
    let mut router = Router::new();
    for route in routes() {
        router = route.mount(router, &app, &in_flight);
    }
    router
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::unknown_method)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), browser::protect))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn_with_state(app.clone(), request_log::record))
        .layer(compression())
        .with_state(app)
}

fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(COMPRESS_FROM))
}

/// Lets connections in until it is closed; those that come later wait where they are.
struct Door {
    listener: TcpListener,
    closed: CancellationToken,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let next = Listener::accept(&mut self.listener);
        tokio::select! {
            biased;
            () = self.closed.cancelled() => std::future::pending().await,
            accepted = next => accepted,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves `router`, which is over `app`, until `app.shutdown` fires; lets nobody in from `app.doors_closed` on. Requests under way at the end
/// may take ten seconds.
pub async fn serve(listener: TcpListener, router: Router, app: Arc<App>) -> std::io::Result<()> {
    let shutdown = app.shutdown.clone();
    let door = Door { listener, closed: app.doors_closed.clone() };
    // Answers are small and complete: waiting to fill a packet would only delay them.
    let door = door.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(component = "http", %error, "could not set TCP_NODELAY");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = shutdown.clone();
    let server = axum::serve(door, service).with_graceful_shutdown(async move { stop.cancelled().await });
    let limit = async move {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        ended = server.into_future() => ended,
        () = limit => {
            tracing::warn!(component = "http", "requests still under way after {DRAIN_LIMIT:?} are cut off");
            Ok(())
        }
    }
}
