//! The claims of a verified token (RFC 7519 §4.1), parsed strictly: a claim of the wrong type
//! refuses the token. Times are integers, in Unix seconds; ambiguous values are refused.

use super::denied::Denied;
use super::identity::is_principal;
use super::json;
use crate::base::limits::TOKEN_ID_BYTES_MAX;
use serde_json::{Map, Value};

/// What a token has to satisfy besides its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// `iss` must be this; empty: any, or none.
    pub issuer: String,
    /// `aud` must be or contain this; empty: any, or none.
    pub audience: String,
    /// Tolerated clock skew in seconds.
    pub leeway_s: u32,
}

/// The claims that the server uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub subject: Box<str>,
    /// Unix seconds: `exp`.
    pub expires: u64,
    /// Unix seconds: `iat`.
    pub issued_at: Option<u64>,
    /// `jti`
    pub token_id: Option<Box<str>>,
    pub roles: Vec<String>,
}

impl Claims {
    /// # Errors
    /// The first claim that is missing, of the wrong type, or not satisfied now.
    pub(super) fn read(
        payload: &[u8],
        required: &Requirements,
        now_unix: u64,
    ) -> Result<Claims, Denied> {
        let unreadable = "is not a JSON object with unique keys";
        let claims = json::parse(payload).map_err(|_| Denied::Payload(unreadable))?;
        let expires = time(&claims, "exp")?.ok_or_else(|| missing("exp"))?;
        let starts = time(&claims, "nbf")?;
        let issued_at = time(&claims, "iat")?;
        check_party(&claims, required)?;
        let subject = text(&claims, "sub")?.ok_or_else(|| missing("sub"))?;
        if !is_principal(subject) {
            return Err(wrong("sub", "is not a single topic level"));
        }
        let token_id = text(&claims, "jti")?;
        if token_id.is_some_and(|id| id.len() > TOKEN_ID_BYTES_MAX) {
            return Err(wrong("jti", "is too long (max 256 bytes)"));
        }
        let roles = match claims.get("roles") {
            None => Vec::new(),
            Some(value) => {
                texts(value).ok_or_else(|| wrong("roles", "is not a list of strings"))?
            }
        };
        let leeway = u64::from(required.leeway_s);
        if now_unix >= expires.saturating_add(leeway) {
            return Err(Denied::Expired);
        }
        for (claim, time) in [("nbf", starts), ("iat", issued_at)] {
            if time.is_some_and(|time| time > now_unix.saturating_add(leeway)) {
                return Err(Denied::NotYetValid(claim));
            }
        }
        Ok(Claims {
            subject: subject.into(),
            expires,
            issued_at,
            token_id: token_id.map(Into::into),
            roles: roles.into_iter().map(str::to_owned).collect(),
        })
    }
}

/// Checks issuer and audience.
fn check_party(claims: &Map<String, Value>, required: &Requirements) -> Result<(), Denied> {
    let issuer = text(claims, "iss")?;
    let fault = "is neither a string nor a list of strings";
    let audiences = match claims.get("aud") {
        None => None,
        Some(Value::String(one)) => Some(vec![one.as_str()]),
        Some(several) => Some(texts(several).ok_or_else(|| wrong("aud", fault))?),
    };
    if !required.issuer.is_empty() && issuer.ok_or_else(|| missing("iss"))? != required.issuer {
        return Err(Denied::Issuer);
    }
    if !required.audience.is_empty() {
        let audiences = audiences.ok_or_else(|| missing("aud"))?;
        if !audiences.contains(&required.audience.as_str()) {
            return Err(Denied::Audience);
        }
    }
    Ok(())
}

const fn missing(claim: &'static str) -> Denied {
    wrong(claim, "is missing")
}

const fn wrong(claim: &'static str, fault: &'static str) -> Denied {
    Denied::Claim { claim, fault }
}

fn time(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<u64>, Denied> {
    match claims.get(claim) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(time) => Ok(Some(time)),
            None => Err(wrong(claim, "is not a non-negative integer")),
        },
    }
}

fn text<'a>(
    claims: &'a Map<String, Value>,
    claim: &'static str,
) -> Result<Option<&'a str>, Denied> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(claim, "is not a string")),
    }
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}
