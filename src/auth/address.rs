//! Addresses: which may connect, and which count as one.
//!
//! An IPv4 address written as IPv6 (`::ffff:192.0.2.1`, as a dual-stack socket reports it) counts
//! as an IPv4 address, in lists and in counts.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;

/// The configuration's `[access]`: `deny` wins; an empty `allow` admits everyone else.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    allow: Blocks,
    deny: Blocks,
}

/// Something in `allow` or `deny` that is not a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "access.{list} has {block:?}, which is not an address block (CIDR); write it like \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.7\""
)]
pub struct BlockError {
    pub list: &'static str,
    pub block: String,
}

impl AccessList {
    /// Blocks in CIDR notation, or single addresses.
    ///
    /// # Errors
    /// The first that is neither.
    pub fn new(
        allow: &[impl AsRef<str>],
        deny: &[impl AsRef<str>],
    ) -> Result<AccessList, BlockError> {
        Ok(AccessList {
            allow: Blocks::new("allow", allow)?,
            deny: Blocks::new("deny", deny)?,
        })
    }

    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !self.deny.contain(address) && (self.allow.is_empty() || self.allow.contain(address))
    }
}

/// Disjoint and sorted, so that one search finds the only block that may contain an address.
#[derive(Clone, Debug, Default)]
struct Blocks {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Blocks {
    fn new(list: &'static str, texts: &[impl AsRef<str>]) -> Result<Blocks, BlockError> {
        let mut blocks = Blocks::default();
        for text in texts {
            let text = text.as_ref();
            match parse(text) {
                Some(IpNet::V4(block)) => blocks.v4.push(block),
                Some(IpNet::V6(block)) => blocks.v6.push(block),
                None => {
                    return Err(BlockError {
                        list,
                        block: text.to_owned(),
                    });
                }
            }
        }
        blocks.v4 = Ipv4Net::aggregate(&blocks.v4);
        blocks.v4.sort_unstable();
        blocks.v6 = Ipv6Net::aggregate(&blocks.v6);
        blocks.v6.sort_unstable();
        Ok(blocks)
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let after = self.v4.partition_point(|block| block.network() <= address);
                let last = after.checked_sub(1).and_then(|last| self.v4.get(last));
                last.is_some_and(|block| block.contains(&address))
            }
            IpAddr::V6(address) => {
                let after = self.v6.partition_point(|block| block.network() <= address);
                let last = after.checked_sub(1).and_then(|last| self.v6.get(last));
                last.is_some_and(|block| block.contains(&address))
            }
        }
    }
}

/// Bits before the IPv4 address in its IPv6 form.
const MAPPED_BITS: u8 = 96;

fn parse(text: &str) -> Option<IpNet> {
    let block = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .ok()?;
    if let IpNet::V6(mapped) = block
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Some(bits) = mapped.prefix_len().checked_sub(MAPPED_BITS)
    {
        return Ipv4Net::new(address, bits)
            .ok()
            .map(|net| IpNet::V4(net.trunc()));
    }
    Some(block.trunc())
}

/// What counts as one address: an IPv4 address, or an IPv6 host's /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prefix {
    V4(u32),
    V6(u64),
}

