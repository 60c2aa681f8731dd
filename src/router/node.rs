//! The nodes of a trie, and one hash table over all its edges: it maps a node and a label to the
//! child.
//!
//! A map in every node would cost a hundred bytes, though most nodes have one child. One table for
//! all edges costs four bytes per edge, and a look-up two cache misses however many children a node
//! has.
//!
//! The table grows and shrinks a bucket at a time (linear hashing, Litwin 1980), so that no
//! SUBSCRIBE pays for moving a million others:
//!
//! ```text
//!   heads   [ 0 | 1 | 2 | 3 | 4 | 5 ]       6 buckets, one for each edge
//!             │       │
//!             ▼       ▼                      bucket of a hash: its low 3 bits,
//!            node    node ──next──► node     or its low 2 when that is 6 or 7
//!
//!   growing: bucket 6 appears, and takes from bucket 2 those whose third bit is set
//! ```
//!
//! The hash is seeded at random: peers choose the labels, and must not be able to choose the
//! bucket. It is foldhash, because SipHash made a match of several levels half as slow again (202
//! against 138 ns, CPU time, median of five alternating pairs). foldhash does not claim to resist
//! someone who can observe hashes; they never leave this file, but a peer that measures its own
//! latencies precisely enough might infer them. Only the order inside a bucket depends on the seed,
//! and no result depends on that order.
//!
//! Wildcards are not labels: `+` is a field of the parent (every match looks for it), `#` a second
//! value of the node.
//!
//! Invariants: a node other than `ROOT` and the `+` nodes is in exactly one bucket, that of
//! its hash; `children` is the number of nodes in buckets whose parent this is;
//! `BUCKETS_MIN ≤ heads.len()`, and beyond it `hashed ≤ heads.len() ≤ 2 × hashed + 1`.

use super::arena::Arena;
use super::label::Label;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use std::hash::{BuildHasher, RandomState};

/// No node, no value.
pub const NONE: u32 = u32::MAX;
/// The node from which filters with wildcards start.
pub const ROOT: u32 = 0;
/// The parent of filters without wildcards, each of which is one label. Not a node.
pub const EXACT: u32 = u32::MAX - 1;

const BUCKETS_MIN: usize = 16;

pub struct Node {
    hash: u32,
    next: u32,
    pub parent: u32,
    pub children: u32,
    /// The child that stands for any one level.
    pub plus: u32,
    /// The value of the filter that ends here.
    pub value: u32,
    /// The value of the filter that ends with `#` below this node.
    pub rest: u32,
    pub label: Label,
}

const _: () = assert!(size_of::<Node>() <= 56);

impl Node {
    fn new(parent: u32, label: Label) -> Node {
        Node {
            hash: 0,
            next: NONE,
            parent,
            children: 0,
            plus: NONE,
            value: NONE,
            rest: NONE,
            label,
        }
    }

    /// Whether the node has neither a value nor a child.
    pub fn is_bare(&self) -> bool {
        self.children == 0 && self.plus == NONE && self.value == NONE && self.rest == NONE
    }
}

pub struct Nodes {
    pub arena: Arena<Node>,
    heads: Vec<u32>,
    hashed: usize,
    /// Bytes of labels that are on the heap.
    label_bytes: usize,
    hasher: SeedableRandomState,
}

impl Nodes {
    pub fn new() -> Nodes {
        let mut arena = Arena::new();
        let root = arena.insert(Node::new(NONE, Label::new("")));
        debug_assert_eq!(root, ROOT);
        // The standard library takes its seed from the operating system; foldhash by itself would
        // use addresses and the time.
        let entropy = RandomState::new().hash_one(root);
        Nodes {
            arena,
            heads: vec![NONE; BUCKETS_MIN],
            hashed: 0,
            label_bytes: 0,
            hasher: SeedableRandomState::with_seed(entropy, SharedSeed::global_random()),
        }
    }

    /// Bytes of memory that nodes and edges take, without the root.
    pub fn bytes(&self) -> usize {
        // A bucket per edge, in a vector whose capacity doubles.
        let table = self.hashed * 2 * size_of::<u32>();
        self.arena.bytes() - self.arena.bytes() / self.arena.len() + self.label_bytes + table
    }

    /// The child of `parent` under a label that is not a wildcard.
    pub fn child(&self, parent: u32, label: &str) -> Option<u32> {
        let hash = self.hash(parent, label);
        let mut at = self.heads[self.bucket(hash)];
        while at != NONE {
            let node = &self.arena[at];
            if node.hash == hash
                && node.parent == parent
                && node.label.as_bytes() == label.as_bytes()
            {
                return Some(at);
            }
            at = node.next;
        }
        None
    }

    /// Adds a child under a label that is not a wildcard and that `parent` does not have.
    pub fn add_child(&mut self, parent: u32, label: &str) -> u32 {
        let hash = self.hash(parent, label);
        let mut node = Node::new(parent, Label::new(label));
        node.hash = hash;
        self.label_bytes += node.label.heap_bytes();
        let at = self.arena.insert(node);
        if parent != EXACT {
            self.arena[parent].children += 1;
        }
        self.link(at, hash);
        self.hashed += 1;
        if self.hashed > self.heads.len() {
            self.split_bucket();
        }
        at
    }

