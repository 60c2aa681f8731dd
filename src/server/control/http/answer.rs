//! What all endpoints share: refusals, and reading a request's body.

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

const BODY_MAX: Duration = Duration::from_secs(5);
/// Bytes of a body.
pub(super) const BODY_BYTES_MAX: usize = 4 << 10;
/// How much of a body that is too long is read and discarded, so that its sender reads the answer.
const BODY_DROPPED_MAX: usize = 1 << 20;

/// An error answer: JSON that names cause and remedy.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(json!({ "error": self.1 }))).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        if self.0 == StatusCode::PAYLOAD_TOO_LARGE || self.0 == StatusCode::REQUEST_TIMEOUT {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

pub(super) fn refuse<T>(status: StatusCode, error: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, error.into()))
}

/// Reads a whole body, if it is short and arrives in time.
pub(super) async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    match timeout(BODY_MAX, read_bounded(body)).await {
        Ok(body) => body,
        Err(_) => refuse(
            StatusCode::REQUEST_TIMEOUT,
            "the body was not received in time; send it within 5 s",
        ),
    }
}

async fn read_bounded(mut body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut bytes, mut dropped) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return refuse(
                StatusCode::BAD_REQUEST,
                "the body is incomplete; send all of it",
            );
        };
        let piece = frame.into_data().unwrap_or_default();
        if dropped == 0 && bytes.len() + piece.len() <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
            continue;
        }
        dropped += bytes.len() + piece.len();
        bytes.clear();
        if dropped > BODY_DROPPED_MAX {
            break;
        }
    }
    match dropped {
        0 => Ok(bytes),
        _ => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {BODY_BYTES_MAX} bytes; send less at a time"),
        ),
    }
}
