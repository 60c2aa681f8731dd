//! Where spans go, and which messages are sampled.
//!
//! `trace.endpoint` and `trace.sample_ratio` decide it; if flags, RINGMAIL__ and the file leave
//! them out, these variables of the OpenTelemetry specification do (see `config::otel`):
//! OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER with
//! OTEL_TRACES_SAMPLER_ARG. Read by the exporter: OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT (and both
//! for TRACES), OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES. OTEL_SDK_DISABLED=true turns
//! tracing off, whatever else is set.

use crate::server::config::Config;
use reqwest::Url;

/// Where OTLP over HTTP takes spans, when an endpoint names no path.
pub const TRACES_PATH: &str = "/v1/traces";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// Tracing that is on.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Where spans are posted.
    pub url: String,
    /// The same for logs: a query may hold a secret.
    pub name: String,
    pub sample_ratio: f64,
}

impl Setting {
    /// The effective setting; `None`: nothing is traced.
    pub fn of(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Option<Setting> {
        if config.trace.endpoint.is_empty() || is_disabled(variable) {
            return None;
        }
        let mut url = Url::parse(&config.trace.endpoint).ok()?;
        if matches!(url.path(), "" | "/") {
            url.set_path(TRACES_PATH);
        }
        let mut name = url.clone();
        name.set_query(None);
        Some(Setting {
            url: url.into(),
            name: name.into(),
            sample_ratio: config.trace.sample_ratio,
        })
    }
}

fn is_disabled(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// What is wrong with an endpoint.
pub fn endpoint_fault(endpoint: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(endpoint) else {
        return Some("is not a URL");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Some("is not an http or https URL");
    }
    let has_secret = !url.username().is_empty() || url.password().is_some();
    has_secret.then_some("contains a user name or password, which would appear in the log")
}

/// A description of the effective setting, for people.
pub fn notes(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    match Setting::of(config, variable) {
        Some(Setting {
            name, sample_ratio, ..
        }) => vec![format!(
            "traces go to {name}; of messages without TRACEPARENT, a share of {sample_ratio} is \
             sampled"
        )],
        None if !config.trace.endpoint.is_empty() => vec![format!(
            "nothing is traced, although trace.endpoint is set: {DISABLED} is true"
        )],
        None => Vec::new(),
    }
}

/// Which environment variables are ignored, and what applies instead: for people. Empty if
/// tracing is turned off.
pub fn ignored(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    if is_disabled(&variable) {
        return faults;
    }
    let endpoints = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let meanwhile = match Setting::of(config, &variable) {
        Some(setting) => format!("traces go to {}", setting.name),
        None => "nothing is traced".to_owned(),
    };
    for name in endpoints {
        if let Some(fault) = variable(name).and_then(|value| endpoint_fault(&value)) {
            faults.push(format!(
                "{name} is ignored, and {meanwhile}: it {fault}; name the collector's port for \
                 OTLP over HTTP, such as http://127.0.0.1:4318"
            ));
        }
    }
    if config.trace.endpoint.is_empty() {
        return faults;
    }
    let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL");
    let protocol = protocol.or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(protocol) = protocol.filter(|protocol| protocol != "http/protobuf") {
        faults.push(format!(
            "the OTLP protocol {protocol} is not supported: use http/protobuf"
        ));
    }
    let sampler = variable("OTEL_TRACES_SAMPLER");
    if let Some(sampler) = sampler
        && sampled_share(&sampler, variable("OTEL_TRACES_SAMPLER_ARG").as_deref()).is_none()
    {
        faults.push(format!(
            "OTEL_TRACES_SAMPLER={sampler} with its argument is ignored: trace.sample_ratio is \
             {}",
            config.trace.sample_ratio
        ));
    }
    faults
}

/// The share of messages without TRACEPARENT that a sampler of the OpenTelemetry specification
/// samples. Messages with one follow its flag here, whatever the sampler.
pub fn sampled_share(sampler: &str, argument: Option<&str>) -> Option<f64> {
    match sampler.strip_prefix("parentbased_").unwrap_or(sampler) {
        "always_on" => Some(1.0),
        "always_off" => Some(0.0),
        "traceidratio" => {
            let share = argument.map_or(Ok(1.0), |argument| argument.trim().parse());
            share.ok().filter(|share| (0.0..=1.0).contains(share))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> Config {
        let mut config = Config::default();
        config.trace.endpoint = endpoint.to_owned();
        config
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn without_a_path_the_default_applies() {
        let url = |endpoint| Setting::of(&config(endpoint), nothing).map(|one| one.url);
        let usual = Some("http://collector:4318/v1/traces".to_owned());
        assert_eq!(url("http://collector:4318"), usual);
        assert_eq!(url("http://collector:4318/"), usual);
        assert_eq!(url("http://collector:4318/v1/traces"), usual);
        let other = Some("https://collector/otlp?tenant=1".to_owned());
        assert_eq!(url("https://collector/otlp?tenant=1"), other);
        assert_eq!(url(""), None);
        let secret = Setting::of(&config("https://collector/otlp?key=1"), nothing);
        assert_eq!(
            secret.map(|one| one.name).as_deref(),
            Some("https://collector/otlp")
        );
    }

    #[test]
    fn the_switch_of_the_environment_turns_tracing_off() {
        for (value, is_on) in [
            ("true", false),
            ("TRUE", false),
            ("false", true),
            ("1", true),
        ] {
            let variable = |name: &str| (name == DISABLED).then(|| value.to_owned());
            let setting = Setting::of(&config("http://collector"), variable);
            assert_eq!(setting.is_some(), is_on, "{value}");
            let notes = notes(&config("http://collector"), variable);
            assert_eq!(notes[0].starts_with("traces go to"), is_on, "{notes:?}");
        }
    }

    #[test]
    fn an_endpoint_is_an_http_url_without_secrets() {
        for right in ["http://127.0.0.1:4318", "https://[::1]/v1/traces"] {
            assert_eq!(endpoint_fault(right), None, "{right}");
        }
        for wrong in [
            "collector:4318",
            "grpc://collector:4317",
            "http://",
            "http://user:secret@collector",
            "http://user@collector",
            "4318",
        ] {
            assert!(endpoint_fault(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn samplers_are_shares_as_far_as_they_fit() {
        assert_eq!(sampled_share("always_on", None), Some(1.0));
        assert_eq!(sampled_share("parentbased_always_off", None), Some(0.0));
        assert_eq!(sampled_share("traceidratio", None), Some(1.0));
        let quarter = sampled_share("parentbased_traceidratio", Some(" 0.25"));
        assert_eq!(quarter, Some(0.25));
        for argument in ["1.5", "-1", "NaN", "all"] {
            assert_eq!(sampled_share("traceidratio", Some(argument)), None);
        }
        assert_eq!(sampled_share("parentbased_jaeger_remote", None), None);
    }

    #[test]
    fn ignored_variables_are_reported() {
        let variable = |name: &str| match name {
            "OTEL_TRACES_SAMPLER" => Some("xray".to_owned()),
            "OTEL_EXPORTER_OTLP_PROTOCOL" => Some("grpc".to_owned()),
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://u:secret@collector".to_owned()),
            _ => None,
        };
        let notes = ignored(&config("http://collector"), variable).join("\n");
        for part in ["xray", "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            assert!(notes.contains(part), "{notes}");
        }
        assert!(!notes.contains("secret"), "{notes}");
    }

    #[test]
    fn an_invalid_endpoint_in_the_environment_is_reported_though_nothing_is_traced() {
        let said = |endpoint: &str, disabled: &str| {
            let variable = |name: &str| match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
                DISABLED => Some(disabled.to_owned()),
                _ => None,
            };
            ignored(&config(""), variable)
        };
        for wrong in ["collector:4318", "127.0.0.1:4318", "grpc://collector:4317"] {
            let said = said(wrong, "false");
            assert!(said[0].contains("nothing is traced"), "{wrong}: {said:?}");
            assert!(
                said[0].contains("http://127.0.0.1:4318"),
                "{wrong}: {said:?}"
            );
        }
        assert!(said("grpc://collector:4317", "true").is_empty());
        assert!(said("http://collector:4318", "false").is_empty());
    }
}
