//! Authentication: AUTH, the rights it gives a connection, and for how long.
//!
//! ```text
//!   AUTH ─► authority (here) ──────────────────────────┬─► credential: identity, rights, deadline ─► AUTH_OK
//!        └► control thread (pairs of tokens) ──────────┘   or AUTH_FAILED, UNAVAILABLE, RATE_LIMITED
//!   PUBLISH, SUBSCRIBE, SERVE, REQUEST, WILL ─► credential ─► carried out, or FORBIDDEN
//! ```
//!
//! Without an authority there is no authentication and everyone may do everything; with one the
//! session lets nothing through before AUTH, so a connection without a credential cannot ask for
//! anything.
//!
//! Rights change only with another AUTH. Whatever the new rights no longer cover then ends:
//! subscriptions, services, the will; and from then on each publication is checked by its topic
//! before that connection gets it, because it may already have been on its way. A session can be
//! resumed only by its own principal, with rights that cover all it holds. It outlives a credential
//! that expires, which can be renewed; it ends with one that is revoked: the key may be in the same
//! wrong hands, and meanwhile requests and a group's messages would go to a member that is not
//! there.
//!
//! If the server cannot verify a credential now, it answers UNAVAILABLE and counts it against no
//! one. A wrong credential counts ([`crate::auth::tally`]); after too many, further ones are
//! answered RATE_LIMITED unseen, until the connection has a credential: from then on failures of
//! others at its address are not held against it. Each of the three answers ends the connection.
//!
//! While it waits for the control thread the connection handles nothing else; the request's number
//! tells whether the answer is still wanted.

use crate::auth::ask::{Answer, Ask, AskKind, TokenPair};
use crate::auth::bucket::Limit;
use crate::auth::certificate::Certificate;
use crate::auth::{Authority, Denied, Grant, Method, Refused, Unjudged, token};
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::admission::authenticator::Access;
use crate::broker::admission::principal::Credential;
use crate::broker::peers::client_state::{ClientState, Membership};
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::Stage;
use crate::broker::peers::transport::Transport;
use crate::metrics::counter::Counter;
use crate::proto::encoded::Encoded;
use crate::proto::error::{Code, Refusal};
use crate::wire::Notice;
use std::sync::Arc;

/// The target under which operators look for connection events, whichever file logs them.
const LOG_TARGET: &str = "ringmail::shard";
/// Repeated AUTHs that one connection may send: per second, and in a burst.
const AUTHS_PER_S: u64 = 1;
const AUTHS_BURST: u64 = 10;

/// What the rights do not cover.
pub(in crate::broker) struct Uncovered {
    subscriptions: Vec<Membership>,
    servings: Vec<Membership>,
    will: bool,
}

impl Uncovered {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.servings.is_empty() && !self.will
    }
}

impl Broker {
    /// Refuses an operation that the connection's rights do not cover.
    #[cold]
    pub(in crate::broker) fn forbid(&self) -> Refusal {
        self.resources.counters.add(Counter::Forbidden, 1);
        Refusal::new(Code::Forbidden, "your rights do not cover this name")
    }