impl Prefix {
    pub fn of(address: IpAddr) -> Prefix {
        match address.to_canonical() {
            IpAddr::V4(address) => Prefix::V4(address.to_bits()),
            IpAddr::V6(address) => Prefix::V6((address.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn list(allow: &[&str], deny: &[&str]) -> AccessList {
        AccessList::new(allow, deny).expect("blocks")
    }

    #[test]
    fn an_empty_list_admits_everyone_and_deny_wins() {
        assert!(list(&[], &[]).admits(ip("203.0.113.9")));
        let list = list(&["10.0.0.0/8", "2001:db8::/32"], &["10.1.0.0/16"]);
        assert!(list.admits(ip("10.0.0.1")));
        assert!(!list.admits(ip("10.1.2.3")));
        assert!(!list.admits(ip("192.0.2.1")));
        assert!(list.admits(ip("2001:db8::1")));
        assert!(!list.admits(ip("2001:db9::1")));
    }

    #[test]
    fn a_list_of_one_address_family_does_not_affect_the_other() {
        let list = list(&["0.0.0.0/0"], &[]);
        assert!(list.admits(ip("8.8.8.8")));
        assert!(!list.admits(ip("::1")));
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_an_ipv4_address() {
        let denied = list(&[], &["192.0.2.0/24"]);
        assert!(!denied.admits(ip("::ffff:192.0.2.7")));
        let mapped = list(&["::ffff:192.0.2.0/120"], &[]);
        assert!(mapped.admits(ip("192.0.2.7")) && mapped.admits(ip("::ffff:192.0.2.7")));
        assert!(!mapped.admits(ip("192.0.3.7")));
        assert_eq!(
            Prefix::of(ip("::ffff:192.0.2.7")),
            Prefix::of(ip("192.0.2.7"))
        );
    }

    #[test]
    fn single_addresses_and_blocks_with_host_bits_are_blocks() {
        let list = list(&["192.0.2.7", "10.1.2.3/8", "::1"], &[]);
        assert!(list.admits(ip("192.0.2.7")) && !list.admits(ip("192.0.2.8")));
        assert!(list.admits(ip("10.9.9.9")) && list.admits(ip("::1")));
    }

    #[test]
    fn an_invalid_block_is_named_with_its_list_and_the_expected_form() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "example.org",
            "2001:db8::/129",
            "10.0.0.1/",
        ] {
            let error = AccessList::new(&["10.0.0.0/8", bad], &[] as &[&str]).expect_err("refused");
            let text = error.to_string();
            assert!(
                text.contains("access.allow") && text.contains(&format!("{bad:?}")),
                "{text}"
            );
            assert!(text.contains("192.0.2.0/24"), "{text}");
        }
        let error = AccessList::new(&[] as &[&str], &["x"]).expect_err("refused");
        assert_eq!(error.list, "deny");
    }

    #[test]
    fn an_ipv6_host_is_its_64() {
        let one = Prefix::of(ip("2001:db8:1:2::1"));
        assert_eq!(one, Prefix::of(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(one, Prefix::of(ip("2001:db8:1:3::1")));
        assert_ne!(Prefix::of(ip("192.0.2.1")), Prefix::of(ip("192.0.2.2")));
    }

    proptest! {
        #[test]
        fn sorted_blocks_contain_what_one_of_them_contains(
            v4 in prop::collection::vec((any::<u32>(), 0u8..=32), 0..12),
            v6 in prop::collection::vec((any::<u128>(), 0u8..=128), 0..12),
            near in prop::collection::vec((any::<prop::sample::Index>(), -2i64..=2), 0..20),
            far in prop::collection::vec(any::<u128>(), 0..10),
        ) {
            let v4: Vec<Ipv4Net> = v4.iter()
                .map(|(bits, length)| Ipv4Net::new(Ipv4Addr::from_bits(*bits), *length).unwrap())
                .collect();
            let v6: Vec<Ipv6Net> = v6.iter()
                .map(|(bits, length)| Ipv6Net::new(Ipv6Addr::from_bits(*bits), *length).unwrap())
                .filter(|block| block.addr().to_ipv4_mapped().is_none())
                .collect();
            let texts: Vec<String> = v4.iter().map(|block| block.to_string())
                .chain(v6.iter().map(|block| block.to_string()))
                .collect();
            let blocks = Blocks::new("allow", &texts).unwrap();
            // Addresses at the edges of the blocks, and anywhere.
            let mut addresses: Vec<IpAddr> = far.iter()
                .map(|bits| Ipv6Addr::from_bits(*bits).into())
                .chain(far.iter().map(|bits| Ipv4Addr::from_bits(*bits as u32).into()))
                .collect();
            for (index, offset) in near {
                if !v4.is_empty() {
                    let block = v4[index.index(v4.len())];
                    for edge in [block.network(), block.broadcast()] {
                        let bits = edge.to_bits().wrapping_add(offset as u32);
                        addresses.push(Ipv4Addr::from_bits(bits).into());
                    }
                }
                if !v6.is_empty() {
                    let block = v6[index.index(v6.len())];
                    for edge in [block.network(), block.broadcast()] {
                        let bits = edge.to_bits().wrapping_add(offset as u128);
                        addresses.push(Ipv6Addr::from_bits(bits).into());
                    }
                }
            }
            for address in addresses {
                let expected = match address {
                    IpAddr::V4(address) => v4.iter().any(|block| block.contains(&address)),
                    IpAddr::V6(address) => v6.iter().any(|block| block.contains(&address)),
                };
                prop_assert_eq!(blocks.contain(address), expected, "{}", address);
            }
        }
    }
}
