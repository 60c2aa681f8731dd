//! Mailboxes whose filters have wildcards, found by a name's levels: the cost of a look-up grows
//! with the name's levels and the filters that match it, not with the number of filters.
//!
//! One node per level; a node is removed when nothing is left below it. `matches` of `proto::name`
//! is the rule, and the tests' oracle.

use std::collections::HashMap;

/// A mailbox's number.
pub(super) type BoxId = u64;

#[derive(Debug, Default)]
pub(super) struct Wildcards {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    named: HashMap<Box<str>, Node>,
    /// Below `+`.
    any: Option<Box<Node>>,
    /// Filters that end here, and those that end with `#` here.
    ends: Vec<BoxId>,
    rest: Vec<BoxId>,
}

impl Wildcards {
    pub(super) fn insert(&mut self, filter: &str, id: BoxId) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => return node.rest.push(id),
                "+" => node.any.get_or_insert_default(),
                name => node.named.entry(name.into()).or_default(),
            };
        }
        node.ends.push(id);
    }

    pub(super) fn remove(&mut self, filter: &str, id: BoxId) {
        let levels: Vec<&str> = filter.split('/').collect();
        self.root.remove(&levels, id);
    }

    /// Appends the mailboxes whose filters match this name.
    pub(super) fn find(&self, name: &str, found: &mut Vec<BoxId>) {
        let mut levels = name.split('/');
        // A filter that starts with a wildcard does not match names starting with `$`.
        if name.starts_with('$') {
            let first = levels.next().unwrap_or_default();
            if let Some(node) = self.root.named.get(first) {
                node.find(levels, found);
            }
        } else {
            self.root.find(levels, found);
        }
    }
}

impl Node {
    fn find(&self, mut levels: std::str::Split<'_, char>, found: &mut Vec<BoxId>) {
        found.extend(&self.rest);
        let Some(level) = levels.next() else {
            found.extend(&self.ends);
            return;
        };
        if let Some(node) = self.named.get(level) {
            node.find(levels.clone(), found);
        }
        if let Some(node) = &self.any {
            node.find(levels, found);
        }
    }

    fn remove(&mut self, levels: &[&str], id: BoxId) {
        match levels.split_first() {
            None => self.ends.retain(|end| *end != id),
            Some((&"#", _)) => self.rest.retain(|end| *end != id),
            Some((&"+", below)) => {
                if let Some(node) = &mut self.any {
                    node.remove(below, id);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
            Some((&name, below)) => {
                if let Some(node) = self.named.get_mut(name) {
                    node.remove(below, id);
                    if node.is_empty() {
                        self.named.remove(name);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        let has_below = !self.named.is_empty() || self.any.is_some();
        !has_below && self.ends.is_empty() && self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::name::{check_filter, matches};

    #[test]
    fn whatever_a_filter_matches_is_found_and_nothing_is_left_behind() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut name = |levels: &[&str]| {
            let count = random.usize(1..=4);
            let picked: Vec<&str> = (0..count)
                .map(|_| levels[random.usize(..levels.len())])
                .collect();
            picked.join("/")
        };
        let mut filters = Vec::new();
        while filters.len() < 400 {
            let filter = name(&["a", "b", "", "$s", "+", "#"]);
            if check_filter(&filter).is_ok() {
                filters.push(filter);
            }
        }
        let mut wildcards = Wildcards::default();
        for (id, filter) in (0..).zip(&filters) {
            wildcards.insert(filter, id);
        }
        for _ in 0..1000 {
            let topic = name(&["a", "b", "", "$s", "c"]);
            let mut found = Vec::new();
            wildcards.find(&topic, &mut found);
            found.sort_unstable();
            let all = (0..).zip(&filters);
            let expected = all.filter(|(_, filter)| matches(filter, &topic));
            let expected: Vec<BoxId> = expected.map(|(id, _)| id).collect();
            assert_eq!(found, expected, "{topic}");
        }
        for (id, filter) in (0..).zip(&filters) {
            wildcards.remove(filter, id);
        }
        assert!(wildcards.root.is_empty());
    }
}
