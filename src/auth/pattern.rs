//! One filter of a role, compiled: it covers names, filters among them.
//!
//! ```text
//!   devices/{principal}/+/state/#
//!   └─head─┘└principal┘/+└text─┘└ everything below
//! ```
//!
//! Adjacent literal levels form one piece of text and are compared as such; most rights that do
//! not match differ already in the first piece.
//!
//! A pattern covers a filter only if it covers *all* of it: `+` covers a literal level and `+`,
//! but not `#`; `#` covers everything from its level on. `{principal}` and `{client_id}` cover
//! exactly their value, and only if that is a plain level: a value that is empty, or contains a
//! slash, a wildcard or a control character, covers nothing. A pattern that starts with anything
//! but a literal covers no name starting with `$`.
//!
//! Names have been validated (`proto::name`); an invalid one is at worst not covered.

use crate::proto::name::check_filter;

/// Whose rights are checked: the values of the templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    pub principal: &'a str,
    /// The CLIENT_ID of the SYN, if it gave one.
    pub client_id: Option<&'a str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The text up to the first level that is not literal, with the slash before it unless that
    /// level is `#`.
    head: Box<str>,
    tail: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Literal levels, with the slashes on both sides.
    Text(Box<str>),
    /// `+`
    One,
    Principal,
    ClientId,
    /// `/#`: this level and all below it.
    Below,
    /// `#` alone.
    All,
}

const PRINCIPAL: &str = "{principal}";
const CLIENT_ID: &str = "{client_id}";

impl Pattern {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(filter: &str) -> Result<Pattern, String> {
        check_filter(filter).map_err(|refusal| refusal.text.into_owned())?;
        if filter == "#" {
            return Ok(Pattern {
                head: "".into(),
                tail: [Part::All].into(),
            });
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        for (index, level) in filter.split('/').enumerate() {
            if index > 0 && level != "#" {
                text.push('/');
            }
            let part = match level {
                "#" => Part::Below,
                "+" => Part::One,
                PRINCIPAL => Part::Principal,
                CLIENT_ID => Part::ClientId,
                literal => {
                    check_literal(literal)?;
                    text.push_str(literal);
                    continue;
                }
            };
            flush(&mut text, &mut parts);
            parts.push(part);
        }
        flush(&mut text, &mut parts);
        let head = match parts.first() {
            Some(Part::Text(text)) => {
                let head = text.clone();
                parts.remove(0);
                head
            }
            _ => "".into(),
        };
        Ok(Pattern {
            head,
            tail: parts.into(),
        })
    }

    /// Whether it covers a topic, a service, or all of a filter.
    #[inline]
    pub(super) fn covers(&self, name: &str, who: Who<'_>) -> bool {
        // Not left to `strip_prefix`: comparing the zero bytes of an empty box took 40 ns
        // (benches/rights.rs, all/any).
        if self.head.is_empty() {
            return !name.starts_with('$') && self.tail_covers(name, who);
        }
        match name.strip_prefix(&*self.head) {
            Some(rest) if self.tail.is_empty() => rest.is_empty(),
            Some(rest) => self.tail_covers(rest, who),
            None => false,
        }
    }

    fn tail_covers(&self, mut rest: &str, who: Who<'_>) -> bool {
        for part in &self.tail {
            let after = match part {
                Part::Text(text) => rest.strip_prefix(&**text),
                Part::One => {
                    let (level, after) = split_level(rest);
                    (level != "#").then_some(after)
                }
                Part::Principal => after_own_level(rest, Some(who.principal)),
                Part::ClientId => after_own_level(rest, who.client_id),
                Part::Below => return rest.is_empty() || rest.starts_with('/'),
                Part::All => return true,
            };
            match after {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

fn flush(text: &mut String, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Text(std::mem::take(text).into()));
    }
}

/// A literal level that looks like a template is a mistake: it would not match what its author
/// intended.
fn check_literal(level: &str) -> Result<(), String> {
    if level.contains(PRINCIPAL) || level.contains(CLIENT_ID) {
        return Err("{principal} and {client_id} must each be a whole level".to_owned());
    }
    if level.starts_with('{') && level.ends_with('}') {
        return Err(format!(
            "unknown placeholder {level}; use {PRINCIPAL} or {CLIENT_ID}"
        ));
    }
    Ok(())
}

/// The first level, and what follows, with its slash.
#[inline]
fn split_level(name: &str) -> (&str, &str) {
    let end = name.bytes().position(|byte| byte == b'/');
    name.split_at(end.unwrap_or(name.len()))
}

/// What follows the first level, if that is `own` and `own` is plain.
#[inline]
fn after_own_level<'a>(name: &'a str, own: Option<&str>) -> Option<&'a str> {
    let (level, after) = split_level(name);
    let own = own.is_some_and(|own| own == level);
    (own && is_plain(level)).then_some(after)
}

fn is_plain(level: &str) -> bool {
    let special = |byte: u8| byte < 0x20 || byte == b'+' || byte == b'#';
    !level.is_empty() && !level.bytes().any(special)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::name::{check_topic, matches};
    use proptest::prelude::*;

    const WHO: Who<'_> = Who {
        principal: "p",
        client_id: Some("c"),
    };

