//! `GET /metrics`: everything counted and timed, as Prometheus reads it.
//!
//! OpenMetrics 1.0 for clients that accept it, as Prometheus does, and the older text format
//! (0.0.4) for everyone else: tools, and people with curl.
//!
//! | file | idea |
//! |---|---|
//! | `collector` | reads the board and writes it: what is not in a table |
//! | `family` | the tables: which counters stand under which name |
//! | `bucket` | from a fine histogram to the few buckets that are reported |
//! | `process` | what the kernel knows of this process |
//! | `classic` | from OpenMetrics to the older format |
//!
//! Each scrape is produced on demand, on a thread for blocking work, from what the shards have
//! put on the board anyway: a shard does nothing for it, and without scrapes it costs nothing.
//! **Labels** come only from tables here and from the number of shards, never from a client or a
//! topic, so the number of series is bounded.

mod bucket;
mod classic;
mod collector;
mod family;
mod process;
#[cfg(test)]
mod tests;

use super::answer::{Refusal, refuse};
use super::credential::Reader;
use crate::server::control::blocking::blocking;
use crate::server::control::http::admin::Admin;
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use collector::Collector;
pub(super) use process::prepare;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(
    _: Reader,
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let text = blocking(move || render(admin)).await;
    let Ok(text) = text else {
        return refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written; this is a bug in ringmail: report it",
        );
    };
    Ok(match wants_open_metrics(&headers) {
        true => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        false => ([(CONTENT_TYPE, CLASSIC)], classic::from_open(&text)).into_response(),
    })
}

/// All of it in OpenMetrics.
fn render(admin: Arc<Admin>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collector::new(admin)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Whether OpenMetrics is named, and nothing plainer is preferred (RFC 9110 §12.5.1).
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let (mut open, mut plain) = (0.0, 0.0);
    let values = headers.get_all(ACCEPT).iter();
    for range in values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        let best = match media.to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => &mut open,
            "text/plain" => &mut plain,
            _ => continue,
        };
        *best = quality.unwrap_or(1.0).max(*best);
    }
    open > 0.0 && open >= plain
}
