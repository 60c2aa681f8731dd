//! Names of metrics in texts.

use std::collections::BTreeSet;

/// Names of ours, and of what the process is, wherever they stand in a text.
pub fn mentioned(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("ringmail_") || word.starts_with("process_"))
        .collect()
}

/// Names that a scrape's text tells: of samples, and of metrics (a histogram has several
/// samples).
pub fn told(metrics: &str) -> BTreeSet<&str> {
    metrics
        .lines()
        .filter_map(|line| match line.strip_prefix("# TYPE ") {
            Some(rest) => rest.split(' ').next(),
            None if line.starts_with('#') => None,
            None => line.split(['{', ' ']).next(),
        })
        .collect()
}

#[test]
fn names_are_found_in_expressions_and_scrapes() {
    let expression = "rate(ringmail_a_total{job=\"ringmail\"}[5m]) > process_b";
    assert!(
        mentioned(expression)
            .into_iter()
            .eq(["process_b", "ringmail_a_total"])
    );
    let scrape = "# HELP ringmail_a A.\n# TYPE ringmail_a histogram\nringmail_a_sum 1\nringmail_b{x=\"y\"} 2\n";
    assert!(
        told(scrape)
            .into_iter()
            .eq(["ringmail_a", "ringmail_a_sum", "ringmail_b"])
    );
}