    fn covers(pattern: &str, name: &str) -> bool {
        Pattern::compile(pattern)
            .expect("a filter")
            .covers(name, WHO)
    }

    #[test]
    fn one_right_covers_the_whole_filter_or_nothing_of_it() {
        let rows = [
            ("a/b", "a/b", true),
            ("a/b", "a/+", false),
            ("a/b", "a/b/c", false),
            ("a/b", "a", false),
            ("a/b", "a/bc", false),
            ("a/b", "#", false),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/+", "+/b", false),
            ("a/+/c", "a/+/c", true),
            ("a/+/c", "a/#", false),
            ("a/+/c", "a/b/+", false),
            ("+/b", "a/b", true),
            ("+/b", "+/b", true),
            ("+/b", "+/+", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a/+/c/#", true),
            ("a/#", "a/#", true),
            ("a/#", "ab", false),
            ("a/#", "+/b", false),
            ("a/#", "#", false),
            ("a/+/#", "a/#", false),
            ("a/+/#", "a/b", true),
            ("a/+/#", "a/+/#", true),
            ("#", "#", true),
            ("#", "+", true),
            ("#", "a/+/#", true),
            ("+", "#", false),
            // An empty level is a level: `+` covers it, and nothing else does.
            ("+", "/", false),
            ("+/+", "/", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+/b", "a//b", true),
            ("a/#", "a/", true),
            ("a/", "a", false),
            ("a", "a/", false),
            ("/#", "/", true),
            ("/#", "/+/#", true),
            ("/#", "a", false),
            ("/#", "+/a", false),
            ("//#", "/", true),
            ("//#", "/a", false),
            ("/+", "/#", false),
            ("#", "/", true),
        ];
        for (pattern, filter, expected) in rows {
            assert_eq!(covers(pattern, filter), expected, "{pattern} on {filter}");
        }
    }

    #[test]
    fn a_pattern_that_starts_with_a_wildcard_or_template_covers_no_reserved_name() {
        for pattern in ["#", "+/#", "+/x", "{principal}/x", "{client_id}/#"] {
            for name in ["$sys", "$sys/x", "$sys/#", "$sys/+", "$p/x"] {
                let own = Who {
                    principal: "$sys",
                    client_id: Some("$sys"),
                };
                let compiled = Pattern::compile(pattern).expect("a filter");
                assert!(!compiled.covers(name, own), "{pattern} on {name}");
            }
        }
        assert!(covers("$sys/#", "$sys/echo"));
        assert!(covers("$sys/#", "$sys"));
        assert!(covers("$sys/+", "$sys/+"));
    }

    #[test]
    fn templates_stand_for_the_connections_own_level() {
        assert!(covers("devices/{principal}/#", "devices/p/state"));
        assert!(covers("devices/{principal}/#", "devices/p/#"));
        assert!(covers("devices/{principal}/#", "devices/p"));
        assert!(!covers("devices/{principal}/#", "devices/q/state"));
        assert!(!covers("devices/{principal}/#", "devices/pp/state"));
        assert!(!covers("devices/{principal}/#", "devices/+/state"));
        assert!(!covers("devices/{principal}/#", "devices/#"));
        assert!(covers("{principal}/{client_id}", "p/c"));
        assert!(!covers("{principal}/{client_id}", "c/p"));
        assert!(!covers("{principal}/{client_id}", "p/+"));
    }

    #[test]
    fn a_name_with_wildcards_in_it_widens_nothing() {
        let values = ["+", "#", "a/b", "a/#", "/", "", "a\u{1}", "a+", "#b", "\0"];
        for value in values {
            let who = Who {
                principal: value,
                client_id: Some(value),
            };
            for template in [PRINCIPAL, CLIENT_ID] {
                for right in [format!("d/{template}"), format!("d/{template}/#")] {
                    let pattern = Pattern::compile(&right).expect("a filter");
                    for name in [
                        format!("d/{value}"),
                        format!("d/{value}/x"),
                        "d/+".to_owned(),
                        "d/#".to_owned(),
                        "d/+/x".to_owned(),
                        "d/a/b".to_owned(),
                        "d/a".to_owned(),
                    ] {
                        assert!(!pattern.covers(&name, who), "{right}, {value:?}: {name}");
                    }
                }
            }
        }
        let nameless = Who {
            principal: "p",
            client_id: None,
        };
        let pattern = Pattern::compile("d/{client_id}").expect("a filter");
        assert!(!pattern.covers("d/", nameless));
        assert!(!pattern.covers("d/{client_id}", nameless));
    }

    #[test]
    fn a_mistaken_filter_says_what_is_wrong() {
        let fault = |filter| Pattern::compile(filter).expect_err("should be refused");
        assert!(fault("").contains("empty"));
        assert!(fault("a/#/b").contains("# is allowed only as the last level"));
        assert!(fault("dev-{principal}/x").contains("a whole level"));
        assert!(fault("a/{principle}").contains("{principal}"));
        assert!(Pattern::compile("a/{b").is_ok());
    }

    fn name(levels: &'static [&'static str], depth: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(levels), 1..=depth)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a name is not empty", |name| !name.is_empty())
    }

