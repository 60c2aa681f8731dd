//! When a client authenticates, and with what: after each handshake that requires it, and again
//! before the credential expires.
//!
//! | | presents |
//! |---|---|
//! | a new connection | what its source yields; the last refresh token, if the source yields nothing new |
//! | 80 % of `expires_in_s` later | the last refresh token; else what the source yields |
//!
//! A refresh token is used up by its AUTH, whatever the result: if it was refused, the source
//! provides the next credential. A fixed access token is never presented twice on one
//! connection, since that would gain nothing.
//!
//! Fetching may take time, so the owner does it: it is told what to call ([`Show::Fetch`]), and
//! returns the result ([`Access::provide`]). A failed fetch ends the connection that waits for
//! it, but does not affect the next one.

use super::credential::{Credential, Fetched, Login, Secret, Source, methods_told, ways_told};
use super::error::Error;
use crate::base::clock::Instant;
use std::time::Duration;

/// The time before the next attempt if no credential could be fetched, and before any renewal.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// What to present, or what to do before that is known.
#[derive(Debug)]
pub(super) enum Show {
    Now(Credential),
    Fetch(Source),
    /// Present nothing for now.
    Nothing,
}

/// What a credential is being fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetching {
    /// A connection whose server accepts these methods.
    First {
        methods: u8,
    },
    Renewal,
}

#[derive(Debug)]
pub(super) struct Access {
    source: Option<Source>,
    fetching: Option<Fetching>,
    refresh: Option<Secret>,
    /// An AUTH that waits for its answer, and whether it used a refresh token.
    asked_by_refresh: Option<bool>,
    login: Option<Login>,
    renew_at: Instant,
    expires_at: Instant,
}

impl Access {
    pub(super) fn new(source: Option<Source>) -> Access {
        Access {
            source,
            fetching: None,
            refresh: None,
            asked_by_refresh: None,
            login: None,
            renew_at: Instant::NEVER,
            expires_at: Instant::NEVER,
        }
    }

