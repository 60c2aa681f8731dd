//! Before any endpoint: requests that are refused, whatever they ask for.
//!
//! - **Cross-origin requests.** A page from elsewhere in an operator's browser can reach loopback.
//!   It cannot read the answers, but its requests are executed. So requests that change something
//!   or are expensive are refused if the browser reports another origin: by `Sec-Fetch-Site` or,
//!   without it, by an `Origin` that is not `Host`. Tools send neither.
//! - **Guesses.** Wrong credentials count like those of clients ([`crate::auth::tally`],
//!   `rate.auth_failures_per_min_per_ip`): with too many, further ones are refused unchecked (429).
//! - A slot reserved for health checks answers nothing else.
//!
//! Each is counted.

use super::answer::Refusal;
use super::place::Ticket;
use crate::auth::tally::{Shown, Tally, TallyLimits};
use crate::base::clock::Instant;
use axum::Router;
use axum::http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// The endpoints answered in the slots reserved for health checks.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Expensive reads, which cost the shards or the process something.
const DEAR: [&str; 3] = ["/debug/", "/connections", "/topics"];

/// Where a request comes from: an extension of it.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Why a request was refused.
#[derive(Clone, Copy)]
pub enum Cause {
    Credential,
    Rate,
    Origin,
    Places,
}

pub struct Guard {
    failures: Mutex<Tally>,
    refused: [AtomicU64; 4],
}

impl Guard {
    /// A guard that allows this many wrong credentials a minute from one address; 0: no limit.
    pub fn new(auth_failures_per_min: u32) -> Guard {
        let limits = TallyLimits {
            auth_failures_per_min,
            ..TallyLimits::default()
        };
        Guard {
            failures: Mutex::new(Tally::new(limits)),
            refused: Default::default(),
        }
    }

    pub(super) fn count(&self, cause: Cause) {
        self.refused[cause as usize].fetch_add(1, Relaxed);
    }

    /// How many requests were refused, by the label of the cause.
    pub(super) fn counts(&self) -> [(&'static str, u64); 4] {
        let of = |cause: Cause| self.refused[cause as usize].load(Relaxed);
        [
            ("credential", of(Cause::Credential)),
            ("rate", of(Cause::Rate)),
            ("origin", of(Cause::Origin)),
            ("places", of(Cause::Places)),
        ]
    }

    /// A credential presented from an address; `None`: it must not be checked.
    pub(super) fn shown(&self, from: IpAddr, id: Option<&str>, credential: &[u8]) -> Option<Shown> {
        let tally = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = tally.shown(from, id, credential);
        let barred = tally.barred_until(&shown, Instant::now());
        barred.is_none().then_some(shown)
    }

    /// Counts a wrong credential; returns whether there were too many.
    pub(super) fn fail(&self, shown: &Shown) -> bool {
        let mut tally = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        tally.fail(shown, Instant::now())
    }
}

/// The endpoints as seen by one connection.
pub(super) struct Door {
    pub(super) endpoints: TowerToHyperService<Router>,
    pub(super) guard: Arc<Guard>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) from: IpAddr,
}

impl Service<hyper::Request<Incoming>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        let answering = self.ticket.answer();
        if let Some((cause, refusal)) =
            self.refusal(request.method(), request.uri(), request.headers())
        {
            self.guard.count(cause);
            let mut response = refusal.into_response();
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            return Box::pin(std::future::ready(Ok(response)));
        }
        request.extensions_mut().insert(Peer(self.from));
        let answer = self.endpoints.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(answering);
            answer
        })
    }
}

impl Door {
    fn refusal(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<(Cause, Refusal)> {
        let path = uri.path();
        if self.ticket.is_for_health && !HEALTH.contains(&path) {
            let error = "all connections of the admin address are busy; try again later";
            let refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_owned());
            return Some((Cause::Places, refusal));
        }
        let is_reading = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let is_dear = !is_reading || DEAR.iter().any(|dear| path.starts_with(dear));
        if is_dear && is_foreign(headers) {
            tracing::info!(path, "refused at the admin address: a cross-origin request");
            let error = "cross-origin request; use the server's own page, or no browser";
            let refusal = Refusal(StatusCode::FORBIDDEN, error.to_owned());
            return Some((Cause::Origin, refusal));
        }
        None
    }
}

/// Whether the browser reports that the request comes from a page of another origin (Fetch
/// Metadata; RFC 6454 §7).
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let authority = |value: &HeaderValue| value.to_str().ok()?.parse::<Authority>().ok();
    let own = headers.get(HOST).and_then(authority);
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.parse::<Uri>().ok());
    let origin = origin.and_then(|origin| origin.into_parts().authority);
    own.is_none() || own != origin
}
