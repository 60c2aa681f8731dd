//! Tokens that are no longer valid although they have not expired.
//!
//! A revocation covers one token (`jti`), all tokens of a principal issued before an instant
//! (`sub`, `before`), or all tokens signed by one key (`kid`). Each revocation is kept until
//! every token it covers would have expired by itself: the caller knows how long tokens live,
//! and says until when.
//!
//! A token without `iat` may have been issued at any time: every revocation of its `sub` covers
//! it. A connection by API key counts as issued when the key was presented: a revocation ends
//! it, but the key opens another one, until it is removed from the configuration.

use super::identity::{Identity, is_principal};
use crate::base::limits::{KEY_ID_BYTES_MAX, REVOCATIONS_MAX, TOKEN_ID_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What is revoked. In JSON `{"jti": …}`, `{"sub": …, "before": unix}` or `{"kid": …}`, and
/// nothing else beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Target {
    Token(Box<str>),
    /// Tokens of `subject` issued before that Unix second.
    Subject {
        subject: Box<str>,
        before: u64,
    },
    Key(Box<str>),
}

/// A target, and the Unix second from which on it may be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub target: Target,
    pub forget_at: u64,
}

/// The JSON is not a valid target. The text says what is expected, never what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("a revocation needs exactly one of \"jti\", \"kid\", and \"sub\" with \"before\"")]
    Shape,
    #[error("\"sub\" needs \"before\", in Unix seconds: tokens issued before are revoked")]
    Before,
    #[error("\"sub\" is not a single topic level, so no token can have it")]
    Subject,
    #[error("\"jti\" and \"kid\" must have 1 to 256 bytes")]
    Length,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<Box<str>>,
}

impl TryFrom<Written> for Target {
    type Error = TargetError;

    fn try_from(written: Written) -> Result<Target, TargetError> {
        let bounded = |id: Box<str>, bytes_max| {
            let fits = (1..=bytes_max).contains(&id.len());
            fits.then_some(id).ok_or(TargetError::Length)
        };
        match (written.jti, written.kid, written.sub, written.before) {
            (Some(id), None, None, None) => bounded(id, TOKEN_ID_BYTES_MAX).map(Target::Token),
            (None, Some(id), None, None) => bounded(id, KEY_ID_BYTES_MAX).map(Target::Key),
            (None, None, Some(subject), Some(before)) => match is_principal(&subject) {
                true => Ok(Target::Subject { subject, before }),
                false => Err(TargetError::Subject),
            },
            (None, None, Some(_), None) => Err(TargetError::Before),
            _ => Err(TargetError::Shape),
        }
    }
}

impl From<Target> for Written {
    fn from(target: Target) -> Written {
        let mut written = Written {
            jti: None,
            sub: None,
            before: None,
            kid: None,
        };
        match target {
            Target::Token(id) => written.jti = Some(id),
            Target::Key(id) => written.kid = Some(id),
            Target::Subject { subject, before } => {
                written.sub = Some(subject);
                written.before = Some(before);
            }
        }
        written
    }
}

/// The limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of {REVOCATIONS_MAX} revocations is reached; revoke the signing key instead, \
         by its kid"
)]
pub struct Full;

/// All revocations in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// The values are the Unix seconds at which to forget them.
    tokens: HashMap<Box<str>, u64>,
    keys: HashMap<Box<str>, u64>,
    /// The values are `before` and `forget_at`.
    subjects: HashMap<Box<str>, (u64, u64)>,
}

