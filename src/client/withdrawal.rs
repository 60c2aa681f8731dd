//! Subscriptions and services that have been dropped, until the server has confirmed their end:
//! dropping one does not wait for that.
//!
//! If the connection breaks before the confirmation, the client repeats the operation on the next
//! one, if that resumes the session; otherwise the server has dropped everything already.

use super::subscribe::Interest;
use crate::proto::message::MessageType;

#[derive(Debug)]
struct Withdrawal {
    /// UNSUBSCRIBE or UNSERVE.
    kind: MessageType,
    interest: Interest,
    /// The operation's id; 0 until it is sent.
    id: u32,
}

#[derive(Debug, Default)]
pub(super) struct Withdrawals {
    open: Vec<Withdrawal>,
}

impl Withdrawals {
    /// `kind` is UNSUBSCRIBE or UNSERVE.
    pub(super) fn push(&mut self, kind: MessageType, interest: &Interest) {
        self.cancel(kind, interest);
        self.open.push(Withdrawal {
            kind,
            interest: interest.identity(),
            id: 0,
        });
    }

    /// The subscription or service is wanted again.
    pub(super) fn cancel(&mut self, kind: MessageType, interest: &Interest) {
        let is_it = |it: &Withdrawal| it.kind == kind && it.interest.is_same(interest);
        self.open.retain(|withdrawal| !is_it(withdrawal));
    }

    #[cfg(feature = "sim")]
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether it is not confirmed yet.
    pub(super) fn contains(&self, kind: MessageType, interest: &Interest) -> bool {
        let mut open = self.open.iter();
        open.any(|it| it.kind == kind && it.interest.is_same(interest))
    }

    /// The operations to be sent, under the ids that `number` returns, until it returns `None`.
    pub(super) fn unsent(
        &mut self,
        mut number: impl FnMut() -> Option<u32>,
    ) -> impl Iterator<Item = (u32, MessageType, &Interest)> {
        let unsent = self.open.iter_mut().filter(|withdrawal| withdrawal.id == 0);
        unsent.map_while(move |withdrawal| {
            withdrawal.id = number()?;
            Some((withdrawal.id, withdrawal.kind, &withdrawal.interest))
        })
    }

    /// OK or ERROR: either way the registration no longer exists. False if it is none of these.
    pub(super) fn finish(&mut self, id: u32) -> bool {
        let before = self.open.len();
        self.open.retain(|it| it.id == 0 || it.id != id);
        self.open.len() < before
    }

    /// The connection has ended: unconfirmed operations have to be repeated.
    pub(super) fn disconnect(&mut self) {
        for withdrawal in &mut self.open {
            withdrawal.id = 0;
        }
    }

    /// The server holds nothing any more.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Subscribe;

    #[test]
    fn unconfirmed_ends_are_repeated_unless_wanted_again() {
        let interest = |filter| Subscribe::new(filter).interest().unwrap();
        let mut withdrawals = Withdrawals::default();
        for filter in ["a", "b", "c"] {
            withdrawals.push(MessageType::Unsubscribe, &interest(filter));
        }
        withdrawals.cancel(MessageType::Unserve, &interest("a"));
        withdrawals.cancel(MessageType::Unsubscribe, &interest("c"));
        let mut last = 0;
        let mut send = |withdrawals: &mut Withdrawals| {
            let number = || {
                last += 1;
                (last != 5).then_some(last)
            };
            let unsent = withdrawals.unsent(number);
            unsent
                .map(|(id, _, it)| (id, it.name.clone()))
                .collect::<Vec<_>>()
        };
        let names = |first: u32| [(first, "a".to_owned()), (first + 1, "b".to_owned())];
        assert_eq!(send(&mut withdrawals), names(1));
        assert_eq!(send(&mut withdrawals), []);
        assert!(!withdrawals.finish(0) && withdrawals.open.len() == 2);
        withdrawals.disconnect();
        assert_eq!(send(&mut withdrawals), names(3));
        assert!(withdrawals.finish(3) && !withdrawals.finish(3));
        withdrawals.clear();
        assert!(!withdrawals.finish(4));
    }
}
