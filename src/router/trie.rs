//! Filters, each with a value, found by the topics they match.
//!
//! A filter without wildcards is a single edge, labelled with the whole filter: a topic finds it
//! with one look-up. A filter with wildcards is a path with an edge for each level:
//!
//! ```text
//!   site/1/temperature                EXACT ── "site/1/temperature" ──► ● value
//!
//!   site/+/temperature                ROOT ── "site" ──► ○ ── + ──► ○ ── "temperature" ──► ● value
//!   site/#                                               ● rest
//! ```
//!
//! A topic walks down from the root: at each level to the child of that label and to the `+` child.
//! It costs at most its depth in look-ups, times the `+` branches that exist; the number of other
//! filters does not matter.
//!
//! Names are valid (`proto::name` has checked them) and are not checked again here.
//!
//! A client that may subscribe to n filters can make a topic visit n nodes. So a walk can stop
//! after some nodes and continue later, from a [`Place`] that names no node, but the path to one:
//!
//! ```text
//!   a/b/c:   a ── b ── c     a ── b ── +     a ── + ── c     a ── + ── +     + ── b ── c  …
//!            0    0    0     0    0    1     0    1    0     0    1    1     1    0    0
//! ```
//!
//! A walk takes these paths in the order of their numbers. Whatever is inserted or removed
//! meanwhile, a filter that exists throughout is found exactly once; and the walk ends, because its
//! number only grows.
//!
//! Invariants: every node but the root has a value, a `#` value or a child.

use super::arena::Arena;
use super::node::{EXACT, NONE, Nodes, ROOT};
use crate::base::limits::NAME_LEVELS_MAX;
use std::ops::{Index, IndexMut};

/// A filter's place in its trie: valid while the filter exists, hence while the holder of the id is
/// subscribed to it. Afterwards it may name another filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

impl FilterId {
    const fn new(node: u32, is_rest: bool) -> FilterId {
        FilterId(node << 1 | is_rest as u32)
    }

    const fn node(self) -> u32 {
        self.0 >> 1
    }

    /// Whether it is the filter that continues from its node with `#`.
    const fn is_rest(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Where a topic's walk continues. By default: at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// For each level before the next node, whether the path takes `+`; the first level in the
    /// lowest bit.
    turns: u32,
    /// How many levels precede the next node; 0: no node has been visited.
    depth: u8,
}

/// A walk in progress.
struct Walk<E> {
    /// The path to the current node or, once the walk has stopped, to the next one.
    turns: u32,
    /// Where the walk had stopped, and has to return to.
    from: Place,
    left: usize,
    stopped: Option<u8>,
    each: E,
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

