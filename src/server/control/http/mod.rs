//! The admin address: HTTP/1.1 for operators and what watches over the server.
//!
//! | endpoint | answer |
//! |---|---|
//! | `GET /` | a page that shows the server live; it has no secrets, what it asks for has |
//! | `GET /livez` | 200: the process and its control thread work |
//! | `GET /readyz` | 200 while serving, 503 from the beginning of a drain, and while the state that clients need cannot be kept |
//! | `GET /status` | what the server and each shard count, as JSON |
//! | `GET /metrics` | the same, as Prometheus reads it (OpenMetrics) |
//! | `GET /connections` | which connections there are: sorted, by pages, as JSON |
//! | `DELETE /connections/ID` | 200 once that connection is ending, 404 when it is gone |
//! | `GET /topics` | the busiest topics, as JSON |
//! | `GET /log` | which lines the log has, and how many it lost or summed up |
//! | `PUT /log` | 200 with other levels in force, to the end of the process |
//! | `GET /debug/pprof/profile` | where the CPU's time goes in the next seconds |
//! | `GET /debug/pprof/heap` | what holds the memory |
//! | `POST /revocations` | 200 with what was revoked once every shard has it |
//!
//! **Who may.** What changes something needs a credential whose role has `admin = true`, as
//! `Authorization: Bearer` with an access token or an API key `id.secret`. Reading needs it
//! too unless the address is loopback. With `auth.mode = "none"` nobody has a credential:
//! then nothing can be changed, and nothing read but over loopback (403, which says so).
//!
//! **What it costs at most.** [`CONNECTIONS_MAX`] connections, each with [`HEAD_MAX`] for a
//! request's head and a body of 4 KiB that comes within 5 s, and [`CONNECTION_MAX`] in all; the next one waits in the kernel. Errors are JSON, `{"error": …}`, and name cause
//! and remedy; nothing a caller showed is in an answer or in the log, but whom it was about.

mod answer;
mod connections;
mod credential;
mod health;
mod log;
mod metrics;
mod page;
mod parameter;
mod profile;
mod revocation;
mod status;
#[cfg(test)]
mod tests;
mod topics;

use super::Host;
use super::survey::Surveyor;
use super::warden::Warden;
use crate::server::trace::Tally;
use crate::shard::sys::Board;
use answer::Refusal;
use axum::Router;
use axum::http::{StatusCode, Uri};
use credential::Reader;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub const CONNECTIONS_MAX: usize = 64;
/// From the beginning of a connection, or the end of an answer, to the end of a head.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A connection's life; the request in progress may end.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// Room for a profile of [`profile::SECONDS_MAX`], and for reading it.
const LAST_REQUEST_MAX: Duration = Duration::from_secs(profile::SECONDS_MAX + 20);
/// Descriptors ran short: time for some to come back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// All endpoints, for whoever asks for another. Each is one of the modules here.
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

/// What the endpoints speak about.
pub struct Admin {
    pub board: Arc<Board>,
    pub host: Host,
    pub draining: Arc<AtomicBool>,
    pub is_loopback: bool,
    pub surveyor: Surveyor,
    /// `None`: nobody authenticates.
    pub warden: Option<Arc<Warden>>,
    /// Told when a token brought an unknown key.
    pub wanted: Arc<Notify>,
    /// `None`: nothing is traced.
    pub traces: Option<Arc<Tally>>,
}

/// Serves, for ever.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let router = Router::new()
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
        .with_state(admin);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = free.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                super::pass_on_panic(ended);
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) => {
                let (http, router) = (http.clone(), router.clone());
                connections.spawn(async move {
                    converse(&http, stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!("the admin address accepts nothing: {error}");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One connection, to its end.
async fn converse(http: &http1::Builder, stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let end = timeout(CONNECTION_MAX, connection.as_mut()).await;
    let end = match end {
        Ok(end) => end,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            let end = timeout(LAST_REQUEST_MAX, connection).await;
            end.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = end {
        tracing::debug!("an admin connection ended: {error}");
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
