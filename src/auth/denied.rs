//! Why someone is not let in, by whose fault it is: for the log.
//!
//! | | whose fault | the peer is told | counted against it |
//! |---|---|---|---|
//! | [`Denied`] | the peer's: the credential is not good | AUTH_FAILED, [`Denied::TEXT`] always | yes |
//! | [`Unjudged`] | the server's: it cannot judge it now | UNAVAILABLE: show it again | never |

/// What was wrong with a credential. It holds nothing of the credential itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the token has more than 8192 bytes")]
    TooLarge,
    #[error("not a signed token: it has not three parts in base64url, joined by dots")]
    NotAToken,
    #[error("the token's header {0}")]
    Header(&'static str),
    #[error("the token's algorithm is none of those configured")]
    Algorithm,
    #[error("none of the known keys has the name that the token gives, and its algorithm")]
    UnknownKey,
    #[error("the token names no key, and there are several of its algorithm")]
    AmbiguousKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token's payload {0}")]
    Payload(&'static str),
    #[error("the token's claim {claim} {fault}")]
    Claim {
        claim: &'static str,
        fault: &'static str,
    },
    #[error("the token has expired")]
    Expired,
    #[error("the token is not yet valid: its {0} is in the future")]
    NotYetValid(&'static str),
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("not an API key, or one of an unknown id")]
    UnknownApiKey,
    #[error("the API key's secret is wrong")]
    Secret,
    #[error("the name is not one plain level of a topic")]
    Principal,
    #[error("a refresh token is exchanged by the issuer, it does not authenticate by itself")]
    Refresh,
    #[error("AUTH has no such method")]
    Method,
    #[error("it is another principal's than the connection has")]
    OtherPrincipal,
    #[error("the refresh token is unknown, or all that came of its API key's AUTH has ended")]
    UnknownRefreshToken,
    #[error("the refresh token was used before, longer ago than a retry: its kin has ended")]
    ReusedRefreshToken,
    #[error("it was revoked")]
    Revoked,
}

impl Denied {
    /// What the peer is told, whichever it was.
    pub const TEXT: &'static str = "the credential was not accepted";
}

/// Why a credential cannot be judged now. It may be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unjudged {
    /// Nobody knows yet whether the provider has the key that the token names.
    #[error("the key set has not been fetched since a token named this key")]
    KeySet,
    #[error("tokens cannot be issued now: the log says why")]
    Issuer,
}

impl Unjudged {
    /// What the peer is told, whichever it was.
    pub const TEXT: &'static str = "the credential cannot be judged now";
}

/// Why a credential brings no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Unjudged(#[from] Unjudged),
}

impl Refused {
    /// Fetching the key set again may help.
    pub fn is_of_unknown_key(&self) -> bool {
        matches!(
            self,
            Refused::Denied(Denied::UnknownKey) | Refused::Unjudged(Unjudged::KeySet)
        )
    }
}
