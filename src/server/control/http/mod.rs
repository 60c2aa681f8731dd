//! The admin address: HTTP/1.1 for operators and monitoring.
//!
//! | endpoint | answer |
//! |---|---|
//! | `GET /` | a page that shows the server live; it has no secrets, what it asks for has |
//! | `GET /livez` | 200: the process and its control thread work |
//! | `GET /readyz` | 200 while serving; 503 until the first attempt to fetch a key set is over, while the state that clients need cannot be written, and once a drain has begun |
//! | `GET /status` | what the server and each shard count, as JSON |
//! | `GET /metrics` | the same, as Prometheus reads it (OpenMetrics) |
//! | `GET /connections` | a list of connections: sorted, by pages, as JSON |
//! | `DELETE /connections/ID` | 200 once that connection is ending, 404 when it is gone |
//! | `GET /topics` | the busiest topics, as JSON |
//! | `GET /log` | the log levels, and how many lines were lost or summed up |
//! | `PUT /log` | 200 with other levels in force, to the end of the process |
//! | `GET /debug/pprof/profile` | a CPU profile of the next seconds |
//! | `GET /debug/pprof/heap` | a heap profile |
//! | `POST /revocations` | 200 with what was revoked once every shard has it |
//!
//! **Who may.** Changing something requires a credential whose role has `admin = true`, as
//! `Authorization: Bearer` with an access token or an API key `id.secret`. Reading requires it
//! too unless the address is loopback. With `auth.mode = "none"` nobody has a credential: then
//! nothing can be changed, and reading is possible only over loopback (403, which says so).
//!
//! Requests from pages of another origin cannot change anything or start expensive work (403);
//! wrong credentials are rate-limited (429).
//!
//! **What it costs at most.** [`CONNECTIONS_MAX`] connections, each with [`HEAD_MAX`] for a
//! request's head, a body of 4 KiB that must arrive within 5 s, and [`CONNECTION_MAX`] in all.
//! Beyond that a new connection takes the slot of one that waits; some slots, and some
//! descriptors, are reserved for `/livez`, `/readyz` and `/metrics`. Errors are JSON, `{"error":
//! …}`, and name cause and remedy; neither answers nor the log contain anything of a credential
//! except its principal.
//!
//! | file | idea |
//! |---|---|
//! | `admin` | the data behind the endpoints |
//! | `place` | slots for connections, and who makes room |
//! | `reserve` | descriptors for when there are none |
//! | `guard` | refused before any endpoint: cross-origin pages, guesses |
//! | `credential` | who may read, who may change things |
//! | `harness` | a connection without a socket, for this crate's tests |
//! | all others | one endpoint each |

mod admin;
mod answer;
mod connections;
mod credential;
mod guard;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod harness;
mod health;
mod log;
mod metrics;
mod page;
mod parameter;
mod place;
mod profile;
mod reserve;
mod revocation;
mod status;
#[cfg(test)]
mod tests;
mod topics;

use answer::Refusal;
use axum::Router;
use axum::http::{StatusCode, Uri};
use credential::Reader;
use guard::Door;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use place::Places;
use reserve::is_shortage;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The time from the start of a connection, or the end of an answer, to the end of a request's
/// head.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A connection's life; the request in progress may end.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// Room for a profile of [`profile::SECONDS_MAX`], and for reading it.
const LAST_REQUEST_MAX: Duration = Duration::from_secs(profile::SECONDS_MAX + 20);
/// How long to wait if nothing can be accepted, for whatever is short to be released.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// How often to try to get released descriptors back.
const REFILL_AGAIN: Duration = Duration::from_millis(50);

pub use admin::Admin;
pub use guard::Guard;
#[cfg(doc)]
use place::CONNECTIONS_MAX;
pub use reserve::Reserve;

/// All endpoints, for the answer to requests for an unknown one. Each is one of the modules here.
const ENDPOINTS: &[&str] = &[
    "GET /",
    "GET /livez",
    "GET /readyz",
    "GET /status",
    "GET /metrics",
    "GET /connections",
    "DELETE /connections/ID",
    "GET /topics",
    "GET /log",
    "PUT /log",
    "GET /debug/pprof/profile",
    "GET /debug/pprof/heap",
    "POST /revocations",
];

/// Serves, forever.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let (guard, reserve) = (admin.guard.clone(), admin.reserve.clone());
    let (http, endpoints) = (http(), TowerToHyperService::new(router(admin)));
    let places = Arc::new(Places::default());
    let mut connections = JoinSet::new();
    loop {
        let has_room = places.has_room();
        let accepted = tokio::select! {
            accepted = listener.accept(), if has_room => accepted,
            () = places.changed(), if !has_room => continue,
            Some(ended) = connections.join_next() => {
                super::blocking::pass_on_panic(ended);
                continue;
            }
            () = sleep(REFILL_AGAIN), if reserve.is_short() => {
                reserve.refill();
                continue;
            }
        };
        match accepted {
            Ok((stream, from)) => {
                let (http, from, reserve) = (http.clone(), from.ip(), reserve.clone());
                let door = Door {
                    endpoints: endpoints.clone(),
                    guard: guard.clone(),
                    ticket: Arc::new(places.take(from)),
                    from,
                };
                connections.spawn(async move {
                    converse(&http, stream, door).await;
                    // At once, because shards compete for descriptors.
                    reserve.refill();
                });
            }
            Err(error) if is_shortage(&error) && reserve.release() => {}
            Err(error) => {
                tracing::debug!("the admin address accepts nothing: {error}");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .merge(connections::routes())
        .merge(health::routes())
        .merge(page::routes())
        .merge(log::routes())
        .merge(profile::routes())
        .merge(metrics::routes())
        .merge(revocation::routes())
        .merge(status::routes())
        .merge(topics::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(admin)
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    http
}

/// Serves one connection until it ends.
async fn converse(http: &http1::Builder, stream: impl AsyncRead + AsyncWrite + Unpin, door: Door) {
    let ticket = door.ticket.clone();
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), door));
    let life = async {
        match timeout(CONNECTION_MAX, connection.as_mut()).await {
            Ok(end) => end,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                let end = timeout(LAST_REQUEST_MAX, connection).await;
                end.unwrap_or(Ok(()))
            }
        }
    };
    tokio::select! {
        end = life => {
            if let Err(error) = end {
                tracing::debug!("an admin connection ended: {error}");
            }
        }
        () = ticket.end() => tracing::debug!("an admin connection that waited made room"),
    }
}

async fn not_found(_: Reader, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(64).collect();
    Refusal(
        StatusCode::NOT_FOUND,
        format!("there is no {path}; there are {}", ENDPOINTS.join(", ")),
    )
}

async fn not_allowed(_: Reader) -> Refusal {
    Refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "the method does not fit; there are {}",
            ENDPOINTS.join(", ")
        ),
    )
}
