//! What the server keeps for its clients: sessions, wills, retained messages.

use super::Breach;
use crate::chaos::history::{
    Delivered, End, History, Kind, Label, Life, Published, Record, Time, Will,
};
use std::collections::{HashMap, HashSet};

/// How much later than the server a client may see that its connection broke, in microseconds.
const SLACK: Time = 5_000_000;

/// A session is there while its linger is not over.
pub fn sessions(history: &History, breaches: &mut Vec<Breach>) {
    for record in &history.records {
        for one in &record.unknown {
            let away = one.answered_at - one.lost_at;
            if away + SLACK < history.linger && !record.lives[one.life].is_revoked {
                let what = format!("its session was unknown after {away} us: {one:?}");
                breaches.push(Breach::new(record.client, None, what));
            }
        }
    }
}

/// The wills that may be in force when a life ends: `None` is none.
fn candidates(record: &Record, life: usize) -> Vec<Option<u32>> {
    let wills: Vec<&Will> = record.wills.iter().filter(|one| one.life == life).collect();
    let confirmed = wills.iter().rposition(|one| one.confirmed_at.is_some());
    let from = confirmed.unwrap_or(0);
    let mut candidates: Vec<_> = wills[from..].iter().map(|one| one.number).collect();
    if confirmed.is_none() {
        candidates.push(None);
    }
    candidates
}

fn label(record: &Record, number: u32) -> Label {
    let maker = record.client;
    Label { maker, number }
}

fn seen(history: &History) -> HashSet<Label> {
    let delivered = history.records.iter().flat_map(|record| &record.delivered);
    delivered.map(|one| one.label).collect()
}

/// Nobody's will is published who said CLOSE, whose session goes on, whom the end of the server
/// ended, or who had withdrawn it.
pub fn wills_of_who_closed(history: &History, breaches: &mut Vec<Breach>) {
    let seen = seen(history);
    for record in &history.records {
        for (number, life) in record.lives.iter().enumerate() {
            let of = record.wills.iter().filter(|one| one.life == number);
            let found: Vec<u32> = of
                .filter_map(|one| one.number)
                .filter(|&number| seen.contains(&label(record, number)))
                .collect();
            // Who was killed may have been ended before, and not have seen it.
            let stands = life.end == End::Open && history.is_whole(life);
            let mut tell = |what: &str| {
                let label = label(record, found[0]);
                breaches.push(Breach::new(record.client, label, what));
            };
            if found.is_empty() {
                continue;
            }
            if stands || matches!(life.end, End::Closed | End::Drained) {
                tell(
                    "a will was published, though its client was there, said CLOSE or was drained",
                );
            } else if found.len() > 1 {
                tell("two wills of one life were published");
            } else if !candidates(record, number).contains(&Some(found[0])) {
                tell("a will was published that was not in force any more");
            }
        }
    }
}

/// The will of who broke off without CLOSE is published, for sessions after their linger.
pub fn wills_of_who_broke_off(history: &History, breaches: &mut Vec<Breach>) {
    let seen = seen(history);
    for record in &history.records {
        for (number, life) in record.lives.iter().enumerate() {
            if !is_over(life) {
                continue;
            }
            let candidates = candidates(record, number);
            let is_seen = |one: &Option<u32>| {
                let one = one.map(|number| label(record, number));
                one.is_none_or(|label| seen.contains(&label))
            };
            if !candidates.iter().any(is_seen) && is_watched(history, record, number) {
                let label = candidates[0].map(|number| label(record, number));
                let what = format!("the will of life {number} was never published");
                breaches.push(Breach::new(record.client, label, what));
            }
        }
    }
}

/// Whether somebody has subscribed to a client's will since before that life began.
fn is_watched(history: &History, record: &Record, life: usize) -> bool {
    let topic = format!("will/{}", record.client);
    let mut connections = record.connections.iter();
    let Some(&(began_at, ..)) = connections.find(|(_, of, _)| *of == life) else {
        return false;
    };
    history.records.iter().any(|watcher| {
        watcher.standings.iter().any(|one| {
            let life = &watcher.lives[one.life];
            let stands = history.is_whole(life) && life.end == End::Open && one.left_at.is_none();
            let before = one.confirmed_at.is_some_and(|at| at <= began_at);
            stands && before && one.group.is_none() && one.suits(&topic)
        })
    })
}