impl Revocations {
    pub fn len(&self) -> usize {
        self.tokens.len() + self.keys.len() + self.subjects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a revocation. One with the same target is widened: it gets the later `before` and the
    /// later `forget_at`. False: nothing has changed.
    ///
    /// # Errors
    /// If there are too many; then nothing is changed.
    pub fn insert(&mut self, revocation: Revocation) -> Result<bool, Full> {
        let room = self.len() < REVOCATIONS_MAX;
        let Revocation { target, forget_at } = revocation;
        let (by_id, id) = match target {
            Target::Token(id) => (&mut self.tokens, id),
            Target::Key(id) => (&mut self.keys, id),
            Target::Subject { subject, before } => {
                return match self.subjects.entry(subject) {
                    Entry::Occupied(mut known) => {
                        let (known_before, known_forget) = *known.get();
                        let wider = (known_before.max(before), known_forget.max(forget_at));
                        Ok(known.insert(wider) != wider)
                    }
                    Entry::Vacant(place) if room => {
                        place.insert((before, forget_at));
                        Ok(true)
                    }
                    Entry::Vacant(_) => Err(Full),
                };
            }
        };
        match by_id.entry(id) {
            Entry::Occupied(mut known) => {
                let later = forget_at.max(*known.get());
                Ok(known.insert(later) != later)
            }
            Entry::Vacant(place) if room => {
                place.insert(forget_at);
                Ok(true)
            }
            Entry::Vacant(_) => Err(Full),
        }
    }

    /// Whether a credential is revoked.
    pub fn matches(&self, identity: &Identity) -> bool {
        let named = |ids: &HashMap<Box<str>, u64>, id: &Option<Box<str>>| {
            let id = id.as_ref();
            id.is_some_and(|id| ids.contains_key(id))
        };
        let issued_before = |before: u64| identity.issued_at.is_none_or(|at| at < before);
        named(&self.tokens, &identity.token_id)
            || named(&self.keys, &identity.key_id)
            || self
                .subjects
                .get(&identity.principal)
                .is_some_and(|(before, _)| issued_before(*before))
    }

    /// Forgets those that are due; returns how many.
    pub fn expire(&mut self, now_unix: u64) -> usize {
        let before = self.len();
        self.tokens.retain(|_, forget_at| *forget_at > now_unix);
        self.keys.retain(|_, forget_at| *forget_at > now_unix);
        self.subjects
            .retain(|_, (_, forget_at)| *forget_at > now_unix);
        before - self.len()
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> + '_ {
        let tokens = self.tokens.iter().map(|(id, forget_at)| Revocation {
            target: Target::Token(id.clone()),
            forget_at: *forget_at,
        });
        let keys = self.keys.iter().map(|(id, forget_at)| Revocation {
            target: Target::Key(id.clone()),
            forget_at: *forget_at,
        });
        let subjects = self.subjects.iter();
        let subjects = subjects.map(|(subject, (before, forget_at))| Revocation {
            target: Target::Subject {
                subject: subject.clone(),
                before: *before,
            },
            forget_at: *forget_at,
        });
        tokens.chain(keys).chain(subjects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(principal: &str, token: Option<&str>, at: Option<u64>) -> Identity {
        Identity {
            principal: principal.into(),
            token_id: token.map(Into::into),
            issued_at: at,
            key_id: Some("k1".into()),
            roles: Box::default(),
        }
    }

    fn parse(text: &str) -> Result<Target, serde_json::Error> {
        serde_json::from_str(text)
    }

    fn revoked(text: &str) -> Revocations {
        let mut revocations = Revocations::default();
        let target = parse(text).expect("a target");
        let forget_at = 1000;
        let new = revocations.insert(Revocation { target, forget_at });
        assert_eq!(new, Ok(true));
        revocations
    }

    #[test]
    fn a_token_is_revoked_by_its_number() {
        let set = revoked(r#"{"jti":"t1"}"#);
        assert!(set.matches(&identity("a", Some("t1"), Some(5))));
        assert!(!set.matches(&identity("a", Some("t2"), Some(5))));
        assert!(!set.matches(&identity("a", None, None)));
    }

    #[test]
    fn a_principals_tokens_are_revoked_if_issued_before() {
        let set = revoked(r#"{"sub":"a","before":100}"#);
        assert!(set.matches(&identity("a", None, Some(99))));
        assert!(!set.matches(&identity("a", None, Some(100))));
        assert!(set.matches(&identity("a", None, None)), "nobody knows when");
        assert!(!set.matches(&identity("b", None, Some(99))));
    }

    #[test]
    fn a_keys_tokens_are_revoked_by_its_name() {
        let set = revoked(r#"{"kid":"k1"}"#);
        assert!(set.matches(&identity("a", None, Some(u64::MAX))));
        let mut other = identity("a", None, Some(5));
        other.key_id = None;
        assert!(!set.matches(&other));
        assert!(!revoked(r#"{"kid":"k"}"#).matches(&identity("a", None, None)));
    }

    #[test]
    fn only_these_three_shapes_are_read() {
        for bad in [
            "{}",
            "[]",
            "null",
            r#"{"jti":null}"#,
            r#"{"jti":""}"#,
            r#"{"jti":1}"#,
            r#"{"jti":"a","kid":"b"}"#,
            r#"{"jti":"a","before":1}"#,
            r#"{"sub":"a"}"#,
            r#"{"before":1}"#,
            r#"{"sub":"a","before":-1}"#,
            r#"{"sub":"a","before":1.0}"#,
            r#"{"sub":"a","before":"1"}"#,
            r#"{"sub":"a","before":null}"#,
            r#"{"sub":"a/#","before":1}"#,
            r#"{"sub":"a","before":1,"x":1}"#,
            r#"{"jti":"a","jti":"b"}"#,
            r#"{"kid":"a"} x"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let long = format!("{{\"kid\":{:?}}}", "x".repeat(257));
        assert!(parse(&long).is_err());
        let error = parse(r#"{"sub":"hush"}"#).expect_err("refused").to_string();
        assert!(
            error.contains("before") && !error.contains("hush"),
            "{error}"
        );
    }

    #[test]
    fn a_written_target_reads_back() {
        for text in [
            r#"{"jti":"t"}"#,
            r#"{"sub":"a","before":7}"#,
            r#"{"kid":"k"}"#,
        ] {
            let target = parse(text).expect("a target");
            assert_eq!(serde_json::to_string(&target).expect("JSON"), text);
        }
    }

    #[test]
    fn revocations_are_forgotten_when_due() {
        let mut set = revoked(r#"{"jti":"t1"}"#);
        assert_eq!(set.expire(999), 0);
        assert_eq!(set.expire(1000), 1);
        assert!(set.is_empty());
    }

    #[test]
    fn a_repeated_revocation_widens_and_the_limit_holds() {
        let mut set = Revocations::default();
        let subject = |before, forget_at| Revocation {
            target: Target::Subject {
                subject: "a".into(),
                before,
            },
            forget_at,
        };
        assert_eq!(set.insert(subject(100, 1000)), Ok(true));
        assert_eq!(set.insert(subject(50, 900)), Ok(false));
        assert_eq!(set.insert(subject(50, 2000)), Ok(true));
        assert_eq!(set.iter().collect::<Vec<_>>(), [subject(100, 2000)]);
        let token = |n: usize| Revocation {
            target: Target::Token(n.to_string().into()),
            forget_at: 10,
        };
        for n in 1..REVOCATIONS_MAX {
            assert_eq!(set.insert(token(n)), Ok(true));
        }
        assert_eq!(set.insert(token(0)), Err(Full));
        assert_eq!(set.insert(token(1)), Ok(false), "known ones need no room");
        assert_eq!(set.len(), REVOCATIONS_MAX);
        assert_eq!(set.expire(10), REVOCATIONS_MAX - 1);
    }

    fn target() -> impl Strategy<Value = Target> {
        let name = "[a-c]";
        prop_oneof![
            name.prop_map(|id| Target::Token(id.into())),
            name.prop_map(|id| Target::Key(id.into())),
            (name, 0u64..6).prop_map(|(subject, before)| Target::Subject {
                subject: subject.into(),
                before
            }),
        ]
    }

    proptest! {
        /// Compared with a list that is never merged.
        #[test]
        fn a_set_revokes_what_one_of_its_members_revokes(
            targets in prop::collection::vec(target(), 0..12),
            principal in "[a-c]",
            token in prop::option::of("[a-c]"),
            key in prop::option::of("[a-c]"),
            issued_at in prop::option::of(0u64..6),
        ) {
            let mut set = Revocations::default();
            for target in &targets {
                let revocation = Revocation { target: target.clone(), forget_at: 1 };
                prop_assert!(set.insert(revocation).is_ok());
            }
            let expected = targets.iter().any(|target| match target {
                Target::Token(id) => token.as_deref() == Some(id),
                Target::Key(id) => key.as_deref() == Some(id),
                Target::Subject { subject, before } => {
                    **subject == *principal && issued_at.is_none_or(|at| at < *before)
                }
            });
            let identity = Identity {
                principal: principal.into(),
                token_id: token.map(Into::into),
                issued_at,
                key_id: key.map(Into::into),
                roles: Box::default(),
            };
            prop_assert_eq!(set.matches(&identity), expected);
            // As a store does: written out, and read again.
            let mut again = Revocations::default();
            for revocation in set.iter() {
                let json = serde_json::to_vec(&revocation.target).expect("JSON");
                let target = serde_json::from_slice(&json).expect("a target");
                let forget_at = revocation.forget_at;
                prop_assert_eq!(again.insert(Revocation { target, forget_at }), Ok(true));
            }
            prop_assert_eq!(again, set);
        }
    }
}
