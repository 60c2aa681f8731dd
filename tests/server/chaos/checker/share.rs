//! Groups: of all members one gets each message, and another only when that one has gone.

use super::Breach;
use crate::chaos::history::{End, History, Kind, Label, Life, Record, Standing, Time};
use std::collections::{BTreeSet, HashMap};

type Group<'a> = (&'a str, &'a str);

struct Member<'a> {
    record: &'a Record,
    standing: &'a Standing,
    life: &'a Life,
}

fn groups(history: &History) -> BTreeSet<Group<'_>> {
    let records = history.records.iter();
    let standings = records.flat_map(|record| &record.standings);
    let named = standings.filter_map(|one| Some((&*one.filter, one.group.as_deref()?)));
    named.collect()
}

fn members<'a>(history: &'a History, group: Group<'_>) -> Vec<Member<'a>> {
    let mut members = Vec::new();
    for record in &history.records {
        for standing in &record.standings {
            if (&*standing.filter, standing.group.as_deref()) == (group.0, Some(group.1)) {
                let life = &record.lives[standing.life];
                members.push(Member {
                    record,
                    standing,
                    life,
                });
            }
        }
    }
    members
}

impl Member<'_> {
    /// When it may have begun to leave. When a connection broke off is known to the server
    /// alone: its client may read for long what had come before that.
    fn leaving_at(&self) -> Time {
        let ended = match self.life.end {
            End::Drained => None,
            End::Closed => self.life.closing_at,
            _ => self.life.lost_at.map(|_| 0),
        };
        let left = self.standing.left_at.unwrap_or(Time::MAX);
        left.min(ended.unwrap_or(Time::MAX))
    }
}

/// Who got each message of a group's: when, the client, its life, when that began to leave.
fn takers(
    group: Group<'_>,
    members: &[Member<'_>],
) -> HashMap<Label, Vec<(Time, u16, usize, Time)>> {
    let mut takers: HashMap<Label, Vec<(Time, u16, usize, Time)>> = HashMap::new();
    let mut lives: HashMap<(u16, usize), (&Record, Time)> = HashMap::new();
    for member in members {
        // It may have left and come again: then it is a member until it left for good.
        let (client, life) = (member.record.client, member.standing.life);
        let leaving = member.leaving_at();
        let known = lives
            .entry((client, life))
            .or_insert((member.record, leaving));
        known.1 = known.1.min(leaving);
    }
    for ((client, life), (record, leaving)) in lives {
        let of = record.delivered.iter();
        let of = of.filter(|one| one.life == life);
        for one in of.filter(|one| crate::chaos::history::matches(group.0, &one.topic)) {
            let taker = (one.at, client, life, leaving);
            takers.entry(one.label).or_default().push(taker);
        }
    }
    for found in takers.values_mut() {
        found.sort_unstable();
    }
    takers
}

pub fn once(history: &History, breaches: &mut Vec<Breach>) {
    for group in groups(history) {
        let members = members(history, group);
        for (label, found) in takers(group, &members) {
            if history.published(label).is_none_or(|one| one.is_repeated) {
                continue;
            }
            for pair in found.windows(2) {
                let ((at, _, _, leaving), (again_at, client, _, then_leaving)) = (pair[0], pair[1]);
                // Handed on once the first had gone; or the second had gone, and takes late
                // what was on its way to it.
                if leaving > again_at && then_leaving > at {
                    let what = format!("{group:?}: {label:?} was taken by two: {found:?}");
                    breaches.push(Breach::new(client, label, what));
                }
            }
        }
    }
}

/// What was confirmed while a member stood that stands to the end has been taken by somebody.
pub fn nothing_lost(history: &History, breaches: &mut Vec<Breach>) {
    for group in groups(history) {
        let members = members(history, group);
        let takers = takers(group, &members);
        // Without a session, what its machine had taken is lost with a connection.
        let swallows = |member: &&Member<'_>| {
            !member.life.is_session && !matches!(member.life.end, End::Open | End::Closed)
        };
        let swallowed_until = members.iter().filter(swallows);
        let swallowed_until = swallowed_until
            .filter_map(|member| member.life.lost_at)
            .max();
        for (label, published) in history.publications() {
            let is_of = crate::chaos::history::matches(group.0, &published.topic);
            if !is_of || published.kind != Kind::Live || takers.contains_key(&label) {
                continue;
            }
            let Some(confirmed_at) = published.confirmed_at else {
                continue;
            };
            let stands = |member: &&Member<'_>| {
                let confirmed = member.standing.confirmed_at;
                history.is_whole(member.life)
                    && confirmed.is_some_and(|at| at <= published.asked_at)
                    && member.leaving_at() >= confirmed_at
                    && member.life.end == End::Open
                    && member.standing.left_at.is_none()
            };
            let may_be_lost = swallowed_until.is_some_and(|at| published.asked_at <= at);
            if let Some(member) = members.iter().find(stands).filter(|_| !may_be_lost) {
                let what = format!("{group:?}: {label:?} was taken by nobody");
                breaches.push(Breach::new(member.record.client, label, what));
            }
        }
    }
}
