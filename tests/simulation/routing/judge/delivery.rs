//! Plain subscriptions: unchanged bytes, in order, once, and no confirmed message lost.

use super::{Evidence, Verdict, Witness, suits};
use ringmail::proto::envelope::SlowPolicy;
use ringmail::ring::sim::client::ClientId;
use ringmail::ring::sim::client::traffic::{Delivered, Published, Registration};
use std::collections::{HashMap, HashSet};

impl Evidence {
    /// Every delivered message was published with exactly these bytes, and the receiver had
    /// subscribed to it.
    pub fn check_bytes(&self) -> Verdict {
        for receiver in &self.witnesses {
            for one in &receiver.record.delivered {
                let breach = |wrong: &str| Err(format!("to {:?}: {wrong}: {one:?}", receiver.id));
                let Some(published) = self.find(one) else {
                    return breach("never published");
                };
                let id_right = one.id == published.id || published.is_will;
                let right = one.topic == published.plan.topic && one.digest == published.digest;
                if !right || !id_right {
                    return breach("not as it was published");
                }
                if one.at <= published.sent_at || published.refused.is_some() {
                    return breach("not published then");
                }
                let asked = receiver.record.subscriptions.iter().any(|registration| {
                    registration.membership == one.membership
                        && suits(registration, &one.topic)
                        && registration.sent_at < one.at
                        // What a client repeats after a resume may stand already.
                        && (registration.refused.is_none() || registration.sent > 1)
                        && registration.left_confirmed_at.is_none_or(|at| {
                            // Messages that waited for a slow reader may come after the OK.
                            one.at <= at || published.sent_at < at
                        })
                });
                if !asked {
                    return breach("not subscribed");
                }
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, one: &Delivered) -> Option<&Published> {
        let sender = self.witness(one.label.sender)?;
        sender.record.published.get(one.label.number as usize)
    }

    /// Of the messages that one membership publishes on a topic, each subscriber gets each at most
    /// once and in order. A retained one may come again with each SUBSCRIBE.
    pub fn check_order(&self) -> Verdict {
        for receiver in &self.witnesses {
            let mut last = HashMap::new();
            let mut seen: HashMap<_, u32> = HashMap::new();
            for one in &receiver.record.delivered {
                let Some(published) = self.find(one) else {
                    continue;
                };
                let breach = |wrong: &str| Err(format!("to {:?}: {wrong}: {one:?}", receiver.id));
                let count = seen.entry((one.membership, one.label)).or_default();
                *count += 1;
                if *count > 1 {
                    let again = if published.plan.retain {
                        times_asked(receiver, one)
                    } else {
                        0
                    };
                    if *count > 1 + again {
                        return breach("delivered again");
                    }
                    continue;
                }
                if published.is_will || self.may_be_passed_on(receiver, one) {
                    continue;
                }
                let sender = (one.label.sender, published.membership, &one.topic);
                let before = last.insert((one.membership, sender), one.label.number);
                if let Some(before) = before.filter(|&before| before >= one.label.number) {
                    return breach(&format!("behind {before}"));
                }
            }
        }
        Ok(())
    }

    /// Whether the receiver is a member of a group that another member has left: a message first
    /// sent to that member may come late, after later ones.
    fn may_be_passed_on(&self, receiver: &Witness, one: &Delivered) -> bool {
        let registrations = receiver.record.subscriptions.iter();
        let mut by = registrations.filter(|registration| {
            registration.membership == one.membership && suits(registration, &one.topic)
        });
        by.any(|registration| {
            let of = |other: &&Registration| other.filter == registration.filter;
            let left = |witness: &Witness| {
                let mut members = witness.record.subscriptions.iter().filter(of);
                members.any(|member| {
                    let closing = witness.record.memberships[member.membership].closing_at;
                    let gone = closing.is_some_and(|at| at <= one.at);
                    member.left_at.is_some() || !witness.is_steady() || gone
                })
            };
            registration.filter.group.is_some() && self.witnesses.iter().any(left)
        })
    }

    /// Messages taken after a SUBSCRIBE was confirmed reach that subscriber: a whole membership
    /// gets all of them, a lost one all up to the last it received.
    pub fn check_plain(&self) -> Verdict {
        for receiver in &self.witnesses {
            let delivered: HashSet<_> = receiver
                .record
                .delivered
                .iter()
                .map(|one| (one.membership, one.label))
                .collect();
            for registration in &receiver.record.subscriptions {
                if !keeps_all(registration) {
                    continue;
                }
                for (sender, label, published) in self.published() {
                    if owes(receiver, registration, sender, label.number, published)
                        && receiver.accepts(published)
                        && !delivered.contains(&(registration.membership, label))
                    {
                        let to = receiver.id;
                        return Err(format!(
                            "to {to:?}: {label:?} never came: {published:?}, {registration:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// After a SUBSCRIBE's OK, the first message that one connection publishes on a topic is
    /// followed by all its later ones.
    pub fn check_holes(&self) -> Verdict {
        for receiver in &self.witnesses {
            for registration in &receiver.record.subscriptions {
                if registration.confirmed_at.is_none() || !keeps_all(registration) {
                    continue;
                }
                let (mut seen, mut last) = (HashSet::new(), HashMap::new());
                for (place, one) in receiver.record.delivered.iter().enumerate() {
                    let is_behind = place >= registration.received_before;
                    let is_left = registration.left_at.is_some_and(|at| at <= one.at);
                    let of = one.membership == registration.membership
                        && suits(registration, &one.topic);
                    // Retained messages may come again.
                    if is_left || !of || !seen.insert(one.label) || !is_behind {
                        continue;
                    }
                    let (Some(sender), Some(published)) =
                        (self.witness(one.label.sender), self.find(one))
                    else {
                        continue;
                    };
                    // Messages that waited for a subscription that has ended may still come.
                    let subscriptions = &mut receiver.record.subscriptions.iter();
                    let is_of_another = subscriptions.any(|other| {
                        let is_left = other.left_at.is_some_and(|at| published.sent_at <= at);
                        is_left && other.membership == one.membership && suits(other, &one.topic)
                    });
                    if is_of_another {
                        continue;
                    }
                    // Until the OK only what is retained is brought, the last of each topic; and as it is
                    // queued, the OK may overtake it.
                    let confirmed_at = registration.confirmed_at;
                    let may_be_retained = |one: &Published| {
                        one.plan.retain && confirmed_at.is_some_and(|at| one.sent_at <= at)
                    };
                    if may_be_retained(published) {
                        continue;
                    }
                    let line = (one.label.sender, published.connection, &one.topic);
                    let number = one.label.number;
                    let Some(before) = last.insert(line, number) else {
                        continue;
                    };
                    let missing = (before + 1..number)
                        .filter_map(|number| sender.record.published.get(number as usize))
                        .find(|other| {
                            is_between(other, published)
                                && !may_be_retained(other)
                                && receiver.accepts(other)
                                && !sender.may_be_refused(other)
                        });
                    if let Some(missing) = missing {
                        let to = receiver.id;
                        return Err(format!(
                            "to {to:?}: {before} and {one:?} came behind the OK of {registration:?}, \
                             not {missing:?} between them"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether this is a plain subscription whose policy drops nothing while its reader is slow.
pub(super) fn keeps_all(registration: &Registration) -> bool {
    let policy = registration.filter.policy;
    registration.filter.group.is_none() && matches!(policy, None | Some(SlowPolicy::Disconnect))
}

/// Whether a message was taken on the same topic and connection as a later one, and so has to reach
/// everyone that the later one reached.
fn is_between(one: &Published, later: &Published) -> bool {
    one.plan.topic == later.plan.topic
        && one.connection == later.connection
        && (one.sent, later.sent) == (1, 1)
        && !one.is_will
        && one.refused.is_none()
        && one.plan.expires_ms.is_none()
}

/// Whether a message has to have been delivered for this registration.
fn owes(
    receiver: &Witness,
    registration: &Registration,
    sender: &Witness,
    number: u32,
    published: &Published,
) -> bool {
    if published.plan.expires_ms.is_some() || !suits(registration, &published.plan.topic) {
        return false;
    }
    let Some(taken_at) = sender.taken_at(number) else {
        return false;
    };
    if !receiver.stood(registration, published.sent_at, taken_at) {
        return false;
    }
    receiver.is_whole(registration.membership)
        || receiver.was_drained(registration.membership)
        || last_of(receiver, registration, sender.id, published).is_some_and(|last| number < last)
}

/// How often the receiver sent a SUBSCRIBE that matches this message.
fn times_asked(receiver: &Witness, one: &Delivered) -> u32 {
    let registrations = receiver.record.subscriptions.iter();
    let asked = registrations.filter(|registration| {
        registration.membership == one.membership
            && suits(registration, &one.topic)
            && registration.sent_at < one.at
    });
    asked.map(|registration| registration.sent).sum()
}

/// Of the messages that one membership of a sender published on this topic, the number of the last
/// that the registration's membership received. Retained ones do not count: they tell nothing about
/// the order.
fn last_of(
    receiver: &Witness,
    registration: &Registration,
    sender: ClientId,
    published: &Published,
) -> Option<u32> {
    let of = receiver.record.delivered.iter().filter(|one| {
        one.membership == registration.membership
            && one.label.sender == sender
            && one.topic == published.plan.topic
            && !one.retain
    });
    of.map(|one| one.label.number).max()
}
