//! A client's identity, as its credential states it.

use super::rights::Rights;
use crate::base::limits::PRINCIPAL_BYTES_MAX;
use std::sync::Arc;

/// Whom a credential stands for, and which credential it was: revocations are compared with this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The principal, one level of a topic: `{principal}` in a role's filters.
    pub principal: Box<str>,
    /// The token's `jti`, or the certificate's fingerprint.
    pub token_id: Option<Box<str>>,
    /// Unix seconds: the token's `iat`; for an API key, when it was presented.
    pub issued_at: Option<u64>,
    /// The name (`kid`) of the key that signed the token.
    pub key_id: Option<Box<str>>,
    /// Its roles that exist in the configuration.
    pub roles: Box<[Box<str>]>,
}

/// What a valid credential grants.
#[derive(Clone, Debug)]
pub struct Grant {
    pub identity: Identity,
    /// Shared by all connections with the same roles.
    pub rights: Arc<Rights>,
    /// Unix seconds; `None`: never. The token's own value, without the leeway for clock skew, so it
    /// may be in the past.
    pub expires: Option<u64>,
}

impl Grant {
    /// Seconds from `now` until it expires, at least 1: AUTH_OK's `expires_in_s`, where 0
    /// is "never", which `None` gives.
    pub fn expires_in_s(&self, now_unix: u64) -> u32 {
        let left = |expires: u64| expires.saturating_sub(now_unix).max(1);
        self.expires
            .map_or(0, |expires| left(expires).try_into().unwrap_or(u32::MAX))
    }
}

/// Whether a text may be a principal: a plain level of a topic, without special characters. 1..=128
/// bytes; no `/`, `+`, `#`, no controls, no leading `$`.
pub fn is_principal(text: &str) -> bool {
    (1..=PRINCIPAL_BYTES_MAX).contains(&text.len())
        && !text.starts_with('$')
        && !text.contains(|c: char| matches!(c, '/' | '+' | '#') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::name::check_topic;
    use proptest::prelude::*;

    #[test]
    fn a_principal_is_one_plain_level() {
        let long = "x".repeat(128);
        for good in ["a", "auth0|5f7c", "abc@clients", "ns:device 7", "ü", &long] {
            assert!(is_principal(good), "{good}");
        }
        let longer = "x".repeat(129);
        let bad = [
            "", "a/b", "/", "+", "a+b", "#", "a#", "$sys", "$", "a\0", "a\n", "a\u{7f}", "a\u{85}",
            &longer,
        ];
        for bad in bad {
            assert!(!is_principal(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_credential_that_expires_never_has_zero_seconds_left() {
        let grant = |expires| Grant {
            identity: Identity {
                principal: "a".into(),
                token_id: None,
                issued_at: None,
                key_id: None,
                roles: Box::default(),
            },
            rights: Arc::new(Rights::default()),
            expires,
        };
        assert_eq!(grant(None).expires_in_s(100), 0);
        assert_eq!(grant(Some(160)).expires_in_s(100), 60);
        assert_eq!(grant(Some(100)).expires_in_s(100), 1);
        assert_eq!(grant(Some(90)).expires_in_s(100), 1);
        assert_eq!(grant(Some(u64::MAX)).expires_in_s(100), u32::MAX);
    }

    proptest! {
        #[test]
        fn a_principal_makes_a_valid_topic(text in any::<String>()) {
            if is_principal(&text) {
                let topic = format!("devices/{text}/state");
                prop_assert!(check_topic(&topic).is_ok());
                prop_assert!(check_topic(&text).is_ok());
            }
        }
    }
}
