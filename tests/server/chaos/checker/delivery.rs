//! Plain subscriptions: the same bytes, once, in order, nothing confirmed lost.

use super::Breach;
use crate::chaos::history::{
    Delivered, End, History, Kind, Label, Life, Published, Record, Standing, Time,
};
use std::collections::{HashMap, HashSet};

/// What is delivered was published, under that topic, and its receiver had asked for it.
pub fn as_published(history: &History, breaches: &mut Vec<Breach>) {
    for record in &history.records {
        for one in &record.delivered {
            let mut tell = |what: &str| breaches.push(Breach::new(record.client, one.label, what));
            let Some(published) = history.published(one.label) else {
                tell(&format!("nobody published {one:?}"));
                continue;
            };
            if published.topic != one.topic || published.asked_at > one.at {
                tell("delivered under another topic, or before it was published");
            }
            if published.refused.is_some() {
                tell("delivered, though it was refused");
            }
            if !has_asked(record, one, published) {
                tell("delivered to who had not subscribed, or had left before");
            }
        }
    }
}

fn has_asked(record: &Record, one: &Delivered, published: &Published) -> bool {
    record.standings.iter().any(|standing| {
        standing.life == one.life
            && standing.suits(&one.topic)
            && standing.asked_at[0] <= one.at
            // What waited for it is still delivered.
            && standing.left_confirmed_at.is_none_or(|left| published.asked_at <= left)
    })
}

/// One life gets each message once, and those of one life of a maker on one topic in order. A
/// retained one may come again with each SUBSCRIBE; one that a group hands on may be overtaken.
pub fn once_and_in_order(history: &History, breaches: &mut Vec<Breach>) {
    let left = first_left(history);
    for record in &history.records {
        let mut seen: HashMap<(usize, Label), usize> = HashMap::new();
        let mut last: HashMap<(usize, u16, usize, &str), u32> = HashMap::new();
        for one in &record.delivered {
            let Some(published) = history.published(one.label) else {
                continue;
            };
            let count = seen.entry((one.life, one.label)).or_default();
            *count += 1;
            if *count > 1 {
                let may = match published.kind {
                    Kind::Retained => 1 + times_asked(record, one),
                    _ if published.is_repeated => 2,
                    _ => 1,
                };
                if *count > may {
                    let what = format!("delivered {count} times, at {} again", one.at);
                    breaches.push(Breach::new(record.client, one.label, what));
                }
                continue;
            }
            if published.kind == Kind::Will || may_be_handed_on(record, one, &left) {
                continue;
            }
            let line = (one.life, one.label.maker, published.life, &*one.topic);
            let before = last.insert(line, one.label.number);
            if let Some(before) = before.filter(|&before| before > one.label.number) {
                let what = format!("delivered behind number {before}");
                breaches.push(Breach::new(record.client, one.label, what));
            }
        }
    }
}

fn times_asked(record: &Record, one: &Delivered) -> usize {
    let of = record.standings.iter();
    let of = of.filter(|standing| standing.life == one.life && standing.suits(&one.topic));
    of.flat_map(|standing| &standing.asked_at)
        .filter(|&&at| at <= one.at)
        .count()
}

type Group<'a> = (&'a str, &'a str);

/// When somebody first left each group, or may have: when a connection broke is known only to
/// the server, so one that did may have broken at any time.
fn first_left(history: &History) -> HashMap<Group<'_>, Time> {
    let mut left: HashMap<Group<'_>, Time> = HashMap::new();
    for record in &history.records {
        for one in &record.standings {
            let Some(group) = &one.group else {
                continue;
            };
            let life = &record.lives[one.life];
            let connections = record
                .connections
                .iter()
                .filter(|(_, of, _)| *of == one.life);
            let at = match connections.count() > 1 || is_broken_off(life) {
                true => 0,
                false => one.left_at.or(life.closing_at).unwrap_or(Time::MAX),
            };
            let first = left.entry((&one.filter, group)).or_insert(at);
            *first = at.min(*first);
        }
    }
    left
}

fn is_broken_off(life: &Life) -> bool {
    life.lost_at.is_some() && life.end != End::Closed
}

fn may_be_handed_on(record: &Record, one: &Delivered, left: &HashMap<Group<'_>, Time>) -> bool {
    record.standings.iter().any(|standing| {
        let Some(group) = &standing.group else {
            return false;
        };
        let is_it = standing.life == one.life && standing.suits(&one.topic);
        is_it && left[&(&*standing.filter, &**group)] <= one.at
    })
}

/// What was confirmed after a SUBSCRIBE was reaches that subscriber.
pub fn nothing_lost(history: &History, breaches: &mut Vec<Breach>) {
    let mut topics: HashMap<&str, Vec<(Label, &Published)>> = HashMap::new();
    for (label, published) in history.publications() {
        if published.kind != Kind::Will && published.refused.is_none() && published.sent > 0 {
            let of = topics.entry(&published.topic).or_default();
            of.push((label, published));
        }
    }
    for record in &history.records {
        let had: HashSet<(usize, Label)> = {
            let delivered = record.delivered.iter();
            delivered.map(|one| (one.life, one.label)).collect()
        };
        for standing in record.standings.iter().filter(|one| one.group.is_none()) {
            let last = last_by_line(history, record, standing);
            for (topic, published) in &topics {
                if !standing.suits(topic) {
                    continue;
                }
                for &(label, published) in published {
                    if is_owed(history, record, standing, (label, published), &last)
                        && !had.contains(&(standing.life, label))
                    {
                        let what = format!("never got {label:?} on {topic}");
                        breaches.push(Breach::new(record.client, label, what));
                    }
                }
            }
        }
    }
}

type Line<'a> = (u16, usize, &'a str);

/// The last number that came of each maker's life on each topic while this stood.
fn last_by_line<'a>(
    history: &'a History,
    record: &'a Record,
    standing: &Standing,
) -> HashMap<Line<'a>, u32> {
    let until = standing.left_at.unwrap_or(Time::MAX);
    let mut last = HashMap::new();
    for one in &record.delivered {
        if one.life != standing.life || one.at > until || !standing.suits(&one.topic) {
            continue;
        }
        let Some(published) = history.published(one.label) else {
            continue;
        };
        // What was retained comes with SUBSCRIBE too: that says nothing of what came before.
        if published.kind == Kind::Live {
            let line = (one.label.maker, published.life, &*one.topic);
            let number = last.entry(line).or_insert(one.label.number);
            *number = one.label.number.max(*number);
        }
    }
    last
}

fn is_owed(
    history: &History,
    record: &Record,
    standing: &Standing,
    (label, published): (Label, &Published),
    last: &HashMap<Line<'_>, u32>,
) -> bool {
    let life = &record.lives[standing.life];
    let stood = standing
        .confirmed_at
        .is_some_and(|at| at <= published.asked_at);
    if !stood {
        return false;
    }
    let until = history.stood_until(life, standing);
    let confirmed = published.confirmed_at;
    if history.is_whole(life) && confirmed.is_some_and(|at| at <= until) {
        return true;
    }
    // On one connection, what came before was read before.
    let maker = &history.records[usize::from(label.maker)];
    let was_read = confirmed.is_some() || !maker.lives[published.life].is_session;
    let line = (label.maker, published.life, &*published.topic);
    published.kind == Kind::Live
        && was_read
        && last.get(&line).is_some_and(|&last| label.number < last)
}