/// Whether the server must take it for broken off: not if a CLOSE may have reached it, nor if
/// the right to publish was revoked.
fn is_over(life: &Life) -> bool {
    let broke_off = matches!(life.end, End::Lost | End::Told(_) | End::Unknown);
    broke_off && life.closing_at.is_none() && !life.is_revoked
}

/// At rest the retained message is a last one, and what each subscriber got last.
pub fn retained(history: &History, breaches: &mut Vec<Breach>) {
    let Some(retained) = &history.retained else {
        return;
    };
    let retained: HashMap<&str, Label> = retained.iter().map(|(t, l)| (&**t, *l)).collect();
    let mut topics: HashMap<&str, Vec<(Label, &Published)>> = HashMap::new();
    for (label, published) in history.publications() {
        if matches!(published.kind, Kind::Retained | Kind::Clear) && published.refused.is_none() {
            let of = topics.entry(&published.topic).or_default();
            of.push((label, published));
        }
    }
    for (topic, published) in &topics {
        let found = retained.get(topic).copied();
        is_a_last_one(topic, found, published, breaches);
        agrees(history, topic, found, breaches);
    }
}

/// Nothing was published for certain after what is retained, or was cleared, was confirmed.
fn is_a_last_one(
    topic: &str,
    found: Option<Label>,
    published: &[(Label, &Published)],
    breaches: &mut Vec<Breach>,
) {
    let certain = published
        .iter()
        .filter(|(_, one)| one.confirmed_at.is_some());
    let Some(&(last, one)) = certain.max_by_key(|(_, one)| one.asked_at) else {
        return;
    };
    // What may have taken effect as late as that, and leaves what was found.
    let mut leaves = published.iter().filter(|(label, published)| match found {
        Some(found) => *label == found,
        None => published.kind == Kind::Clear,
    });
    let may = |published: &Published| published.confirmed_at.is_none_or(|at| at >= one.asked_at);
    if !leaves.any(|(_, published)| may(published)) {
        let what = format!("{topic} has {found:?} retained, though {last:?} came later");
        breaches.push(Breach::new(last.maker, last, what));
    }
}

/// Each who still subscribes has been delivered what is retained, last.
fn agrees(history: &History, topic: &str, found: Option<Label>, breaches: &mut Vec<Breach>) {
    let is_clear = |label: Label| history.published(label).map(|one| one.kind) == Some(Kind::Clear);
    for record in &history.records {
        for standing in &record.standings {
            let life = &record.lives[standing.life];
            let stands = history.is_whole(life) && life.end == End::Open;
            let stands = stands && standing.left_at.is_none() && standing.group.is_none();
            let Some(confirmed_at) = standing.confirmed_at else {
                continue;
            };
            if !stands || !standing.suits(topic) {
                continue;
            }
            let of = |one: &&Delivered| {
                let is_since = one.at >= standing.asked_at[0];
                let kind = history.published(one.label).map(|one| one.kind);
                let is_retain = matches!(kind, Some(Kind::Retained | Kind::Clear));
                one.topic == topic && one.life == standing.life && is_since && is_retain
            };
            let last = record.delivered.iter().rfind(of);
            let agrees = match (last, found) {
                (Some(last), Some(found)) => last.label == found,
                // Before the OK it may be left of a subscription before.
                (Some(last), None) => is_clear(last.label) || last.at < confirmed_at,
                (None, found) => found.is_none(),
            };
            if !agrees {
                let last = last.map(|one| one.label);
                let what = format!("got {last:?} last on {topic}, but {found:?} is retained");
                breaches.push(Breach::new(record.client, last.or(found), what));
            }
        }
    }
}