    /// Adds the child for `+`, which `parent` does not have.
    pub fn add_plus(&mut self, parent: u32) -> u32 {
        let at = self.arena.insert(Node::new(parent, Label::new("+")));
        self.arena[parent].plus = at;
        at
    }

    /// Removes a bare node and returns its parent.
    pub fn remove(&mut self, at: u32) -> u32 {
        let parent = self.arena[at].parent;
        if parent != EXACT && self.arena[parent].plus == at {
            self.arena[parent].plus = NONE;
        } else {
            self.unlink(at);
            self.hashed -= 1;
            if parent != EXACT {
                self.arena[parent].children -= 1;
            }
        }
        self.label_bytes -= self.arena[at].label.heap_bytes();
        self.arena.remove(at);
        while self.heads.len() > BUCKETS_MIN && self.heads.len() > 2 * self.hashed + 1 {
            self.merge_bucket();
        }
        parent
    }

    fn hash(&self, parent: u32, label: &str) -> u32 {
        self.hasher.hash_one((parent, label)) as u32
    }

    fn bucket(&self, hash: u32) -> usize {
        let mask = self.heads.len().next_power_of_two() - 1;
        let bucket = hash as usize & mask;
        if bucket < self.heads.len() {
            bucket
        } else {
            hash as usize & (mask >> 1)
        }
    }

    fn link(&mut self, at: u32, hash: u32) {
        let bucket = self.bucket(hash);
        self.arena[at].next = self.heads[bucket];
        self.heads[bucket] = at;
    }

    fn unlink(&mut self, at: u32) {
        let Node { hash, next, .. } = self.arena[at];
        let bucket = self.bucket(hash);
        let mut before = self.heads[bucket];
        if before == at {
            self.heads[bucket] = next;
            return;
        }
        while self.arena[before].next != at {
            before = self.arena[before].next;
        }
        self.arena[before].next = next;
    }

    /// Adds a bucket; its nodes come from the bucket with the same low bits.
    fn split_bucket(&mut self) {
        let new = self.heads.len();
        self.heads.push(NONE);
        // The new bucket's number is the old one's with one higher bit set.
        let old = new & !(1 << new.ilog2());
        self.relink(old);
    }

    /// Removes a bucket; its nodes go to the bucket with the same low bits.
    fn merge_bucket(&mut self) {
        let Some(head) = self.heads.pop() else {
            return;
        };
        self.relink_from(head);
        if self.heads.len() < self.heads.capacity() / 4 {
            self.heads.shrink_to(self.heads.len() * 2);
        }
    }

    fn relink(&mut self, bucket: usize) {
        let head = std::mem::replace(&mut self.heads[bucket], NONE);
        self.relink_from(head);
    }

    fn relink_from(&mut self, mut at: u32) {
        while at != NONE {
            let Node { hash, next, .. } = self.arena[at];
            self.link(at, hash);
            at = next;
        }
    }

    #[cfg(test)]
    pub fn check_invariants(&self) {
        let mut found = 0;
        let mut longest = 0;
        for (bucket, head) in self.heads.iter().enumerate() {
            let (mut at, mut length) = (*head, 0);
            while at != NONE {
                assert_eq!(self.bucket(self.arena[at].hash), bucket);
                (at, length) = (self.arena[at].next, length + 1);
            }
            found += length;
            longest = longest.max(length);
        }
        assert_eq!(found, self.hashed);
        assert!(longest < 32, "{longest} nodes in one bucket");
        assert!(self.heads.len() >= BUCKETS_MIN);
        assert!(self.heads.len() == BUCKETS_MIN || self.hashed <= self.heads.len());
        assert!(self.heads.len() == BUCKETS_MIN || self.heads.len() <= 2 * self.hashed + 1);
    }

    #[cfg(test)]
    pub fn bucket_count(&self) -> usize {
        self.heads.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_grows_and_shrinks_with_its_edges() {
        let mut nodes = Nodes::new();
        let label = |n: u32| format!("level {n}");
        let added: Vec<u32> = (0..5000)
            .map(|n| nodes.add_child(ROOT, &label(n)))
            .collect();
        nodes.check_invariants();
        assert_eq!(nodes.bucket_count(), 5000);
        assert_eq!(nodes.arena[ROOT].children, 5000);
        for (n, at) in (0..).zip(&added) {
            assert_eq!(nodes.child(ROOT, &label(n)), Some(*at));
            assert_eq!(nodes.child(EXACT, &label(n)), None);
        }
        for (n, at) in (0..).zip(&added) {
            assert_eq!(nodes.remove(*at), ROOT);
            assert_eq!(nodes.child(ROOT, &label(n)), None);
            if n % 997 == 0 {
                nodes.check_invariants();
            }
        }
        nodes.check_invariants();
        assert_eq!(nodes.bucket_count(), BUCKETS_MIN);
        assert!(nodes.heads.capacity() < 100);
        assert!(nodes.arena[ROOT].is_bare());
    }
}
