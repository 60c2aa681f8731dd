//! What a role covers, against every name there is over a few levels.
//!
//! A right covers a filter only if it covers each topic that the filter matches; for a topic it
//! is covered exactly if the right, with its templates filled in, matches it. Levels that no
//! filter names stand for all others.

use super::Draw;
use ringmail::auth::Who;
use ringmail::auth::rights::{Role, Roles};
use ringmail::proto::name::{check_filter, check_topic, matches};
use std::sync::LazyLock;

/// What a pattern's and a filter's levels are.
const PATTERN: &[&str] = &["a", "b", "+", "#", "", "$s", "{principal}", "{client_id}"];
const FILTER: &[&str] = &["a", "b", "+", "#", "", "$s", "p", "c"];
/// What a topic's are: those, and one that nobody names.
const TOPIC: &[&str] = &["a", "b", "", "$s", "p", "c", "z"];
const LEVELS_MAX: usize = 3;
/// Who it is: plain names, and some that must cover nothing.
const NAMES: &[&str] = &["p", "c", "+", "#", "", "a/b", "$s"];

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let principal = *draw.pick(NAMES);
    let client_id = draw.bool().then(|| *draw.pick(NAMES));
    let who = Who {
        principal,
        client_id,
    };
    let count = 1 + draw.below(3);
    let patterns: Vec<String> = (0..count).map(|_| draw.name(PATTERN, LEVELS_MAX)).collect();
    let role = Role {
        publish: patterns.clone(),
        subscribe: patterns.clone(),
        ..Role::default()
    };
    let Ok(roles) = Roles::new([("r", &role)]) else {
        let is_filter = |pattern: &String| check_filter(pattern).is_ok();
        assert!(!patterns.iter().all(is_filter), "{patterns:?} is refused");
        return;
    };
    let rights = roles.rights(&["r"]);
    let plain: Vec<String> = patterns.iter().filter_map(|one| filled(one, who)).collect();

    let filter = draw.name(FILTER, LEVELS_MAX);
    if check_filter(&filter).is_ok() && rights.may_subscribe(&filter, who) {
        for topic in TOPICS.iter().filter(|topic| matches(&filter, topic)) {
            let may = plain.iter().any(|right| matches(right, topic));
            assert!(
                may,
                "{patterns:?} of {who:?} cover {filter} but not {topic}"
            );
        }
    }
    let topic = draw.name(TOPIC, LEVELS_MAX + 1);
    if check_topic(&topic).is_ok() {
        let may = plain.iter().any(|right| matches(right, &topic));
        assert_eq!(
            rights.may_publish(&topic, who),
            may,
            "{patterns:?} of {who:?}: {topic}"
        );
        assert_eq!(rights.may_subscribe(&topic, who), may);
    }
    // Each right covers itself, unless it stands for nobody or for the server's own names.
    for (pattern, right) in patterns
        .iter()
        .zip(patterns.iter().map(|one| filled(one, who)))
    {
        let is_wild =
            pattern.starts_with('{') && right.as_deref().is_some_and(|r| r.starts_with('$'));
        if let Some(right) = right.filter(|_| !is_wild) {
            assert!(
                rights.may_subscribe(&right, who),
                "{pattern} of {who:?} is not {right}"
            );
        }
        assert!(!rights.may_request(pattern, who) && !rights.may_serve(pattern, who));
    }
}

/// The right as a filter, its templates filled in. `None`: it covers nothing.
fn filled(pattern: &str, who: Who<'_>) -> Option<String> {
    let mut levels = Vec::new();
    for (at, level) in pattern.split('/').enumerate() {
        let own = match level {
            "{principal}" => Some(who.principal),
            "{client_id}" => Some(who.client_id?),
            _ => None,
        };
        let Some(own) = own else {
            levels.push(level);
            continue;
        };
        let is_plain = !own.is_empty() && !own.contains(['/', '+', '#']);
        // A right that begins with a template covers no name of the server's.
        if !is_plain || at == 0 && own.starts_with('$') {
            return None;
        }
        levels.push(own);
    }
    Some(levels.join("/"))
}

/// Every topic of one level more than filters have, at most.
static TOPICS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut level: Vec<String> = TOPIC.iter().map(|word| (*word).to_owned()).collect();
    let mut all = Vec::new();
    for _ in 0..=LEVELS_MAX {
        all.extend(
            level
                .iter()
                .filter(|topic| check_topic(topic).is_ok())
                .cloned(),
        );
        let longer = level
            .iter()
            .flat_map(|begun| TOPIC.iter().map(move |word| format!("{begun}/{word}")));
        level = longer.collect();
    }
    all
});
