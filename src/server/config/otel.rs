//! Keys set by OTEL_* variables, with a precedence below file, RINGMAIL__ and flags. Invalid
//! values are ignored, as the OpenTelemetry specification requires; `server::trace` reports them
//! (`ringmail check`, and the log at the start).

use super::error::Origin;
use super::source::{Layer, Sources};
use crate::server::trace::{TRACES_PATH, endpoint_fault, sampled_share};

const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// A base: the path for traces is below it.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// One layer for each key that a variable sets.
pub fn layers<'t>(sources: &Sources) -> Vec<Layer<'t>> {
    let value = |name: &str| {
        let mut variables = sources.environment.iter();
        let (_, value) = variables.find(|(known, _)| known == name)?;
        value.to_str().filter(|value| !value.is_empty())
    };
    let fits = |endpoint: &String| endpoint_fault(endpoint).is_none();
    let special = value(TRACES_ENDPOINT).map(str::to_owned).filter(fits);
    let general =
        value(ENDPOINT).map(|base| format!("{}{TRACES_PATH}", base.trim_end_matches('/')));
    let general = general.filter(fits);
    let endpoint = special.map(|endpoint| (TRACES_ENDPOINT, endpoint));
    let endpoint = endpoint.or_else(|| Some((ENDPOINT, general?)));
    let share = value(SAMPLER).and_then(|name| sampled_share(name, value(SAMPLER_ARGUMENT)));

    let mut layers = Vec::new();
    let mut say = |key, value: &str, name: &str| {
        let origin = Origin::Environment(name.to_owned());
        layers.push(Layer::of_key(&["trace", key], value, origin));
    };
    if let Some((name, endpoint)) = endpoint {
        say("endpoint", &endpoint, name);
    }
    if let Some(share) = share {
        say("sample_ratio", &share.to_string(), SAMPLER);
    }
    layers
}