    /// How many filters there are.
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate memory of the filters, in bytes.
    pub fn bytes(&self) -> usize {
        self.nodes.bytes() + self.values.bytes()
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

    /// Returns the id of `filter`; inserts it with the value of `make` if it is new.
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

    /// Removes a filter, and the nodes that only it used.
    pub fn remove(&mut self, id: FilterId) -> Option<T> {
        let value = self.value_of(id)?;
        *self.value_mut(id) = NONE;
        let mut at = id.node();
        while at != ROOT && at != EXACT && self.nodes.arena[at].is_bare() {
            at = self.nodes.remove(at);
        }
        self.values.remove(value)
    }

    /// Calls `each` with the value of every filter that matches the topic, in an order that depends
    /// on topic and filters alone: the exact one, then from the root downwards, at each node `#`
    /// first and `+` last. Returns how many nodes it visited.
    pub fn matching<'a>(&'a self, topic: &str, each: &mut impl FnMut(&'a T)) -> usize {
        let mut place = Place::default();
        let (nodes, done) =
            self.matching_some(topic, &mut place, usize::MAX, |_, value| each(value));
        debug_assert!(done, "there are not as many nodes");
        nodes
    }

    /// The same from `place` on, for at most that many nodes, at least one. Returns how many nodes
    /// it visited, and whether the walk is complete; if not, `place` is where to continue.
    #[inline]
    pub fn matching_some<'a>(
        &'a self,
        topic: &str,
        place: &mut Place,
        nodes_max: usize,
        each: impl FnMut(FilterId, &'a T),
    ) -> (usize, bool) {
        let most = nodes_max.max(2);
        let mut walk = Walk {
            turns: 0,
            from: *place,
            left: most - 1,
            stopped: None,
            each,
        };
        self.set_out(topic, &mut walk);
        if let Some(depth) = walk.stopped {
            *place = Place {
                turns: walk.turns,
                depth,
            };
        }
        (most - walk.left, walk.stopped.is_none())
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

    fn set_out<'a, E: FnMut(FilterId, &'a T)>(&'a self, topic: &str, walk: &mut Walk<E>) {
        let root = &self.nodes.arena[ROOT];
        // Names starting with `$` are reserved: a leading wildcard does not match them.
        let open = !topic.starts_with('$');
        let begins = walk.from.depth == 0;
        if begins {
            if let Some(at) = self.nodes.child(EXACT, topic) {
                self.give(at, false, walk);
            }
            if open {
                self.give(ROOT, true, walk);
            }
        }
        let (level, rest) = split_level(topic);
        let by_plus = !begins && walk.from.turns & 1 == 1;
        if root.children > 0
            && !by_plus
            && let Some(child) = self.nodes.child(ROOT, level)
        {
            self.descend(child, rest, 1, !begins, walk);
        }
        if open && root.plus != NONE && walk.stopped.is_none() {
            walk.turns |= 1;
            self.descend(root.plus, rest, 1, by_plus, walk);
        }
    }

    /// Visits a node at this depth and those below it; `back`: the node is on the path back to
    /// where the walk had stopped.
    fn descend<'a, E: FnMut(FilterId, &'a T)>(
        &'a self,
        at: u32,
        rest: Option<&str>,
        depth: u8,
        back: bool,
        walk: &mut Walk<E>,
    ) {
        let node = &self.nodes.arena[at];
        let back = back && depth < walk.from.depth;
        if !back {
            if walk.left == 0 {
                walk.stopped = Some(depth);
                return;
            }
            walk.left -= 1;
            if node.rest != NONE {
                self.give(at, true, walk);
            }
        }
        let Some(rest) = rest else {
            if node.value != NONE {
                self.give(at, false, walk);
            }
            return;
        };
        let bit = 1 << depth;
        let by_plus = back && walk.from.turns & bit != 0;
        let (level, rest) = split_level(rest);
        if node.children > 0
            && !by_plus
            && let Some(child) = self.nodes.child(at, level)
        {
            self.descend(child, rest, depth + 1, back, walk);
        }
        if node.plus != NONE && walk.stopped.is_none() {
            walk.turns |= bit;
            self.descend(node.plus, rest, depth + 1, by_plus, walk);
            if walk.stopped.is_none() {
                walk.turns &= !bit;
            }
        }
    }

    #[inline]
    fn give<'a, E: FnMut(FilterId, &'a T)>(&'a self, at: u32, is_rest: bool, walk: &mut Walk<E>) {
        let node = &self.nodes.arena[at];
        let value = if is_rest { node.rest } else { node.value };
        if value != NONE {
            (walk.each)(FilterId::new(at, is_rest), &self.values[value]);
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

    /// Checks the invariants; returns how many nodes there are, and for how many there is memory.
    #[cfg(test)]
    pub fn check_invariants(&self) -> (usize, usize) {
        self.nodes.check_invariants();
        let capacity = self.nodes.arena.capacity() + self.values.capacity();
        (self.nodes.arena.len(), capacity)
    }
}

/// For an id just found or held by its subscriber: one that names no filter is a bug and panics.
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

/// In a valid filter these characters occur only as wildcards.
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
