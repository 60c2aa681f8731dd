//! `POST /revocations`: revokes credentials.

use super::admin::Admin;
use super::answer::{Refusal, read, refuse};
use super::credential::Changer;
use crate::auth::revocation::{Revocation, Target};
use crate::base::clock::unix_seconds;
use crate::server::control::revocations::RevokeError;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/revocations", post(revocations))
}

async fn revocations(
    Changer(principal): Changer,
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let body = read(body).await?;
    let target: Target = serde_json::from_slice(&body).map_err(|error| {
        let error = format!(
            "not a valid revocation: {error}; send {{\"jti\": \"…\"}}, {{\"kid\": \"…\"}} or \
             {{\"sub\": \"…\", \"before\": UNIX_SECONDS}}"
        );
        Refusal(StatusCode::BAD_REQUEST, error)
    })?;
    // Cannot fail: the requester was authenticated by it.
    let Some(registry) = &admin.registry else {
        return refuse(
            StatusCode::FORBIDDEN,
            "auth.mode is \"none\"; set it to \"required\"",
        );
    };
    let revoked = registry
        .revoke(target, unix_seconds())
        .await
        .map_err(|error| {
            let status = match &error {
                RevokeError::Ahead => StatusCode::BAD_REQUEST,
                RevokeError::Full(_) | RevokeError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
                RevokeError::Late => StatusCode::SERVICE_UNAVAILABLE,
            };
            Refusal(status, error.to_string())
        })?;
    tracing::info!(by = &*principal, "revoked: {:?}", revoked.target);
    Ok(Json(shown(&revoked)))
}

/// The revocation with `forget_at`, the Unix second until which it counts, or null: forever.
fn shown(revoked: &Revocation) -> Value {
    // A target is strings and numbers: it can always be written.
    let mut shown = serde_json::to_value(&revoked.target).unwrap_or_default();
    shown["forget_at"] = match revoked.forget_at {
        u64::MAX => Value::Null,
        forget_at => forget_at.into(),
    };
    shown
}
