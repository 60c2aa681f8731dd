//! Why a client is not admitted, and whose fault that is: for the log.
//!
//! | | whose fault | the peer gets | counted against it |
//! |---|---|---|---|
//! | [`Denied`] | the peer's: the credential is invalid | AUTH_FAILED, [`Denied::TEXT`] always | yes |
//! | [`Unjudged`] | the server's: it cannot check it now | UNAVAILABLE: present it again | never |

/// What was wrong with a credential. It holds nothing of the credential itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("token too long (max 8192 bytes)")]
    TooLarge,
    #[error("not a signed token: it must have three base64url parts, separated by dots")]
    NotAToken,
    #[error("the token's header {0}")]
    Header(&'static str),
    #[error("the token's algorithm is not one of those configured")]
    Algorithm,
    #[error("no known key has the token's kid and algorithm")]
    UnknownKey,
    #[error("the token has no kid, and several keys have its algorithm")]
    AmbiguousKey,
    #[error("the token's signature is invalid")]
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
    #[error("the token was issued by another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("not an API key, or its id is unknown")]
    UnknownApiKey,
    #[error("the API key's secret is wrong")]
    Secret,
    #[error("the name is not a single topic level")]
    Principal,
    #[error("a refresh token does not authenticate by itself: the issuer exchanges it")]
    Refresh,
    #[error("unknown AUTH method")]
    Method,
    #[error("the credential belongs to a different principal than the connection")]
    OtherPrincipal,
    #[error("the refresh token is unknown, or its token family has ended")]
    UnknownRefreshToken,
    #[error("the refresh token was reused, too late for a retry: its token family has been ended")]
    ReusedRefreshToken,
    #[error("the credential was revoked")]
    Revoked,
}

impl Denied {
    /// The text for the peer, whatever the cause.
    pub const TEXT: &'static str = "the credential was not accepted";
}

/// Why a credential cannot be judged now. It may be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unjudged {
    /// It is not known yet whether the provider has the key that the token names.
    #[error("the key set has not been fetched again since a token first named this key")]
    KeySet,
    #[error("tokens cannot be issued now: the log says why")]
    Issuer,
}

impl Unjudged {
    /// The text for the peer, whatever the cause.
    pub const TEXT: &'static str = "the credential cannot be checked right now";
}

/// Why a credential gets no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Unjudged(#[from] Unjudged),
}

impl Refused {
    /// Whether fetching the key set again may help.
    pub fn is_of_unknown_key(&self) -> bool {
        matches!(
            self,
            Refused::Denied(Denied::UnknownKey) | Refused::Unjudged(Unjudged::KeySet)
        )
    }
}
