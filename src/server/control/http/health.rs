//! `/livez` and `/readyz`: whether to restart this server, and whether to send it clients.

use super::admin::Admin;
use super::answer::{Refusal, refuse};
use super::credential::Reader;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use crossbeam_channel::{Receiver, TryRecvError};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
}

async fn livez(_: Reader) -> &'static str {
    "ok\n"
}

async fn readyz(_: Reader, State(admin): State<Arc<Admin>>) -> Result<String, Refusal> {
    if admin.draining.load(Ordering::Relaxed) {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "this server is draining; send clients to another server",
        );
    }
    let is_settled = |end: &Receiver<()>| end.try_recv() == Err(TryRecvError::Disconnected);
    if !admin.settled.as_ref().is_none_or(is_settled) {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the key set is being fetched for the first time; send clients once it has been",
        );
    }
    let Some(registry) = &admin.registry else {
        return Ok("ok\n".to_owned());
    };
    match registry.failure() {
        None => Ok("ok\n".to_owned()),
        // Clients with an API key or a refresh token cannot be admitted.
        Some(cause) if registry.issues() => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "the state cannot be written: {cause}; until it can, API keys and refresh \
                 tokens are not accepted: make room on its disk"
            ),
        ),
        Some(cause) => Ok(format!(
            "ok, but the state cannot be written: {cause}; until it can, nothing can be \
             revoked: make room on its disk\n"
        )),
    }
}
