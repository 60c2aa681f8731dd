//! Filters with a value each, found by the topics they match.
//!
//! A filter without wildcards is one edge, labelled with the whole of it: a topic finds it
//! by one look-up. A filter with wildcards is a path, an edge for each level:
//!
//! ```text
//!   site/1/temperature                EXACT ── "site/1/temperature" ──► ● value
//!
//!   site/+/temperature                ROOT ── "site" ──► ○ ── + ──► ○ ── "temperature" ──► ● value
//!   site/#                                               ● rest
//! ```
//!
//! A topic walks from the root: at each level to the child of that label and to the `+`
//! child. It costs at most its depth in look-ups, times the `+` branches there really are;
//! how many filters there are besides does not matter.
//!
//! Names are valid (`proto::name` has checked them) and are not checked again here.
//!
//! What it does not do: bound the work of hostile sets of filters. Someone who may
//! subscribe n filters can make a topic visit n of them, which is what matching n
//! filters costs.
//!
//! Invariants: every node but the root has a value, a `#` value or a child.

use super::arena::Arena;
use super::node::{EXACT, NONE, Nodes, ROOT};
use crate::base::limits::NAME_LEVELS_MAX;
use std::ops::{Index, IndexMut};

/// A filter's place in its trie: good while the filter is there, that is while whoever
/// keeps the id is subscribed to it. Afterwards it may name another filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

impl FilterId {
    const fn new(node: u32, is_rest: bool) -> FilterId {
        FilterId(node << 1 | is_rest as u32)
    }

    const fn node(self) -> u32 {
        self.0 >> 1
    }

    /// Whether it is the filter that goes on from its node with `#`.
    const fn is_rest(self) -> bool {
        self.0 & 1 == 1
    }
}

pub struct Trie<T> {
    nodes: Nodes,
    values: Arena<T>,
}

impl<T> Default for Trie<T> {
    fn default() -> Trie<T> {
        Trie::new()
    }
}

impl<T> Trie<T> {
    pub fn new() -> Trie<T> {
        Trie {
            nodes: Nodes::new(),
            values: Arena::new(),
        }
    }

    /// Filters that there are.
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn find(&self, filter: &str) -> Option<FilterId> {
        let id = if has_wildcard(filter) {
            let (path, is_rest) = split_rest(filter);
            let mut at = ROOT;
            for level in path {
                at = match level {
                    "+" => Some(self.nodes.arena[at].plus).filter(|plus| *plus != NONE)?,
                    _ => self.nodes.child(at, level)?,
                };
            }
            FilterId::new(at, is_rest)
        } else {
            FilterId::new(self.nodes.child(EXACT, filter)?, false)
        };
        self.value_of(id).map(|_| id)
    }

    /// The id of `filter`, which gets the value that `make` makes if it is new.
    pub fn insert(&mut self, filter: &str, make: impl FnOnce() -> T) -> FilterId {
        let id = if has_wildcard(filter) {
            let (path, is_rest) = split_rest(filter);
            let at = path.fold(ROOT, |at, level| self.step(at, level));
            FilterId::new(at, is_rest)
        } else {
            let known = self.nodes.child(EXACT, filter);
            let at = known.unwrap_or_else(|| self.nodes.add_child(EXACT, filter));
            FilterId::new(at, false)
        };
        if self.value_of(id).is_none() {
            *self.value_mut(id) = self.values.insert(make());
        }
        id
    }

    pub fn get(&self, id: FilterId) -> Option<&T> {
        self.values.get(self.value_of(id)?)
    }

    pub fn get_mut(&mut self, id: FilterId) -> Option<&mut T> {
        self.values.get_mut(self.value_of(id)?)
    }

    /// Takes the filter out, and the nodes that stood for it alone.
    pub fn remove(&mut self, id: FilterId) -> Option<T> {
        let value = self.value_of(id)?;
        *self.value_mut(id) = NONE;
        let mut at = id.node();
        while at != ROOT && at != EXACT && self.nodes.arena[at].is_bare() {
            at = self.nodes.remove(at);
        }
        self.values.remove(value)
    }