    fn filter(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
        (name(levels, 3), any::<bool>(), 0..10u8).prop_map(|(name, rest, all)| match (all, rest) {
            (0, _) => "#".to_owned(),
            (_, true) => format!("{name}/#"),
            (_, false) => name,
        })
    }

    /// Every topic of up to four levels; `z` is in no filter.
    fn topics() -> Vec<String> {
        let levels = ["a", "p", "z", "$a", ""];
        let mut all: Vec<String> = levels.map(String::from).to_vec();
        let mut last = all.clone();
        for _ in 1..4 {
            last = last
                .iter()
                .flat_map(|name| levels.map(|level| format!("{name}/{level}")))
                .collect();
            all.extend_from_slice(&last);
        }
        all.retain(|name| !name.is_empty());
        all
    }

    proptest! {
        /// The definition: everything that the filter matches, the right matches too.
        #[test]
        fn a_right_covers_a_filter_when_it_matches_all_its_topics(
            right in filter(&["a", "+", "{principal}", "$a", ""]),
            filter in filter(&["a", "p", "+", "$a", ""]),
        ) {
            let own = right.replace(PRINCIPAL, "p");
            let includes = |topic: &String| !matches(&filter, topic) || matches(&own, topic);
            let includes = topics().iter().all(includes);
            // Two spellings of "everything", and of everything below an empty level: a name is
            // never empty. `+` does not cover `#`, whatever follows.
            let spelled = (filter == "#" && own == "+/#")
                || (filter == "/#" && ["/+/#", "+/+/#"].contains(&&*own));
            prop_assert_eq!(covers(&right, &filter), includes && !spelled, "{} on {}", right, filter);
        }

        #[test]
        fn on_topics_covering_is_matching(
            right in filter(&["a", "b", "+", "{principal}", "{client_id}", ""]),
            topic in name(&["a", "b", "p", "c", "$a", ""], 4),
        ) {
            let own = right.replace(PRINCIPAL, "p").replace(CLIENT_ID, "c");
            prop_assert_eq!(covers(&right, &topic), matches(&own, &topic));
        }

        #[test]
        fn nothing_panics_and_no_value_reaches_beyond_its_level(
            right in any::<String>(),
            value in any::<String>(),
            name in any::<String>(),
        ) {
            let who = Who { principal: &value, client_id: Some(&value) };
            if let Ok(pattern) = Pattern::compile(&right) {
                let _ = pattern.covers(&name, who);
            }
            let pattern = Pattern::compile("d/{principal}/#").expect("a filter");
            if check_topic(&name).is_ok() && pattern.covers(&format!("d/{name}"), who) {
                prop_assert_eq!(name.split('/').next(), Some(&*value));
            }
        }
    }
}
