//! A failing run is made as small as it can be while it still fails for the same reason: without
//! features, faults and tiny limits, with fewer clients, acts and shards, in less time.
//!
//! What is left is printed as `RINGMAIL_ONLY`, which has the test run exactly that.

use super::swarm::Swarm;
use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// A run more takes a tenth of a second, a large one a few.
const RUNS_MAX: usize = 150;

/// What a seed's run is restricted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    pub shards: Option<usize>,
    /// The clients that take part, by their places in the load.
    pub clients: Option<Vec<usize>>,
    /// The most acts of each, beside its registrations.
    pub acts: Option<usize>,
    pub time_ms: Option<u64>,
    /// Names of `Swarm::names`.
    pub without: Vec<String>,
}

impl Only {
    /// What the environment asks for.
    pub fn from_env() -> Only {
        std::env::var("RINGMAIL_ONLY").map_or_else(|_| Only::default(), |text| Only::parse(&text))
    }

    /// # Panics
    /// If it is not what `Display` writes.
    pub fn parse(text: &str) -> Only {
        let mut only = Only::default();
        for part in text.split_whitespace() {
            let (name, value) = part.split_once('=').expect("name=value");
            let number = || value.parse().expect("a number");
            let all = || value.split(',').filter(|one| !one.is_empty());
            match name {
                "shards" => only.shards = Some(number()),
                "acts" => only.acts = Some(number()),
                "time" => only.time_ms = Some(number() as u64),
                "clients" => {
                    only.clients = Some(all().map(|one| one.parse().unwrap()).collect());
                }
                "without" => only.without = all().map(str::to_owned).collect(),
                _ => panic!("RINGMAIL_ONLY has no {name}"),
            }
        }
        only
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.shards.map(|count| format!("shards={count}")));
        parts.extend(self.clients.as_ref().map(|all| {
            let all: Vec<_> = all.iter().map(usize::to_string).collect();
            format!("clients={}", all.join(","))
        }));
        parts.extend(self.acts.map(|count| format!("acts={count}")));
        parts.extend(self.time_ms.map(|time| format!("time={time}")));
        if !self.without.is_empty() {
            parts.push(format!("without={}", self.without.join(",")));
        }
        f.write_str(&parts.join(" "))
    }
}

thread_local! {
    /// Panics of this thread are not printed.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

pub fn is_quiet() -> bool {
    IS_QUIET.get()
}

/// The reason why this fails, if it does, without the numbers in it.
pub fn reason<T>(run: impl FnOnce() -> T) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_quiet() {
                usual(info);
            }
        }));
    });
    let before = IS_QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(before);
    let cause = result.err()?;
    let text = cause.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
    let letters = text.unwrap_or("?").chars().filter(|one| !one.is_numeric());
    Some(letters.take(60).collect())
}

/// The smallest run that was found which still fails for this reason.
pub fn shrink(
    reason: &str,
    draw: impl Fn(&Only) -> Swarm,
    fails: impl Fn(&Only) -> Option<String>,
) -> Only {
    let mut only = Only::default();
    let mut runs = 0;
    loop {
        let all = smaller(&only, &draw(&only));
        let found = all.into_iter().find(|one| {
            runs += 1;
            runs <= RUNS_MAX && fails(one).as_deref() == Some(reason)
        });
        match found {
            Some(found) => only = found,
            None => return only,
        }
    }
}

/// What may be left out next, what leaves out most first.
fn smaller(only: &Only, swarm: &Swarm) -> Vec<Only> {
    let mut all = Vec::new();
    let with = |change: &dyn Fn(&mut Only)| {
        let mut one = only.clone();
        change(&mut one);
        one
    };
    let clients: Vec<usize> = match &only.clients {
        Some(clients) => clients.clone(),
        None => (0..swarm.measure.clients).collect(),
    };
    // The first two see and answer everything: they go last.
    let mut some = clients.len() / 2;
    while some > 0 {
        for from in (0..clients.len()).step_by(some).rev() {
            let mut left = clients.clone();
            left.drain(from..(from + some).min(clients.len()));
            all.push(with(&|one| one.clients = Some(left.clone())));
        }
        some /= 2;
    }
    let names = swarm.names();
    let names = names
        .iter()
        .filter(|&&name| !only.without.iter().any(|one| one == name));
    all.extend(names.map(|&name| with(&|one| one.without.push(name.to_owned()))));
    if swarm.shards > 1 {
        all.push(with(&|one| one.shards = Some(1)));
        all.push(with(&|one| one.shards = Some(swarm.shards - 1)));
    }
    let acts = only.acts.unwrap_or(swarm.measure.acts_max);
    if acts > 0 {
        all.push(with(&|one| one.acts = Some(acts / 2)));
        all.push(with(&|one| one.acts = Some(acts - 1)));
    }
    let time_ms = swarm.time.as_millis() as u64;
    if time_ms > 10 {
        all.push(with(&|one| one.time_ms = Some(time_ms / 2)));
    }
    all
}

#[test]
fn what_a_run_is_restricted_to_survives_its_text() {
    let only = Only {
        shards: Some(2),
        clients: Some(vec![0, 7]),
        acts: Some(3),
        time_ms: Some(50),
        without: vec!["wills".to_owned(), "late".to_owned()],
    };
    for one in [Only::default(), only] {
        assert_eq!(Only::parse(&one.to_string()), one);
    }
}
