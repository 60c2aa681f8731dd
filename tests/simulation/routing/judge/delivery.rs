//! Plain subscriptions: the same bytes, in order, once, nothing confirmed lost.

use super::{Evidence, Verdict, Witness, suits};
use ringmail::proto::envelope::SlowPolicy;
use ringmail::ring::sim::client::ClientId;
use ringmail::ring::sim::client::traffic::{Delivered, Published, Standing};
use std::collections::{HashMap, HashSet};

impl Evidence {
    /// What is delivered was published, just so, and the receiver had asked for it.
    pub fn check_bytes(&self) -> Verdict {
        for receiver in &self.witnesses {
            for one in &receiver.record.delivered {
                let told = |wrong: &str| Err(format!("to {:?}: {wrong}: {one:?}", receiver.id));
                let Some(published) = self.find(one) else {
                    return told("never published");
                };
                let id_right = one.id == published.id || published.is_will;
                let right = one.topic == published.plan.topic && one.digest == published.digest;
                if !right || !id_right {
                    return told("not as it was published");
                }
                if one.at <= published.sent_at || published.refused.is_some() {
                    return told("not published then");
                }
                let asked = receiver.record.subscriptions.iter().any(|standing| {
                    standing.membership == one.membership
                        && suits(standing, &one.topic)
                        && standing.asked_at < one.at
                        && standing.refused.is_none()
                        && standing.left_confirmed_at.is_none_or(|at| {
                            // What waited for a slow reader may come behind the OK.
                            one.at <= at || published.sent_at < at
                        })
                });
                if !asked {
                    return told("not subscribed");
                }
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, one: &Delivered) -> Option<&Published> {
        let maker = self.witness(one.label.maker)?;
        maker.record.published.get(one.label.number as usize)
    }

    /// Of what one membership publishes on a topic, each subscriber gets each message at
    /// most once and in order. A retained one may come again with each SUBSCRIBE.
    pub fn check_order(&self) -> Verdict {
        for receiver in &self.witnesses {
            let mut last = HashMap::new();
            let mut seen: HashMap<_, u32> = HashMap::new();
            for one in &receiver.record.delivered {
                let Some(published) = self.find(one) else {
                    continue;
                };
                let told = |wrong: &str| Err(format!("to {:?}: {wrong}: {one:?}", receiver.id));
                let count = seen.entry((one.membership, one.label)).or_default();
                *count += 1;
                if *count > 1 {
                    let again = if published.plan.retain {
                        times_asked(receiver, one)
                    } else {
                        0
                    };
                    if *count > 1 + again {
                        return told("delivered again");
                    }
                    continue;
                }
                if published.is_will || self.may_be_passed_on(receiver, one) {
                    continue;
                }
                let maker = (one.label.maker, published.membership, &one.topic);
                let before = last.insert((one.membership, maker), one.label.number);
                if let Some(before) = before.filter(|&before| before >= one.label.number) {
                    return told(&format!("behind {before}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a message came to a member of a group that others have left: one that had
    /// been sent to them may come late, and has been overtaken then.
    fn may_be_passed_on(&self, receiver: &Witness, one: &Delivered) -> bool {
        let standings = receiver.record.subscriptions.iter();
        let mut by = standings.filter(|standing| {
            standing.membership == one.membership && suits(standing, &one.topic)
        });
        by.any(|standing| {
            let of = |other: &&Standing| other.filter == standing.filter;
            let left = |witness: &Witness| {
                let mut members = witness.record.subscriptions.iter().filter(of);
                members.any(|member| {
                    let closing = witness.record.memberships[member.membership].closing_at;
                    let gone = closing.is_some_and(|at| at <= one.at);
                    member.left_at.is_some() || !witness.is_steady() || gone
                })
            };
            standing.filter.group.is_some() && self.witnesses.iter().any(left)
        })
    }

    /// What was taken after a SUBSCRIBE was confirmed reaches that subscriber: whole
    /// memberships to the last, lost ones without a gap before the last that came.
    pub fn check_plain(&self) -> Verdict {
        for receiver in &self.witnesses {
            let delivered: HashSet<_> = receiver
                .record
                .delivered
                .iter()
                .map(|one| (one.membership, one.label))
                .collect();
            for standing in &receiver.record.subscriptions {
                if !keeps_all(standing) {
                    continue;
                }
                for (maker, label, published) in self.published() {
                    if owes(receiver, standing, maker, label.number, published)
                        && !delivered.contains(&(standing.membership, label))
                    {
                        let to = receiver.id;
                        return Err(format!(
                            "to {to:?}: {label:?} never came: {published:?}, {standing:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// What comes first behind a SUBSCRIBE's OK, of what one connection publishes on a topic,
    /// is followed by all the rest.
    pub fn check_holes(&self) -> Verdict {
        for receiver in &self.witnesses {
            for standing in &receiver.record.subscriptions {
                if standing.confirmed_at.is_none() || !keeps_all(standing) {
                    continue;
                }
                let (mut seen, mut last) = (HashSet::new(), HashMap::new());
                for (place, one) in receiver.record.delivered.iter().enumerate() {
                    let is_behind = place >= standing.received_before;
                    let is_left = standing.left_at.is_some_and(|at| at <= one.at);
                    let of = one.membership == standing.membership && suits(standing, &one.topic);
                    // What was retained may come again.
                    if is_left || !of || !seen.insert(one.label) || !is_behind {
                        continue;
                    }
                    let (Some(maker), Some(published)) =
                        (self.witness(one.label.maker), self.find(one))
                    else {
                        continue;
                    };
                    // What waited for a subscription that was left still comes.
                    let subscriptions = &mut receiver.record.subscriptions.iter();
                    let is_of_another = subscriptions.any(|other| {
                        let is_left = other.left_at.is_some_and(|at| published.sent_at <= at);
                        is_left && other.membership == one.membership && suits(other, &one.topic)
                    });
                    if is_of_another {
                        continue;
                    }
                    let line = (one.label.maker, published.connection, &one.topic);
                    let number = one.label.number;
                    let Some(before) = last.insert(line, number) else {
                        continue;
                    };
                    let missing = (before + 1..number)
                        .filter_map(|number| maker.record.published.get(number as usize))
                        .find(|other| is_between(other, published));
                    if let Some(missing) = missing {
                        let to = receiver.id;
                        return Err(format!(
                            "to {to:?}: {before} and {one:?} came behind the OK of {standing:?}, \
                             not {missing:?} between them"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A plain subscription of which nothing is dropped while its reader is slow.
pub(super) fn keeps_all(standing: &Standing) -> bool {
    let policy = standing.filter.policy;
    standing.filter.group.is_none() && matches!(policy, None | Some(SlowPolicy::Disconnect))
}

/// Whether a message was taken on the same topic and connection as a later one, and has to
/// reach whom that reached.
fn is_between(one: &Published, later: &Published) -> bool {
    one.plan.topic == later.plan.topic
        && one.connection == later.connection
        && (one.sent, later.sent) == (1, 1)
        && !one.is_will
        && one.refused.is_none()
        && one.plan.expires_ms.is_none()
}

/// Whether a message has to have been delivered for this standing.
fn owes(
    receiver: &Witness,
    standing: &Standing,
    maker: &Witness,
    number: u32,
    published: &Published,
) -> bool {
    if published.plan.expires_ms.is_some() || !suits(standing, &published.plan.topic) {
        return false;
    }
    let Some(taken_at) = maker.taken_at(number) else {
        return false;
    };
    if !receiver.stood(standing, published.sent_at, taken_at) {
        return false;
    }
    receiver.is_whole(standing.membership)
        || last_of(receiver, standing, maker.id, published).is_some_and(|last| number < last)
}

/// How often the receiver sent a SUBSCRIBE that this message suits.
fn times_asked(receiver: &Witness, one: &Delivered) -> u32 {
    let standings = receiver.record.subscriptions.iter();
    let asked = standings.filter(|standing| {
        standing.membership == one.membership
            && suits(standing, &one.topic)
            && standing.asked_at < one.at
    });
    asked.map(|standing| standing.asked).sum()
}

/// The last number that came to a standing's membership of what one membership of a maker
/// published on this topic. What was retained says nothing of the order.
fn last_of(
    receiver: &Witness,
    standing: &Standing,
    maker: ClientId,
    published: &Published,
) -> Option<u32> {
    let of = receiver.record.delivered.iter().filter(|one| {
        one.membership == standing.membership
            && one.label.maker == maker
            && one.topic == published.plan.topic
            && !one.retain
    });
    of.map(|one| one.label.number).max()
}
