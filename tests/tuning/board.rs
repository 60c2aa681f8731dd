//! The Grafana board: each panel's expression is PromQL, and each says what to do.

use crate::promtool::approves;
use crate::read;
use serde_json::Value;
use std::collections::HashSet;
use std::fmt::Write;

fn board() -> Value {
    serde_json::from_str(&read("grafana.json")).unwrap()
}

/// Panels that show something.
fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    let panels = board["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row")
}

#[test]
fn each_panel_says_what_it_shows_and_what_to_do() {
    let board = board();
    assert!(panels(&board).count() > 20);
    for panel in panels(&board) {
        let title = panel["title"].as_str().unwrap();
        let description = panel["description"].as_str().unwrap_or_default();
        // What it is, then what to do about it.
        assert!(
            description.len() > 60 && description.contains(". "),
            "{title}: {description}"
        );
        assert!(
            !panel["fieldConfig"]["defaults"]["unit"]
                .as_str()
                .unwrap()
                .is_empty(),
            "{title}"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
    }
}

#[test]
fn panels_have_numbers_of_their_own_and_do_not_overlap() {
    let board = board();
    let all = board["panels"].as_array().unwrap();
    let (mut ids, mut places) = (HashSet::new(), HashSet::new());
    for panel in all {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{}",
            panel["title"]
        );
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(
                    places.insert((x, y)),
                    "{} overlaps at {x}, {y}",
                    panel["title"]
                );
            }
        }
    }
}

#[test]
fn each_expression_is_promql() {
    let board = board();
    let mut rules = String::from("groups:\n  - name: board\n    rules:\n");
    for (number, target) in panels(&board)
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .enumerate()
    {
        let expression = target["expr"].as_str().unwrap();
        assert!(
            expression.contains("instance=~\"$instance\""),
            "{expression}"
        );
        let expression = expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*");
        assert!(!expression.contains('$'), "{expression}");
        writeln!(
            rules,
            "      - record: board:{number}:panel\n        expr: '{expression}'"
        )
        .unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    approves(&["check", "rules", file.path().to_str().unwrap()], "");
}