    /// Handles AUTH.
    pub(in crate::broker) fn authenticate(&mut self, key: Key, method: u8, credential: &[u8]) {
        let Some(access) = &self.access else {
            debug_assert!(
                false,
                "the session refuses AUTH where nobody is asked for it"
            );
            return;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(tracer) = &mut self.resources.tracer {
            tracer.begin_authenticate(key, self.resources.now);
        }
        let now = self.resources.now;
        let has_credential = connection.transport.principal_name().is_some();
        let principal = connection.transport.principal.as_mut();
        if let (Some(admission), Some(principal)) = (&self.admission, principal)
            && let Some(address) = principal.address
        {
            let keys = access.authority.api_keys();
            let is_key = method == Method::ApiKey.to_wire();
            let id = is_key.then(|| keys.claimed(credential)).flatten();
            let (shown, is_barred) = admission.look(address, id, credential, now);
            principal.shown = Some(shown);
            if is_barred && !has_credential {
                return self.turn_away(key);
            }
        }
        if has_credential
            && Limit::per_second(AUTHS_PER_S, AUTHS_BURST)
                .spend(&mut connection.transport.principal_mut().auths, 1, now)
                .is_err()
        {
            // A valid credential costs more to verify than anything else a client can ask for.
            let text = "AUTH sent too often; once before the credential expires is enough";
            self.resources
                .end_authenticate(key, Some(Code::RateLimited));
            let transport = &mut connection.transport;
            return transport.refuse(Code::RateLimited, text, &mut self.resources);
        }
        let now_unix = access.wall.now(now);
        let Some(method) = Method::from_wire(method) else {
            return self.deny(key, &Denied::Method);
        };
        if access.is_issuer && method != Method::Jwt {
            return self.ask(key, method, credential);
        }
        match access.authority.check(method, credential, now_unix) {
            Ok(grant) => self.admit(key, grant, None),
            Err(refused) => {
                if let (true, Some(asks)) = (refused.is_of_unknown_key(), &access.asks) {
                    let keyring = access.authority.keyring();
                    asks.want_key(&token::named_key(credential, keyring));
                }
                self.refuse(key, &refused);
            }
        }
    }

    /// Asks the control thread for a pair of tokens; an API key's secret is checked here first.
    fn ask(&mut self, key: Key, method: Method, credential: &[u8]) {
        let Some(Access {
            authority,
            asks: Some(asks),
            ..
        }) = &self.access
        else {
            return self.refuse(key, &Unjudged::Issuer.into());
        };
        let kind = match method {
            Method::ApiKey => match authority.api_keys().check(credential) {
                Ok(known) => AskKind::ApiKey {
                    id: known.id.clone(),
                },
                Err(denied) => return self.deny(key, &denied),
            },
            _ => AskKind::Refresh {
                token: credential.into(),
            },
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        self.asked += 1;
        let ask = Ask {
            shard: self.id,
            key,
            number: self.asked,
            client_id: connection.transport.session.client_id().map(Box::from),
            kind,
        };
        if asks.post(ask).is_err() {
            self.resources.end_authenticate(key, Some(Code::Overloaded));
            let text = "more credentials are being checked than can be; try again later";
            return connection.transport.overload(text, &mut self.resources);
        }
        connection.transport.principal_mut().asking = self.asked;
        connection.transport.held = true;
    }

    /// Handles the control thread's answer.
    pub(crate) fn take_answer(&mut self, key: Key, number: u64, answer: Answer) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let principal = connection.transport.principal_mut();
        if principal.asking != number {
            return;
        }
        principal.asking = 0;
        connection.transport.held = principal.waits();
        if connection.transport.stage != Stage::Running {
            return;
        }
        if !std::mem::replace(&mut connection.member.ready, true) {
            self.lists.make_ready(key);
        }
        // The credential may have been revoked after the answer was given.
        let revoked = |pair: &TokenPair| {
            let access = self.access.as_ref();
            access.is_some_and(|access| access.authority.is_revoked(&pair.grant.identity))
        };
        match answer {
            Ok(pair) if revoked(&pair) => self.deny(key, &Denied::Revoked),
            Ok(pair) => self.admit(key, pair.grant.clone(), Some(&pair)),
            Err(refused) => self.refuse(key, &refused),
        }
        self.touch(key);
    }

    /// A client that has shown a certificate is its principal, and need not send AUTH.
    pub(crate) fn admit_certificate(&mut self, key: Key, certificate: &Certificate) {
        let Some(access) = &self.access else { return };
        let now = self.resources.now;
        let now_unix = access.wall.now(now);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match access.authority.certify(certificate, now_unix) {
            Ok(grant) => {
                connection.transport.principal_mut().credential =
                    Some(Credential::new(grant, now, now_unix));
                connection.transport.session.authenticate();
                self.resources.counters.add(Counter::AuthAccepted, 1);
                self.resources.end_authenticate(key, None);
            }
            Err(denied) => self.deny(key, &denied),
        }
    }

    /// The credential is valid: the connection becomes its principal.
    fn admit(&mut self, key: Key, grant: Grant, pair: Option<&TokenPair>) {
        let Some(access) = &self.access else { return };
        let wall = access.wall;
        let now = self.resources.now;
        let now_unix = wall.now(now);
        let Some(Connection { member, transport }) = self.connections.get_mut(key) else {
            return;
        };
        let again = transport.principal_name().is_some();
        if again && transport.principal_name() != Some(&*grant.identity.principal) {
            return self.deny(key, &Denied::OtherPrincipal);
        }
        let expires_in_s = grant.expires_in_s(now_unix);
        let narrowed = transport.bearer().is_narrowed();
        let mut credential = Credential::new(grant, now, now_unix);
        credential.narrowed = narrowed;
        transport.principal_mut().credential = Some(credential);
        transport.session.authenticate();
        let principal = transport.principal_name().unwrap_or_default().to_owned();
        let done = Notice::Authenticated {
            expires_in_s,
            principal: &principal,
            access_token: pair.map_or(b"", |pair| pair.access_token.as_bytes()),
            refresh_token: pair.map_or(b"", |pair| pair.refresh_token.as_bytes()),
        };
        transport.notify(done, &mut self.resources);
        // The new deadline may be earlier.
        member.timer = Instant::NEVER;
        self.resources.counters.add(Counter::AuthAccepted, 1);
        self.resources.end_authenticate(key, None);
        if again {
            self.narrow(key);
        }
        self.touch(key);
    }

    fn refuse(&mut self, key: Key, refused: &Refused) {
        match refused {
            Refused::Denied(denied) => self.deny(key, denied),
            Refused::Unjudged(unjudged) => {
                tracing::debug!(target: LOG_TARGET, shard = self.id.0, connection = %key, "AUTH cannot be checked now: {unjudged}");
                let refusal = Refusal::new(Code::Unavailable, Unjudged::TEXT);
                self.end_unauthenticated(key, Counter::AuthUnavailable, &refusal);
            }
        }
    }

    /// The credential is rejected; only the log says which part of it was wrong.
    fn deny(&mut self, key: Key, denied: &Denied) {
        tracing::debug!(target: LOG_TARGET, shard = self.id.0, connection = %key, "AUTH refused: {denied}");
        let principal = self
            .connections
            .get(key)
            .map(|connection| &connection.transport.principal);
        let shown = principal.and_then(|principal| principal.as_ref()?.shown);
        if let (Some(admission), Some(shown)) = (&self.admission, shown)
            && admission.note_failure(&shown, self.resources.now)
        {
            return self.turn_away(key);
        }
        let refusal = Refusal::new(Code::AuthFailed, Denied::TEXT);
        self.end_unauthenticated(key, Counter::AuthRefused, &refusal);
    }

    /// Too many failures: refuses without checking the credential.
    fn turn_away(&mut self, key: Key) {
        tracing::debug!(target: LOG_TARGET, shard = self.id.0, connection = %key, "AUTH refused: too many wrong credentials");
        let text = "too many wrong credentials from your address; wait a minute";
        let refusal = Refusal::new(Code::RateLimited, text);
        self.end_unauthenticated(key, Counter::AuthRefused, &refusal);
    }

    fn end_unauthenticated(&mut self, key: Key, counter: Counter, refusal: &Refusal) {
        self.resources.counters.add(counter, 1);
        self.resources.end_authenticate(key, Some(refusal.code));
        if let Some(Connection { transport, .. }) = self.connections.get_mut(key) {
            transport.refuse_with(refusal, &mut self.resources);
        }
    }

    /// The rights have changed: ends whatever they no longer cover.
    fn narrow(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let Some(state) = &connection.member.state else {
            return;
        };
        let lost = self.uncovered(state, &connection.transport);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(credential) = &mut connection.transport.principal_mut().credential {
            credential.narrowed = true;
        }
        connection.note_care();
        let state = connection.member.state_mut();
        state
            .subscriptions
            .retain(|one| !lost.subscriptions.contains(one));
        state.servings.retain(|one| !lost.servings.contains(one));
        if lost.will {
            state.will = None;
        }
        connection.member.recharge(&mut self.resources);
        self.leave(key, &lost.subscriptions, &lost.servings);
    }

    /// The parts of a client state that the rights of a transport (its own, or one that would
    /// resume it) do not cover.
    pub(in crate::broker) fn uncovered(
        &self,
        state: &ClientState,
        transport: &Transport,
    ) -> Uncovered {
        let is_subscription_lost = |one: &&Membership| {
            let mut filter = String::new();
            self.router.filter_name(one.filter, &mut filter);
            !transport.bearer().may_subscribe(&filter)
        };
        let is_serving_lost = |one: &&Membership| {
            let name = one.number.and_then(|number| self.router.group_name(number));
            !transport.bearer().may_serve(name.map_or("", |name| name.0))
        };
        let will = state.will.as_ref();
        Uncovered {
            subscriptions: (state.subscriptions.iter())
                .filter(is_subscription_lost)
                .copied()
                .collect(),
            servings: (state.servings.iter())
                .filter(is_serving_lost)
                .copied()
                .collect(),
            will: will.is_some_and(|will| {
                !transport
                    .bearer()
                    .may_publish(Encoded::of(&will.message).topic())
            }),
        }
    }

    /// Checks credentials against another authority from now on, and ends connections whose
    /// credential it has revoked.
    pub(crate) fn put_authority(&mut self, authority: Arc<Authority>) {
        if let Some(access) = &mut self.access {
            access.authority = authority;
            self.end_revoked();
        }
    }

    /// Ends connections and sessions whose credential has been revoked.
    fn end_revoked(&mut self) {
        let Some(access) = &self.access else { return };
        let authority = access.authority.clone();
        let keys = self.connections.iter();
        let keys: Vec<Key> = keys
            .filter(|(_, connection)| is_revoked(&authority, connection))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.end_for_revocation(key);
        }
    }

    /// The same for one connection that has come from another shard.
    pub(crate) fn end_if_revoked(&mut self, key: Key) {
        let (Some(access), Some(connection)) = (&self.access, self.connections.get(key)) else {
            return;
        };
        if is_revoked(&access.authority, connection) {
            self.end_for_revocation(key);
        }
    }

    fn end_for_revocation(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match connection.transport.stage {
            Stage::Running => {
                let text = "your credential has been revoked";
                let transport = &mut connection.transport;
                transport.cut_off(Code::Revoked, text, &mut self.resources);
            }
            // Its session waits for a connection: no one may resume it.
            Stage::Detached => self.absent_until(key, self.resources.now),
            Stage::Flushing | Stage::Lingering | Stage::Closing => {
                self.depart(key);
                self.dissolve(key, !self.draining);
            }
        }
        self.touch(key);
    }
}

fn is_revoked(authority: &Authority, connection: &Connection) -> bool {
    let principal = connection.transport.principal.as_ref();
    let credential = principal.and_then(|principal| principal.credential.as_ref());
    credential.is_some_and(|credential| authority.is_revoked(&credential.identity))
}
