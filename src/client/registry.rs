//! What the server holds for this client (subscriptions, services, the will), to be restored
//! when a new connection or a new session starts from nothing.
//!
//! Entries are added when the server has confirmed the operation, and removed when it has confirmed
//! the end, whether or not a caller still waits for that.

use super::subscribe::Interest;
use crate::proto::envelope::Envelope;
use crate::proto::kind::{self, Class, MessageType};

/// What an operation changes, once it is confirmed.
#[derive(Clone, Debug)]
pub(super) enum Change {
    None,
    Interest(Interest),
    /// The will's encoded envelope; `None`: it is withdrawn.
    Will(Option<Box<[u8]>>),
}

impl Change {
    /// Whether both are about the same subscription or service.
    pub(super) fn is_about(&self, interest: &Interest) -> bool {
        matches!(self, Change::Interest(changed) if changed.is_same(interest))
    }

    pub(super) fn will(envelope: &Envelope<'_>) -> Change {
        Change::Will(Some(envelope.to_body()))
    }
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    subscriptions: Vec<Interest>,
    services: Vec<Interest>,
    /// The encoded envelope.
    will: Option<Box<[u8]>>,
}

impl Registry {
    pub(super) fn serves(&self) -> bool {
        !self.services.is_empty()
    }

    /// Whether this one is registered; `kind` is SUBSCRIBE or SERVE.
    pub(super) fn contains(&self, kind: MessageType, interest: &Interest) -> bool {
        let list = if kind == MessageType::Serve {
            &self.services
        } else {
            &self.subscriptions
        };
        list.iter().any(|stands| stands.is_same(interest))
    }

    /// An operation was confirmed.
    pub(super) fn note(&mut self, kind: MessageType, change: Change) {
        let interest = match change {
            Change::None => return,
            Change::Will(body) => {
                self.will = body;
                return;
            }
            Change::Interest(interest) => interest,
        };
        let Class::Change(operation) = kind.class() else {
            return;
        };
        let (list, add) = match operation {
            kind::Change::Subscribe => (&mut self.subscriptions, true),
            kind::Change::Unsubscribe => (&mut self.subscriptions, false),
            kind::Change::Serve => (&mut self.services, true),
            kind::Change::Unserve => (&mut self.services, false),
            kind::Change::Will => return,
        };
        list.retain(|old| !old.is_same(&interest));
        if add {
            list.push(interest);
        }
    }

    /// Whether what this operation requested is still wanted.
    pub(super) fn wants(&self, kind: MessageType, operation: &Envelope<'_>) -> bool {
        let is_it = |old: &Interest| is_asked_by(old, operation.name, operation.headers.as_bytes());
        if kind == MessageType::Will {
            self.will.is_some()
        } else if kind == MessageType::Serve {
            self.services.iter().any(is_it)
        } else {
            kind == MessageType::Subscribe && self.subscriptions.iter().any(is_it)
        }
    }

    /// The server refused to restore this one: it is not requested again.
    pub(super) fn forget(&mut self, kind: MessageType, name: &str, headers: &[u8]) {
        let is_other = |old: &Interest| !is_asked_by(old, name, headers);
        let Class::Change(operation) = kind.class() else {
            return;
        };
        match operation {
            kind::Change::Subscribe => self.subscriptions.retain(is_other),
            kind::Change::Serve => self.services.retain(is_other),
            kind::Change::Will => self.will = None,
            // Nothing of them is restored.
            kind::Change::Unsubscribe | kind::Change::Unserve => {}
        }
    }

    /// Everything, encoded for sending, under ids of the caller.
    pub(super) fn operations(&self) -> impl Iterator<Item = (MessageType, Envelope<'_>)> {
        let subscribe = |interest| (MessageType::Subscribe, Interest::envelope(interest, 0));
        let serve = |interest| (MessageType::Serve, Interest::envelope(interest, 0));
        let will = self.will.as_deref();
        let will = will.and_then(|body| Envelope::parse(MessageType::Will, body).ok());
        let subscriptions = self.subscriptions.iter().map(subscribe);
        subscriptions
            .chain(self.services.iter().map(serve))
            .chain(will.map(|envelope| (MessageType::Will, envelope)))
    }
}

fn is_asked_by(interest: &Interest, name: &str, headers: &[u8]) -> bool {
    let envelope = interest.envelope(0);
    envelope.name == name && envelope.headers.as_bytes() == headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Serve, SlowPolicy, Subscribe};

    fn interest(subscribe: &Subscribe<'_>) -> Change {
        Change::Interest(subscribe.interest().unwrap())
    }

    fn names(registry: &Registry) -> Vec<(MessageType, String)> {
        let operations = registry.operations();
        operations
            .map(|(kind, envelope)| (kind, envelope.name.to_owned()))
            .collect()
    }

    #[test]
    fn ended_registrations_are_not_restored_and_repeated_ones_restored_once() {
        let mut registry = Registry::default();
        let plain = Subscribe::new("a/#");
        let member = Subscribe::new("a/#").group("g");
        let policy = Subscribe::new("a/#").slow_policy(SlowPolicy::DropOldest);
        for subscribe in [&plain, &member, &policy] {
            registry.note(MessageType::Subscribe, interest(subscribe));
        }
        let service = Change::Interest(Serve::new("s").interest().unwrap());
        registry.note(MessageType::Serve, service.clone());
        assert_eq!(registry.operations().count(), 3);
        let restored: Vec<_> = registry.operations().collect();
        assert_eq!(restored[0].1.headers.find(4), Some(&b"g"[..]));
        let asked = restored[1].1.headers.slow_policy();
        assert_eq!(asked, Some(SlowPolicy::DropOldest), "the later one counts");

        let plain = Change::Interest(plain.identity().unwrap());
        registry.note(MessageType::Unsubscribe, plain);
        registry.note(MessageType::Unserve, service);
        assert!(!registry.serves());
        assert_eq!(
            names(&registry),
            [(MessageType::Subscribe, "a/#".to_owned())]
        );
    }

    #[test]
    fn only_a_registration_refused_on_restore_is_forgotten() {
        let mut registry = Registry::default();
        let member = Subscribe::new("a").group("g").interest().unwrap();
        registry.note(MessageType::Subscribe, interest(&Subscribe::new("a")));
        registry.note(MessageType::Subscribe, Change::Interest(member.clone()));
        let headers = member.envelope(0).headers.as_bytes().to_vec();
        registry.forget(MessageType::Subscribe, "a", &headers);
        let left: Vec<_> = registry.operations().collect();
        assert_eq!(left.len(), 1);
        assert!(left[0].1.headers.is_empty());
    }
}
