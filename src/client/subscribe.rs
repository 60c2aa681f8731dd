//! What a client asks the server to send it: a subscription, or the requests to a service.

use super::block::Block;
use super::error::Error;
use crate::proto::envelope::{Codec, Envelope, SlowPolicy, header};
use crate::proto::message::MessageType;
use crate::proto::name::check_filter;

/// A subscription with more than its filter.
///
/// ```
/// use ringmail::client::{SlowPolicy, Subscribe};
///
/// // One of all workers of this group gets each message.
/// let jobs = Subscribe::new("jobs/#").group("workers");
/// // A display wants the newest reading of each sensor, not all of them.
/// let readings = Subscribe::new("site/+/temperature").slow_policy(SlowPolicy::LatestPerKey);
/// # let _ = (jobs, readings);
/// ```
#[derive(Clone, Debug)]
pub struct Subscribe<'a> {
    filter: &'a str,
    group: Option<&'a str>,
    slow_policy: Option<SlowPolicy>,
    codec: Codec,
}

impl<'a> Subscribe<'a> {
    /// All messages whose topic `filter` matches.
    pub fn new(filter: &'a str) -> Subscribe<'a> {
        Subscribe {
            filter,
            group: None,
            slow_policy: None,
            codec: Codec::Bytes,
        }
    }

    /// Joins a group: each message goes to one of the members of this filter and group; 1 to 64
    /// bytes.
    pub fn group(mut self, group: &'a str) -> Subscribe<'a> {
        self.group = Some(group);
        self
    }

    /// What happens when this client does not keep up; by default the server's policy.
    pub fn slow_policy(mut self, policy: SlowPolicy) -> Subscribe<'a> {
        self.slow_policy = Some(policy);
        self
    }

    /// The codec to receive payloads in, where the server can translate; by default as
    /// published.
    pub fn codec(mut self, codec: Codec) -> Subscribe<'a> {
        self.codec = codec;
        self
    }

    /// The SUBSCRIBE, without its id.
    pub(super) fn interest(&self) -> Result<Interest, Error> {
        let mut interest = Interest::new(self.filter, self.group)?;
        interest.codec = self.codec;
        if let Some(policy) = self.slow_policy {
            interest.headers.push(header::SLOW_POLICY, &[policy as u8]);
        }
        Ok(interest)
    }

    /// The UNSUBSCRIBE, identified by filter and group alone.
    pub(super) fn identity(&self) -> Result<Interest, Error> {
        Interest::new(self.filter, self.group)
    }
}

/// A service to serve, with more than its name.
///
/// ```
/// use ringmail::client::Serve;
///
/// let forecasts = Serve::new("site/+/forecast").group("model-b");
/// # let _ = forecasts;
/// ```
#[derive(Clone, Debug)]
pub struct Serve<'a> {
    service: &'a str,
    group: Option<&'a str>,
    pub(super) concurrency_max: usize,
}

impl<'a> Serve<'a> {
    /// A service by its name, or all those that a filter matches.
    pub fn new(service: &'a str) -> Serve<'a> {
        Serve {
            service,
            group: None,
            concurrency_max: 64,
        }
    }

    /// How many requests [`Client::serve`](super::Client::serve) handles at once, at least one;
    /// 64 by default. Further requests wait.
    pub fn concurrency_max(mut self, count: usize) -> Serve<'a> {
        self.concurrency_max = count.clamp(1, 1 << 20);
        self
    }

    /// The GROUP header of the SERVE; 1 to 64 bytes.
    pub fn group(mut self, group: &'a str) -> Serve<'a> {
        self.group = Some(group);
        self
    }

    pub(super) fn interest(&self) -> Result<Interest, Error> {
        Interest::new(self.service, self.group)
    }
}

/// A SUBSCRIBE or SERVE, owned, to be repeated on every new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) name: String,
    pub(super) group: Option<String>,
    pub(super) codec: Codec,
    headers: Block,
}

impl Interest {
    fn new(name: &str, group: Option<&str>) -> Result<Interest, Error> {
        check_filter(name).map_err(|refusal| Error::invalid(format!("{name:?}: {refusal}")))?;
        let mut headers = Block::default();
        if let Some(group) = group {
            headers.push(header::GROUP, group.as_bytes());
            headers.check(MessageType::Subscribe)?;
        }
        Ok(Interest {
            name: name.to_owned(),
            group: group.map(str::to_owned),
            codec: Codec::Bytes,
            headers,
        })
    }

    /// Name and group alone, which identify what to end.
    pub(super) fn identity(&self) -> Interest {
        Interest::new(&self.name, self.group.as_deref()).unwrap_or_else(|_| self.clone())
    }

    /// Whether the two can stand on one connection. The server sends each message once and
    /// does not say for which filter: of a group's it could not be told whether it was meant.
    ///
    /// # Errors
    /// `Invalid`, with what to do.
    pub(super) fn check_beside<'a>(
        &self,
        mut others: impl Iterator<Item = &'a Interest>,
    ) -> Result<(), Error> {
        let is_in_doubt = |other: &&Interest| {
            (self.group.is_some() || other.group.is_some())
                && !self.is_same(other)
                && overlap(&self.name, &other.name)
        };
        match others.find(is_in_doubt) {
            None => Ok(()),
            Some(other) => Err(Error::invalid(format!(
                "{:?} overlaps with this client's subscription to {:?}, and one of them is in a \
                 group; use a connection for each",
                self.name, other.name
            ))),
        }
    }

    /// Whether both are about the same name and group.
    pub(super) fn is_same(&self, other: &Interest) -> bool {
        self.name == other.name && self.group == other.group
    }

    pub(super) fn envelope(&self, id: u32) -> Envelope<'_> {
        Envelope {
            id,
            codec: self.codec,
            name: &self.name,
            // `new` has checked it.
            headers: (self.headers.check(MessageType::Subscribe)).unwrap_or_default(),
            ..Envelope::default()
        }
    }
}

/// Whether there is a topic that both filters match.
fn overlap(one: &str, other: &str) -> bool {
    let begins_wild = |filter: &str| filter.starts_with(['+', '#']);
    if (begins_wild(one) && other.starts_with('$')) || (begins_wild(other) && one.starts_with('$'))
    {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_overlap_where_a_topic_matches_both() {
        for (one, other, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "+/b", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "$sys/x", false),
            ("+/x", "$sys/x", false),
            ("a/b", "a", false),
            ("a/+", "b/+", false),
            ("a/+/c", "a/b/d", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_group_may_not_overlap_with_other_filters() {
        let interest = |subscribe: Subscribe<'_>| subscribe.interest().unwrap();
        let plain = interest(Subscribe::new("a/#"));
        let member = interest(Subscribe::new("a/b").group("g"));
        let elsewhere = interest(Subscribe::new("b").group("g"));
        let error = member.check_beside([&plain].into_iter()).unwrap_err();
        assert!(error.to_string().contains("a/#"), "{error}");
        assert!(plain.check_beside([&member].into_iter()).is_err());
        assert!(plain.check_beside([&elsewhere, &plain].into_iter()).is_ok());
        assert!(member.check_beside([&member].into_iter()).is_ok());
    }
}
