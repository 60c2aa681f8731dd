//! Credentials of the routing load: every client has one that allows everything. They may expire
//! or be revoked, and the wall clock may be stepped.

use super::super::access::guarded::{SECRET, keyring};
use super::super::server::Guards;
use ringmail::auth::issue::{NewToken, issue};
use ringmail::auth::key::ApiKeys;
use ringmail::auth::revocation::{Revocation, Revocations, Target};
use ringmail::auth::rights::Role;
use ringmail::auth::token::Requirements;
use ringmail::auth::{Authority, Method, Roles};
use ringmail::base::clock::Instant;
use ringmail::broker::{Access, Wall};
use ringmail::proto::session::Settings;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Unix time at the start of a run.
const BEGIN: u64 = 1_800_000_000;
/// How far the wall clock is stepped.
const STEP_S: u64 = 3600;
/// Tokens that do not expire in a run stand all steps of the clock.
const LONG_S: u64 = 100 * STEP_S;

pub struct Credentials {
    authority: Arc<Authority>,
    wall: &'static AtomicU64,
    /// Names and ids of the tokens that expire soon.
    short_lived: Vec<(Rc<str>, String)>,
}

impl Credentials {
    pub fn new() -> Credentials {
        let all = || vec!["#".to_owned(), "$sys/#".to_owned()];
        let role = Role {
            publish: all(),
            subscribe: all(),
            request: all(),
            serve: all(),
            admin: false,
        };
        let roles = Roles::new([("all", &role)]).unwrap();
        let (requirements, keys) = (Requirements::default(), ApiKeys::default());
        Credentials {
            authority: Arc::new(Authority::new(roles, keyring(), requirements, keys)),
            wall: Box::leak(Box::new(AtomicU64::new(BEGIN))),
            short_lived: Vec::new(),
        }
    }

    /// Makes a server ask for them.
    pub fn guard(&self, guards: &mut Guards, settings: &mut Settings) {
        settings.auth_methods = Method::Jwt.bit();
        guards.access = Some(Access {
            authority: self.authority.clone(),
            asks: None,
            is_issuer: false,
            wall: Wall::Simulated(self.wall),
        });
    }

    /// A token of the client with this place; the server accepts it for so many seconds, or
    /// throughout.
    pub fn token(&mut self, place: usize, seconds: Option<u64>, now: Instant) -> Rc<str> {
        let unix = self.wall.load(Relaxed) + now.as_millis() / 1000;
        let roles: [Box<str>; 1] = ["all".into()];
        let new = NewToken {
            subject: &format!("client-{place}"),
            roles: &roles,
            // It is not from the future if the clock is stepped back.
            issued_at: unix - LONG_S,
            expires: unix + seconds.unwrap_or(LONG_S),
            ..NewToken::default()
        };
        let issued = issue(SECRET.as_bytes(), new).unwrap();
        let token: Rc<str> = issued.token.into();
        if seconds.is_some() {
            self.short_lived.push((token.clone(), issued.token_id));
        }
        token
    }

    /// Revokes one of the short-lived tokens; the authority to be put in force.
    pub fn revoke_one(&mut self, rng: &mut fastrand::Rng) -> Option<Arc<Authority>> {
        let (_, id) = rng.choice(&self.short_lived)?;
        let mut revocations = Revocations::clone(self.authority.revocations());
        let revocation = Revocation {
            target: Target::Token(id.as_str().into()),
            forget_at: BEGIN + 10 * LONG_S,
        };
        revocations.insert(revocation).unwrap();
        self.authority = Arc::new(self.authority.with_revocations(Arc::new(revocations)));
        Some(self.authority.clone())
    }

    /// Steps the wall clock forwards or back.
    pub fn step_clock(&self, rng: &mut fastrand::Rng) {
        match rng.bool() {
            true => self.wall.fetch_add(STEP_S, Relaxed),
            false => self.wall.fetch_sub(STEP_S, Relaxed),
        };
    }
}
