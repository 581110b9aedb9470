//! What is answered while the program comes up: probes at once, so that nobody takes a long start for a hang;
//! everything else as soon as it is up.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::system::probe;

type Up = watch::Receiver<Option<Router>>;

/// Serves until the program is up. Dropped before, it lets go of whoever waits.
pub struct Starting {
    up: watch::Sender<Option<Router>>,
    done: CancellationToken,
}

impl Starting {
    /// Returns what is to be run beside the start, too.
    pub fn on(listener: TcpListener) -> (Starting, impl Future<Output = ()> + Send + 'static) {
        let (up, waiting) = watch::channel(None);
        let done = CancellationToken::new();
        let router = Router::new()
            .route("/healthz", get(async || probe("healthy", None)))
            .route("/readyz", get(not_ready))
            .fallback(once_up)
            .layer(map_response(last_of_its_connection))
            .with_state(waiting);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let until = done.clone();
        let serving = async move {
            let served = axum::serve(listener, service).with_graceful_shutdown(until.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::warn!(component = "http", %error, "nobody is answered until the program is up");
            }
        };
        (Starting { up, done }, serving)
    }

    /// The program is up: who waits is answered by it, and whoever comes next is not for this.
    pub fn over(self, router: Router) {
        self.done.cancel();
        // The connections that wait hold the other half; there may be none.
        let _ = self.up.send(Some(router));
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.done.cancel();
    }
}

/// The next request is for the program itself, on a connection of its own.
async fn last_of_its_connection(mut answer: Response) -> Response {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

async fn not_ready(State(up): State<Up>, request: Request) -> Response {
    let router = up.borrow().clone();
    match router {
        Some(router) => router.oneshot(request).await.into_response(),
        None => {
            let reason = Some("the program is starting".to_owned());
            (StatusCode::SERVICE_UNAVAILABLE, probe("not_ready", reason)).into_response()
        }
    }
}

async fn once_up(State(mut up): State<Up>, request: Request) -> Response {
    let router = up.wait_for(Option::is_some).await.ok().and_then(|router| router.clone());
    match router {
        Some(router) => router.oneshot(request).await.into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
