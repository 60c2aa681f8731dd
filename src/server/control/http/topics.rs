//! `GET /topics`: the busiest topics of this minute and the last one.
//!
//! They are counted in constant memory, and under load only a sample of the messages is looked
//! at: `metrics::topics` says how exact the counts are.

use super::admin::Admin;
use super::answer::Refusal;
use super::connections::late;
use super::credential::Reader;
use super::parameter::{Parameters, number, unknown};
use crate::metrics::topics::Busy;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

/// How many topics are listed by default.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 200;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/topics", get(topics))
}

/// The answer. Counts are of `window_s`: divided by it they are rates.
#[derive(Serialize)]
struct Topics {
    /// The busiest first.
    topics: Vec<Topic>,
    /// Messages published in that time, on all topics.
    messages: u64,
    /// One message in this many is sampled now.
    sampled: u32,
    /// The time that the counts cover: 60 to 120 s, less after the start.
    window_s: f64,
}

#[derive(Serialize)]
struct Topic {
    topic: String,
    /// Messages published on it, an upper bound (apart from sampling).
    messages: u64,
    /// By how much that may be too high.
    error: u64,
}

impl From<Busy> for Topic {
    fn from(busy: Busy) -> Topic {
        Topic {
            topic: busy.topic,
            messages: busy.messages,
            error: busy.error,
        }
    }
}

async fn topics(
    _: Reader,
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
) -> Result<Json<Topics>, Refusal> {
    let mut limit = LIMIT;
    for (name, value) in parameters.0 {
        match name.as_str() {
            "limit" => limit = number(&name, &value, 1, LIMIT_MAX)?,
            _ => return unknown(&name, "limit"),
        }
    }
    let busiest = admin.lister.topics(limit).await.map_err(late)?;
    Ok(Json(Topics {
        topics: busiest.topics.into_iter().map(Topic::from).collect(),
        messages: busiest.messages,
        sampled: busiest.stride,
        window_s: busiest.covered.as_secs_f64(),
    }))
}
