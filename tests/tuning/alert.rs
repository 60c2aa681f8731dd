//! The alerts: well-formed, each with what to do, each tried.

use crate::promtool::approves;
use crate::read;

/// Each alert's name with its lines.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    let parts = rules.split("- alert: ").skip(1);
    parts.map(|part| part.split_once('\n').unwrap()).collect()
}

#[test]
fn prometheus_takes_configuration_and_rules() {
    approves(&["check", "config", "prometheus.yml"], "");
    approves(&["check", "rules", "alerts.yml"], "");
}

#[test]
fn each_alert_fires_when_it_should_and_not_when_it_should_not() {
    approves(&["test", "rules", "alerts_test.yml"], "");
    let (rules, tests) = (read("alerts.yml"), read("alerts_test.yml"));
    for (name, _) in alerts(&rules) {
        assert!(
            tests.contains(&format!("- name: {name}\n")),
            "{name} has no test"
        );
        let fires = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\",severity=");
        assert!(tests.contains(&fires), "no test in which {name} fires");
    }
}

#[test]
fn each_alert_says_how_urgent_it_is_and_what_to_do() {
    let rules = read("alerts.yml");
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 15, "only {} found", alerts.len());
    for (name, lines) in alerts {
        assert!(name.starts_with("Ringmail"), "{name}");
        let value = |key: &str| {
            let mut lines = lines.lines().map(str::trim);
            let found = lines.find_map(|line| line.strip_prefix(key));
            found
                .unwrap_or_else(|| panic!("{name} has no {key}"))
                .trim()
        };
        assert!(["page", "ticket"].contains(&value("severity:")), "{name}");
        for text in ["summary:", "description:", "action:"] {
            assert!(value(text).len() > 25, "{name}: {text}");
        }
    }
}
