//! When a client says who it is, and by what: after each handshake that asks for it, and
//! again before the credential expires.
//!
//! | | shows |
//! |---|---|
//! | a new connection | what its source gives; the last refresh token, where the source gives nothing new |
//! | two thirds of `expires_in_s` later | the last refresh token; else what the source gives |
//!
//! A refresh token is worn out by its AUTH, whatever comes of it: if that was refused, the
//! source has the next word. A fixed access token is never shown twice over one connection:
//! it would bring nothing.

use super::credential::{Credential, Login, Secret, Source, methods_told};
use super::error::Error;
use crate::base::clock::Instant;
use std::time::Duration;

/// Before the next attempt, where no credential could be fetched; and before any renewal.
const PAUSE_MIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Access {
    source: Option<Source>,
    refresh: Option<Secret>,
    /// An AUTH without its answer, by a refresh token or not.
    asked_by_refresh: Option<bool>,
    login: Option<Login>,
    renew_at: Instant,
    expires_at: Instant,
}

impl Access {
    pub(super) fn new(source: Option<Source>) -> Access {
        Access {
            source,
            refresh: None,
            asked_by_refresh: None,
            login: None,
            renew_at: Instant::NEVER,
            expires_at: Instant::NEVER,
        }
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// When [`Access::renewal`] is due.
    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// The connection is gone.
    pub(super) fn disconnect(&mut self) {
        self.asked_by_refresh = None;
        self.renew_at = Instant::NEVER;
        self.expires_at = Instant::NEVER;
    }

    /// The credential for a connection whose server accepts these methods.
    ///
    /// # Errors
    /// `Credential`: there is none, none could be fetched, or the server takes no such one.
    pub(super) fn first(&mut self, methods: u8) -> Result<Credential, Error> {
        let Some(source) = &self.source else {
            let accepted = methods_told(methods);
            return Err(Error::Credential {
                text: format!(
                    "this server asks who its clients are, and there is no credential; \
                     give {accepted}"
                ),
            });
        };
        let held = self.refresh.clone().filter(|_| !source.is_lasting());
        let credential = match held {
            Some(secret) => Credential::Refresh(secret),
            None => source.take()?,
        };
        if !credential.is_among(methods) {
            let (name, accepted) = (credential.name(), methods_told(methods));
            return Err(Error::Credential {
                text: format!("this server does not take {name}; give {accepted}"),
            });
        }
        Ok(self.asked(credential))
    }

    /// The credential to renew with, now that it is time; `None`: later, or never.
    pub(super) fn renewal(&mut self, now: Instant) -> Option<Credential> {
        if now < self.renew_at {
            return None;
        }
        self.renew_at = Instant::NEVER;
        if let Some(secret) = self.refresh.clone() {
            return Some(self.asked(Credential::Refresh(secret)));
        }
        let source = self.source.as_ref().filter(|source| source.is_lasting())?;
        match source.take() {
            Ok(credential) => Some(self.asked(credential)),
            // Until it expires there is time to try again; then the server ends it.
            Err(_) => {
                let rest = (self.expires_at - now) / 3;
                self.renew_at = now + rest.max(PAUSE_MIN);
                None
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
            Some(life) if self.refresh.is_some() || lasting => now + (life * 2 / 3).max(PAUSE_MIN),
            _ => Instant::NEVER,
        };
        self.login = Some(login);
    }

    /// The server ended the connection over the credential: whether another may do.
    pub(super) fn refused(&mut self) -> bool {
        let lasting = self.source.as_ref().is_some_and(Source::is_lasting);
        match self.asked_by_refresh.take() {
            Some(true) => {
                self.refresh = None;
                lasting
            }
            Some(false) => false,
            // It expired: nobody could renew it in time.
            None => lasting || self.refresh.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

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

    #[test]
    fn a_key_is_shown_again_at_two_thirds_and_a_fixed_token_never() {
        let mut access = Access::new(Some(Source::Fixed(key())));
        assert_eq!(access.first(2).unwrap(), key());
        access.accept(login(30, ""), at(0));
        assert_eq!(access.renewal(at(19_999)), None);
        assert_eq!(access.renewal(at(20_000)), Some(key()));
        assert_eq!(access.renewal(at(20_001)), None, "one at a time");
        access.accept(login(0, ""), at(21_000));
        assert_eq!(access.renew_at(), Instant::NEVER);

        let token = Credential::Token(Secret::new("t"));
        let mut access = Access::new(Some(Source::Fixed(token.clone())));
        assert_eq!(access.first(1).unwrap(), token);
        access.accept(login(30, ""), at(0));
        assert_eq!(access.renew_at(), Instant::NEVER);
        assert!(!access.refused(), "it would be refused again");
    }

    #[test]
    fn a_refresh_token_renews_and_stands_in_for_what_is_worn_out() {
        let first = Credential::Refresh(Secret::new("r1"));
        let mut access = Access::new(Some(Source::Fixed(first.clone())));
        assert_eq!(access.first(7).unwrap(), first);
        access.accept(login(3, "r2"), at(0));
        let second = Credential::Refresh(Secret::new("r2"));
        assert_eq!(access.renewal(at(2000)), Some(second));
        access.accept(login(3, "r3"), at(2000));
        access.disconnect();
        let third = Credential::Refresh(Secret::new("r3"));
        assert_eq!(access.first(7).unwrap(), third);
        assert!(!access.refused(), "there is nothing else");
    }

    #[test]
    fn a_key_has_the_next_word_after_a_refused_refresh_token() {
        let mut access = Access::new(Some(Source::Fixed(key())));
        access.first(7).unwrap();
        access.accept(login(3, "r"), at(0));
        access.renewal(at(2000)).unwrap();
        assert!(access.refused());
        assert_eq!(access.first(7).unwrap(), key());
        assert!(!access.refused());
    }

    #[test]
    fn what_could_not_be_fetched_is_fetched_again_before_it_expires() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let fetch = move || match counted.fetch_add(1, Ordering::Relaxed) {
            1 => Err("the file is not there".to_owned()),
            _ => Ok(key()),
        };
        let mut access = Access::new(Some(Source::Fetched(Arc::new(fetch))));
        access.first(2).unwrap();
        access.accept(login(30, ""), at(0));
        assert_eq!(access.renewal(at(20_000)), None);
        assert!(access.renew_at() < at(30_000));
        assert_eq!(access.renewal(access.renew_at()), Some(key()));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn without_a_fitting_credential_the_remedy_is_named() {
        let text = Access::new(None).first(3).unwrap_err().to_string();
        assert!(text.contains("give a token or an API key"), "{text}");
        let mut access = Access::new(Some(Source::Fixed(key())));
        let text = access.first(1).unwrap_err().to_string();
        assert!(text.contains("does not take an API key; give a token"));
        assert!(!text.contains("secret"));
    }
}
