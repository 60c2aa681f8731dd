//! `GET /log` and `PUT /log`: the log levels in force, and changing them.

use super::admin::Admin;
use super::answer::{Refusal, read};
use super::credential::{Changer, Reader};
use crate::server::log::{self, Control};
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/log", get(show).put(change))
}

/// The answer.
#[derive(Serialize)]
struct Shown {
    /// As `log.level` has it.
    level: String,
    /// `json` or `text`.
    format: &'static str,
    /// Null: standard error.
    file: Option<&'static str>,
    /// Since the start, because the target is slow or full.
    lines_dropped: u64,
    /// Since the start: summed up instead of being written.
    lines_repeated: u64,
}

impl Shown {
    fn new(log: &'static Control) -> Json<Shown> {
        Json(Shown {
            level: log.level(),
            format: log.format(),
            file: log.file(),
            lines_dropped: log::lines_dropped(),
            lines_repeated: log.lines_repeated(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    level: String,
}

async fn show(_: Reader) -> Result<Json<Shown>, Refusal> {
    control().map(Shown::new)
}

async fn change(Changer(principal): Changer, body: Body) -> Result<Json<Shown>, Refusal> {
    let body = read(body).await?;
    let log = control()?;
    let bad = |what: String| {
        let error = format!("{what}; send {{\"level\": \"info,ringmail::shard=debug\"}}");
        Refusal(StatusCode::BAD_REQUEST, error)
    };
    let change: Change = serde_json::from_slice(&body)
        .map_err(|error| bad(format!("not a valid change of the log levels: {error}")))?;
    let before = log.level();
    log.set_level(&change.level)
        .map_err(|error| bad(format!("level {error}")))?;
    tracing::info!(by = &*principal, before, "log levels: {}", change.level);
    Ok(Shown::new(log))
}

fn control() -> Result<&'static Control, Refusal> {
    log::control().ok_or_else(|| {
        Refusal(
            StatusCode::NOT_FOUND,
            "the log belongs to the program that embeds this server; change it there".to_owned(),
        )
    })
}
