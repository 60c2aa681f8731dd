//! Authorization at the admin address: who may request what.

use super::admin::Admin;
use super::answer::{Refusal, refuse};
use super::guard::{Cause, Peer};
use crate::auth::token::named_key;
use crate::auth::{Denied, Method as Credential, Refused, Unjudged};
use crate::base::clock::unix_seconds;
use crate::proto::option::is_client_id;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HOST, HeaderValue};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use std::net::IpAddr;
use std::sync::Arc;

/// The requester may read.
pub(super) struct Reader;

impl FromRequestParts<Arc<Admin>> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Reader, Refusal> {
        if admin.is_loopback && parts.headers.get(HOST).is_none_or(is_this_host) {
            return Ok(Reader);
        }
        if admin.is_loopback && !parts.headers.contains_key(AUTHORIZATION) {
            return refuse(
                StatusCode::FORBIDDEN,
                "under this name a page in a browser could be asking; without a credential, ask \
                 by the loopback address or as localhost",
            );
        }
        admin.authenticate(parts).map(|_| Reader)
    }
}

/// The requester may change things; its principal, for the log.
pub(super) struct Changer(pub(super) Box<str>);

impl FromRequestParts<Arc<Admin>> for Changer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Changer, Refusal> {
        admin.authenticate(parts).map(Changer)
    }
}

impl Admin {
    /// The principal of a request by an administrator.
    fn authenticate(&self, parts: &Parts) -> Result<Box<str>, Refusal> {
        let Some(registry) = &self.registry else {
            return refuse(
                StatusCode::FORBIDDEN,
                "nobody can authenticate here, because auth.mode is \"none\"; set it to \
                 \"required\", and give an API key a role with admin = true",
            );
        };
        let bearer = parts.headers.get(AUTHORIZATION).and_then(bearer);
        let Some(credential) = bearer else {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "this needs a credential; send Authorization: Bearer with an access token or \
                 an API key (id.secret) whose role has admin = true",
            );
        };
        let now = unix_seconds();
        let authority = registry.authority();
        let method = credential_kind(credential);
        let id = match method {
            Credential::ApiKey => authority.api_keys().claimed(credential),
            _ => None,
        };
        // Every connection has a peer; without one nothing is counted.
        let peer = parts.extensions.get().map(|&Peer(peer)| peer);
        let shown = peer.map(|peer| self.guard.shown(peer, id, credential));
        if shown == Some(None) {
            tracing::info!("refused at the admin address: too many wrong credentials");
            return self.turn_away();
        }
        match authority.check(method, credential, now) {
            Ok(grant) if grant.rights.is_admin() => Ok(grant.identity.principal),
            Ok(grant) => {
                let principal = &*grant.identity.principal;
                tracing::info!(
                    principal,
                    "refused at the admin address: no role has admin = true"
                );
                refuse(
                    StatusCode::FORBIDDEN,
                    "the credential is valid, but none of its roles has admin = true; use one \
                     that has, or set it in [roles]",
                )
            }
            Err(refused) => {
                if refused.is_of_unknown_key() {
                    self.wanted
                        .want(&named_key(credential, authority.keyring()));
                }
                tracing::info!("refused at the admin address: {refused}");
                if let Refused::Unjudged(_) = refused {
                    let error = format!("{}; ask again in a moment", Unjudged::TEXT);
                    return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
                }
                self.guard.count(Cause::Credential);
                if shown.flatten().is_some_and(|shown| self.guard.fail(&shown)) {
                    return self.turn_away();
                }
                let error = format!(
                    "{}; it is wrong, expired or revoked: the server's log says which",
                    Denied::TEXT
                );
                refuse(StatusCode::UNAUTHORIZED, error)
            }
        }
    }

    /// Refuses a credential unchecked (429), because too many were wrong.
    fn turn_away<T>(&self) -> Result<T, Refusal> {
        self.guard.count(Cause::Rate);
        refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong credentials from your address; wait a minute",
        )
    }
}

/// Whether a Host header is an address or localhost, which a page from elsewhere cannot have as its
/// own host name. Any other name may be made to resolve to this host by its owner (DNS rebinding),
/// whose page the browser would then let read the answers.
pub(super) fn is_this_host(value: &HeaderValue) -> bool {
    let Some(authority) = value
        .to_str()
        .ok()
        .and_then(|host| host.parse::<Authority>().ok())
    else {
        return false;
    };
    let host = authority.host().trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

pub(super) fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, credential) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| credential.trim_ascii())
}

/// Tells an API key from a token. A key is an id, a dot, and 43 characters. The last of a token's
/// three parts is never that short, except with HS256; but then its first part is the beginning of
/// a JSON object in base64url, which would be a strange id.
pub(super) fn credential_kind(credential: &[u8]) -> Credential {
    let text = std::str::from_utf8(credential).unwrap_or_default();
    let id = text.rsplit_once('.').map_or("", |(id, _)| id);
    match is_client_id(id) && !(id.starts_with("eyJ") && id.contains('.')) {
        true => Credential::ApiKey,
        false => Credential::Jwt,
    }
}
