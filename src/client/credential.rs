//! What a client authenticates with, and where that comes from.
//!
//! A credential is fixed, or fetched again each time it is needed. Neither appears in any
//! `Debug`, `Display` or error.

use crate::proto::option::{AUTH_API_KEY, AUTH_JWT, AUTH_REFRESH};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Text that cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into_boxed_str())
    }

    /// The text itself; the caller has to keep it secret.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret::new(text)
    }
}

/// A credential, of one of the methods of PROTOCOL.md, Authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An access token (JWT).
    Token(Secret),
    /// `id.secret`
    ApiKey(Secret),
    /// A refresh token: valid for one AUTH, which returns the next one.
    Refresh(Secret),
}

impl Credential {
    /// The method's number in AUTH.
    pub fn method(&self) -> u8 {
        match self {
            Credential::Token(_) => 1,
            Credential::ApiKey(_) => 2,
            Credential::Refresh(_) => 3,
        }
    }

    /// The secret to present.
    pub fn secret(&self) -> &Secret {
        match self {
            Credential::Token(secret)
            | Credential::ApiKey(secret)
            | Credential::Refresh(secret) => secret,
        }
    }

    /// Whether a server that accepts these methods (bits as in SYN-ACK) accepts it.
    pub fn is_among(&self, methods: u8) -> bool {
        methods & (1 << (self.method() - 1)) != 0
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Credential::Token(_) => "a token",
            Credential::ApiKey(_) => "an API key",
            Credential::Refresh(_) => "a refresh token",
        }
    }
}

/// The methods of a SYN-ACK in words.
pub(super) fn methods_told(methods: u8) -> String {
    let known = [
        (AUTH_JWT, "a token"),
        (AUTH_API_KEY, "an API key"),
        (AUTH_REFRESH, "a refresh token"),
    ];
    let accepted = known.iter().filter(|(bit, _)| methods & bit != 0);
    let names: Vec<&str> = accepted.map(|(_, name)| *name).collect();
    match names.is_empty() {
        true => "a method this client does not know".to_owned(),
        false => names.join(" or "),
    }
}

/// In brackets, how to give a credential for these methods, if there is a flag for it.
pub(super) fn ways_told(methods: u8) -> String {
    let known = [
        (AUTH_JWT, "--token-file or the builder's token"),
        (AUTH_API_KEY, "--api-key-file or the builder's api_key"),
    ];
    let ways = known.iter().filter(|(bit, _)| methods & bit != 0);
    let ways: Vec<&str> = ways.map(|(_, way)| *way).collect();
    match ways.is_empty() {
        true => String::new(),
        false => format!(" ({})", ways.join(", ")),
    }
}

/// The result of a fetch: a credential, or a text for the user.
pub(super) type Fetched = Result<Credential, String>;
type Fetch = dyn Fn() -> Fetched + Send + Sync;
type Fetching = Pin<Box<dyn Future<Output = Fetched> + Send>>;
type FetchAsync = dyn Fn() -> Fetching + Send + Sync;

/// Where credentials come from.
#[derive(Clone)]
pub(super) enum Source {
    Fixed(Credential),
    /// Called on a thread where it may block.
    Fetched(Arc<Fetch>),
    FetchedAsync(Arc<FetchAsync>),
}

impl Source {
    /// Whether it may yield a better credential than before.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(
            self,
            Source::Fixed(Credential::Token(_) | Credential::Refresh(_))
        )
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Fixed(credential) => credential.fmt(f),
            Source::Fetched(_) | Source::FetchedAsync(_) => f.write_str("fetched"),
        }
    }
}

/// The client's identity as the server reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    pub principal: String,
    /// How long the credential was valid when the server reported it; `None`: without limit.
    pub expires_in: Option<Duration>,
    /// An access token, if the server issues them; else empty.
    pub access_token: Secret,
    /// The refresh token for the next AUTH, if the server issues them; else empty.
    pub refresh_token: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_credential() {
        let secret = || Secret::new("hush");
        for credential in [
            Credential::Token(secret()),
            Credential::ApiKey(secret()),
            Credential::Refresh(secret()),
        ] {
            assert!(!format!("{credential:?}").contains("hush"));
            assert!(!format!("{:?}", Source::Fixed(credential)).contains("hush"));
        }
    }

    #[test]
    fn methods_are_named_by_their_bits() {
        assert_eq!(methods_told(3), "a token or an API key");
        assert!(Credential::Refresh(Secret::new("x")).is_among(4));
        assert!(!Credential::Refresh(Secret::new("x")).is_among(3));
        assert!(methods_told(8).contains("does not know"));
    }
}
