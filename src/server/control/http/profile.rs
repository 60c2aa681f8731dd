//! `GET /debug/pprof/profile?seconds=30&frequency=99&format=proto` and
//! `GET /debug/pprof/heap?format=proto`: profiles of the process.
//!
//! Reading, like other endpoints: beyond loopback it needs a credential. One at a time. A client
//! that disconnects ends its CPU profile.

use super::admin::Admin;
use super::answer::Refusal;
use super::credential::Reader;
use crate::server::control::blocking::blocking;
use crate::server::control::profile::cpu::Sampling;
use crate::server::control::profile::{Format, ProfileError, heap};
use axum::Router;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// The longest profile.
pub(super) const SECONDS_MAX: u64 = 60;
const SECONDS: u64 = 30;
/// Samples in a second of CPU time; 99 avoids running in step with periodic work.
const FREQUENCY: u32 = 99;
const FREQUENCIES: RangeInclusive<u32> = 1..=1000;

/// One profile at a time, of either kind: the process has one allocator and one profiling signal.
static FREE: Semaphore = Semaphore::const_new(1);

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/debug/pprof/profile", get(profile))
        .route("/debug/pprof/heap", get(heap_profile))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    seconds: Option<u64>,
    frequency: Option<u32>,
    format: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeapWanted {
    format: Option<String>,
}

async fn profile(
    _: Reader,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(wanted) = wanted.map_err(|error| bad(&error.body_text()))?;
    let seconds = wanted.seconds.unwrap_or(SECONDS);
    let frequency = wanted.frequency.unwrap_or(FREQUENCY);
    let format = format(wanted.format.as_deref())?;
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(bad("seconds is out of range"));
    }
    if !FREQUENCIES.contains(&frequency) {
        return Err(bad("frequency is out of range"));
    }
    let free = FREE.try_acquire().map_err(|_| ProfileError::Busy)?;
    tracing::info!(seconds, frequency, "taking a CPU profile");
    let sampling = Sampling::begin(frequency)?;
    sleep(Duration::from_secs(seconds)).await;
    let written = blocking(move || {
        let written = sampling.end(format);
        drop(free);
        written
    });
    Ok(answer("profile", format, written.await?))
}

async fn heap_profile(
    _: Reader,
    wanted: Result<Query<HeapWanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(wanted) = wanted.map_err(|error| bad(&error.body_text()))?;
    let format = format(wanted.format.as_deref())?;
    let free = FREE.try_acquire().map_err(|_| ProfileError::Busy)?;
    let written = blocking(move || {
        let written = heap::take(format);
        drop(free);
        written
    });
    Ok(answer("heap", format, written.await?))
}

fn format(name: Option<&str>) -> Result<Format, Refusal> {
    match name {
        None | Some("proto") => Ok(Format::Proto),
        Some("svg") => Ok(Format::Svg),
        Some(_) => Err(bad("unknown format")),
    }
}

fn bad(what: &str) -> Refusal {
    let error = format!(
        "{what}; a CPU profile takes seconds from 1 to {SECONDS_MAX} and frequency from 1 to \
         1000, and each takes format=proto or svg"
    );
    Refusal(StatusCode::BAD_REQUEST, error)
}

fn answer(name: &str, format: Format, body: Vec<u8>) -> Response {
    match format {
        Format::Proto => {
            let file = format!("attachment; filename=\"{name}.pb.gz\"");
            let headers = [
                (CONTENT_TYPE, "application/octet-stream".to_owned()),
                (CONTENT_DISPOSITION, file),
            ];
            (headers, body).into_response()
        }
        Format::Svg => ([(CONTENT_TYPE, "image/svg+xml")], body).into_response(),
    }
}

impl From<ProfileError> for Refusal {
    fn from(error: ProfileError) -> Refusal {
        let status = match error {
            ProfileError::Busy => StatusCode::CONFLICT,
            ProfileError::Nothing | ProfileError::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            ProfileError::NoHeap => StatusCode::NOT_IMPLEMENTED,
        };
        Refusal(status, error.to_string())
    }
}
