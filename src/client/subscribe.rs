//! What a client wants to be brought: a subscription, or the requests to a service.

use super::block::Block;
use super::error::Error;
use crate::proto::envelope::{Codec, Envelope, SlowPolicy, header};
use crate::proto::name::check_filter;

/// A subscription with more to it than its filter.
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

    /// Of all members of this filter and group, one gets each message; 1 to 64 bytes.
    pub fn group(mut self, group: &'a str) -> Subscribe<'a> {
        self.group = Some(group);
        self
    }

    /// What happens when this client does not keep up; the server's policy by default.
    pub fn slow_policy(mut self, policy: SlowPolicy) -> Subscribe<'a> {
        self.slow_policy = Some(policy);
        self
    }

    /// The codec wanted, where the server can translate; as published by default.
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

    /// The UNSUBSCRIBE: filter and group alone say which one is meant.
    pub(super) fn identity(&self) -> Result<Interest, Error> {
        Interest::new(self.filter, self.group)
    }
}

/// A service to answer for, with more to it than its name.
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
}

impl<'a> Serve<'a> {
    /// A service by its name, or all those that a filter matches.
    pub fn new(service: &'a str) -> Serve<'a> {
        Serve {
            service,
            group: None,
        }
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

/// A SUBSCRIBE or SERVE, owned, to be sent again on every new connection.
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
            headers.check()?;
        }
        Ok(Interest {
            name: name.to_owned(),
            group: group.map(str::to_owned),
            codec: Codec::Bytes,
            headers,
        })
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
            headers: self.headers.check().unwrap_or_default(), // `new` has checked it
            ..Envelope::default()
        }
    }
}