    /// Calls `each` with the value of every filter that matches the topic, in an order that
    /// depends on topic and filters alone: the exact one, then from the root downwards,
    /// at each node `#` first and `+` last. Says how many nodes were looked at.
    pub fn matching<'a>(&'a self, topic: &str, each: &mut impl FnMut(&'a T)) -> usize {
        let mut nodes = 1;
        if let Some(at) = self.nodes.child(EXACT, topic) {
            self.give(self.nodes.arena[at].value, each);
        }
        let root = &self.nodes.arena[ROOT];
        // `$` names are the server's: a wildcard at the beginning does not match them.
        let open = !topic.starts_with('$');
        if open {
            self.give(root.rest, each);
        }
        let (level, rest) = split_level(topic);
        if root.children > 0
            && let Some(child) = self.nodes.child(ROOT, level)
        {
            nodes += self.descend(child, rest, each);
        }
        if open && root.plus != NONE {
            nodes += self.descend(root.plus, rest, each);
        }
        nodes
    }

    /// Appends the filter's text to `text`.
    pub fn name(&self, id: FilterId, text: &mut String) {
        let mut labels = [""; NAME_LEVELS_MAX];
        let mut count = 0;
        let mut at = id.node();
        while let Some(node) = self.nodes.arena.get(at)
            && at != ROOT
            && count < labels.len()
        {
            labels[count] = node.label.as_str();
            count += 1;
            at = node.parent;
        }
        let rest = id.is_rest().then_some("#");
        for (n, level) in labels[..count]
            .iter()
            .rev()
            .copied()
            .chain(rest)
            .enumerate()
        {
            if n > 0 {
                text.push('/');
            }
            text.push_str(level);
        }
    }

    fn descend<'a>(&'a self, at: u32, rest: Option<&str>, each: &mut impl FnMut(&'a T)) -> usize {
        let node = &self.nodes.arena[at];
        let mut nodes = 1;
        self.give(node.rest, each);
        let Some(rest) = rest else {
            self.give(node.value, each);
            return nodes;
        };
        let (level, rest) = split_level(rest);
        if node.children > 0
            && let Some(child) = self.nodes.child(at, level)
        {
            nodes += self.descend(child, rest, each);
        }
        if node.plus != NONE {
            nodes += self.descend(node.plus, rest, each);
        }
        nodes
    }

    fn give<'a>(&'a self, value: u32, each: &mut impl FnMut(&'a T)) {
        if value != NONE {
            each(&self.values[value]);
        }
    }

    fn step(&mut self, at: u32, level: &str) -> u32 {
        if level != "+" {
            let known = self.nodes.child(at, level);
            return known.unwrap_or_else(|| self.nodes.add_child(at, level));
        }
        match self.nodes.arena[at].plus {
            NONE => self.nodes.add_plus(at),
            plus => plus,
        }
    }

    fn value_of(&self, id: FilterId) -> Option<u32> {
        let node = self.nodes.arena.get(id.node())?;
        let value = if id.is_rest() { node.rest } else { node.value };
        (value != NONE).then_some(value)
    }

    fn value_mut(&mut self, id: FilterId) -> &mut u32 {
        let node = &mut self.nodes.arena[id.node()];
        if id.is_rest() {
            &mut node.rest
        } else {
            &mut node.value
        }
    }

    /// Checks the invariants and says how many nodes and how many entries of memory there
    /// are.
    #[cfg(test)]
    pub fn check_invariants(&self) -> (usize, usize) {
        self.nodes.check_invariants();
        let capacity = self.nodes.arena.capacity() + self.values.capacity();
        (self.nodes.arena.len(), capacity)
    }
}

/// For an id just found or kept by its subscriber: one that names no filter is a bug and
/// panics.
impl<T> Index<FilterId> for Trie<T> {
    type Output = T;

    fn index(&self, id: FilterId) -> &T {
        let Some(value) = self.get(id) else {
            unreachable!("{id:?} names no filter");
        };
        value
    }
}

impl<T> IndexMut<FilterId> for Trie<T> {
    fn index_mut(&mut self, id: FilterId) -> &mut T {
        let Some(value) = self.get_mut(id) else {
            unreachable!("{id:?} names no filter");
        };
        value
    }
}

/// In a valid filter a wildcard's character is nothing else.
fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// The levels before a final `#`, and whether there is one.
fn split_rest(filter: &str) -> (impl Iterator<Item = &str>, bool) {
    let is_rest = filter.ends_with('#');
    (filter.split('/').filter(|level| *level != "#"), is_rest)
}

fn split_level(name: &str) -> (&str, Option<&str>) {
    match name.bytes().position(|byte| byte == b'/') {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    }
}
