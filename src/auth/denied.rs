//! Why someone is not let in: for the log. The peer is told [`Denied::TEXT`], always.

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
    /// Fetching the key set again may help.
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
    #[error("too many from its address were wrong lately")]
    Barred,
    #[error("the refresh token is unknown, or all that came of its API key's AUTH has ended")]
    UnknownRefreshToken,
    #[error("the refresh token was used before, longer ago than a retry: its kin has ended")]
    ReusedRefreshToken,
    #[error("tokens cannot be issued now: the log says why")]
    Unavailable,
    #[error("it was revoked")]
    Revoked,
}

impl Denied {
    /// What the peer is told, whichever it was.
    pub const TEXT: &'static str = "the credential was not accepted";
}
