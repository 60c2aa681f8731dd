//! A request's parameters: each at most once, and no unknown ones.

use super::answer::{Refusal, refuse};
use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

/// Names and values, each name once.
pub(super) struct Parameters(pub(super) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Parameters, Refusal> {
        let Ok(Query(pairs)) =
            Query::<Vec<(String, String)>>::from_request_parts(parts, state).await
        else {
            return refuse(
                StatusCode::BAD_REQUEST,
                "the parameters cannot be read; write them as name=value&name=value, with \
                 anything special percent-encoded",
            );
        };
        for (at, (name, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(other, _)| other == name) {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    format!("{} is given twice; give it once", clip(name)),
                );
            }
        }
        Ok(Parameters(pairs))
    }
}

/// Refuses an unknown parameter.
pub(super) fn unknown<T>(name: &str, known: &str) -> Result<T, Refusal> {
    refuse(
        StatusCode::BAD_REQUEST,
        format!("unknown parameter {}; there are {known}", clip(name)),
    )
}

/// A whole number from `least` to `most`.
pub(super) fn number(name: &str, value: &str, least: usize, most: usize) -> Result<usize, Refusal> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => refuse(
            StatusCode::BAD_REQUEST,
            format!("{name} is out of range; give a whole number from {least} to {most}"),
        ),
    }
}

/// The caller's text, shortened for the answer.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