    /// Whether there is a source of credentials.
    pub(super) fn has_source(&self) -> bool {
        self.source.is_some()
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// When [`Access::renewal`] is due.
    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// The connection has ended.
    pub(super) fn disconnect(&mut self) {
        self.asked_by_refresh = None;
        self.fetching = None;
        self.renew_at = Instant::NEVER;
        self.expires_at = Instant::NEVER;
    }

    /// What to present on a connection whose server accepts these methods.
    ///
    /// # Errors
    /// `Credential`: there is none, or the server does not accept its method.
    pub(super) fn first(&mut self, methods: u8) -> Result<Show, Error> {
        let Some(source) = &self.source else {
            let accepted = methods_told(methods);
            return Err(Error::Credential {
                text: format!(
                    "this server requires authentication, and no credential was given; give \
                     {accepted}{}",
                    ways_told(methods)
                ),
            });
        };
        let held = self.refresh.clone().filter(|_| !source.is_lasting());
        let credential = match (held, source) {
            (Some(secret), _) => Credential::Refresh(secret),
            (None, Source::Fixed(credential)) => credential.clone(),
            (None, source) => {
                self.fetching = Some(Fetching::First { methods });
                return Ok(Show::Fetch(source.clone()));
            }
        };
        Ok(Show::Now(self.accepted(credential, methods)?))
    }

    fn accepted(&mut self, credential: Credential, methods: u8) -> Result<Credential, Error> {
        if !credential.is_among(methods) {
            let (name, accepted) = (credential.name(), methods_told(methods));
            return Err(Error::Credential {
                text: format!(
                    "this server does not accept {name}; give {accepted}{}",
                    ways_told(methods)
                ),
            });
        }
        Ok(self.asked(credential))
    }

    /// What to renew with, now that it may be time.
    pub(super) fn renewal(&mut self, now: Instant) -> Show {
        if now < self.renew_at {
            return Show::Nothing;
        }
        self.renew_at = Instant::NEVER;
        if let Some(secret) = self.refresh.clone() {
            return Show::Now(self.asked(Credential::Refresh(secret)));
        }
        match self.source.clone().filter(Source::is_lasting) {
            None => Show::Nothing,
            Some(Source::Fixed(credential)) => Show::Now(self.asked(credential)),
            Some(source) => {
                self.fetching = Some(Fetching::Renewal);
                Show::Fetch(source)
            }
        }
    }

    /// Takes the result of a fetch; `None`: there is nothing to present. A result for an ended
    /// connection is too late.
    ///
    /// # Errors
    /// `Credential`: without it the connection cannot go on; the next fetch may bring another.
    pub(super) fn provide(
        &mut self,
        fetched: Fetched,
        now: Instant,
    ) -> Result<Option<Credential>, Error> {
        match (self.fetching.take(), fetched) {
            (None, _) => Ok(None),
            (Some(Fetching::First { methods }), Ok(credential)) => {
                self.accepted(credential, methods).map(Some)
            }
            (Some(Fetching::First { .. }), Err(text)) => Err(Error::Credential { text }),
            (Some(Fetching::Renewal), Ok(credential)) => Ok(Some(self.asked(credential))),
            // There is time to try again until the credential expires; then the server ends the
            // connection.
            (Some(Fetching::Renewal), Err(_)) => {
                let rest = (self.expires_at - now) / 3;
                self.renew_at = now + rest.max(PAUSE_MIN);
                Ok(None)
            }
        }
    }

    fn asked(&mut self, credential: Credential) -> Credential {
        self.asked_by_refresh = Some(matches!(credential, Credential::Refresh(_)));
        credential
    }

    /// AUTH_OK.
    pub(super) fn accept(&mut self, login: Login, now: Instant) {
        self.asked_by_refresh = None;
        self.refresh = Some(login.refresh_token.clone()).filter(|token| !token.is_empty());
        let lasting = self.source.as_ref().is_some_and(Source::is_lasting);
        self.expires_at = login.expires_in.map_or(Instant::NEVER, |life| now + life);
        self.renew_at = match login.expires_in {
            Some(life) if self.refresh.is_some() || lasting => now + (life * 4 / 5).max(PAUSE_MIN),
            _ => Instant::NEVER,
        };
        self.login = Some(login);
    }

    /// The server ended the connection because of the credential: returns whether another one may
    /// help.
    pub(super) fn refused(&mut self) -> bool {
        let lasting = self.source.as_ref().is_some_and(Source::is_lasting);
        match self.asked_by_refresh.take() {
            Some(true) => {
                self.refresh = None;
                lasting
            }
            Some(false) => false,
            // It expired: it was not renewed in time.
            None => lasting || self.refresh.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn login(seconds: u64, refresh: &str) -> Login {
        Login {
            principal: "a".to_owned(),
            expires_in: (seconds > 0).then(|| Duration::from_secs(seconds)),
            access_token: Secret::new(""),
            refresh_token: Secret::new(refresh),
        }
    }

    fn key() -> Credential {
        Credential::ApiKey(Secret::new("id.secret"))
    }

    fn shown(show: Show) -> Credential {
        match show {
            Show::Now(credential) => credential,
            other => panic!("{other:?}"),
        }
    }

    fn is_nothing(show: &Show) -> bool {
        matches!(show, Show::Nothing)
    }

    #[test]
    fn a_key_is_shown_again_at_four_fifths_and_a_fixed_token_never() {
        let mut access = Access::new(Some(Source::Fixed(key())));
        assert_eq!(shown(access.first(2).unwrap()), key());
        access.accept(login(30, ""), at(0));
        assert!(is_nothing(&access.renewal(at(23_999))));
        assert_eq!(shown(access.renewal(at(24_000))), key());
        assert!(is_nothing(&access.renewal(at(24_001))), "one at a time");
        access.accept(login(0, ""), at(25_000));
        assert_eq!(access.renew_at(), Instant::NEVER);

        let token = Credential::Token(Secret::new("t"));
        let mut access = Access::new(Some(Source::Fixed(token.clone())));
        assert_eq!(shown(access.first(1).unwrap()), token);
        access.accept(login(30, ""), at(0));
        assert_eq!(access.renew_at(), Instant::NEVER);
        assert!(!access.refused(), "it would be refused again");
    }

    #[test]
    fn a_refresh_token_renews_and_replaces_a_used_up_credential() {
        let first = Credential::Refresh(Secret::new("r1"));
        let mut access = Access::new(Some(Source::Fixed(first.clone())));
        assert_eq!(shown(access.first(7).unwrap()), first);
        access.accept(login(3, "r2"), at(0));
        let second = Credential::Refresh(Secret::new("r2"));
        assert_eq!(shown(access.renewal(at(2400))), second);
        access.accept(login(3, "r3"), at(2400));
        access.disconnect();
        let third = Credential::Refresh(Secret::new("r3"));
        assert_eq!(shown(access.first(7).unwrap()), third);
        assert!(!access.refused(), "there is nothing else");
    }

    #[test]
    fn a_key_has_the_next_word_after_a_refused_refresh_token() {
        let mut access = Access::new(Some(Source::Fixed(key())));
        access.first(7).unwrap();
        access.accept(login(3, "r"), at(0));
        shown(access.renewal(at(2400)));
        assert!(access.refused());
        assert_eq!(shown(access.first(7).unwrap()), key());
        assert!(!access.refused());
    }

    #[test]
    fn a_failed_fetch_is_retried_before_the_credential_expires() {
        let failed = || Err("the file is not there".to_owned());
        let mut access = Access::new(Some(Source::Fetched(Arc::new(failed))));
        let is_fetch = |show: Show| matches!(show, Show::Fetch(_));
        assert!(is_fetch(access.first(2).unwrap()));
        assert_eq!(access.provide(Ok(key()), at(0)).unwrap(), Some(key()));
        access.accept(login(30, ""), at(0));
        assert!(is_fetch(access.renewal(at(24_000))));
        assert_eq!(access.provide(failed(), at(24_000)).unwrap(), None);
        let again = access.renew_at();
        assert!(again > at(24_000) && again < at(30_000));
        assert!(is_fetch(access.renewal(again)));
        assert_eq!(access.provide(Ok(key()), again).unwrap(), Some(key()));

        access.disconnect();
        assert!(is_fetch(access.first(2).unwrap()));
        access.disconnect();
        assert_eq!(access.provide(failed(), at(40_000)).unwrap(), None, "late");
        assert!(is_fetch(access.first(2).unwrap()));
        let error = access.provide(failed(), at(40_000)).unwrap_err();
        assert!(error.to_string().contains("not there"));
    }

    #[test]
    fn without_a_fitting_credential_the_remedy_is_named() {
        let text = Access::new(None).first(3).unwrap_err().to_string();
        assert!(text.contains("give a token or an API key"), "{text}");
        let mut access = Access::new(Some(Source::Fixed(key())));
        let text = access.first(1).unwrap_err().to_string();
        assert!(text.contains("does not accept an API key; give a token"));
        assert!(!text.contains("secret"));
    }
}
