//! A server that requires a token of every client, the tokens it accepts, and the check that
//! clients have seen only what their tokens allow.

use super::super::server::{Guards, Server, ms, settings};
use ringmail::auth::address::AccessList;
use ringmail::auth::issue::{NewToken, issue};
use ringmail::auth::key::ApiKeys;
use ringmail::auth::keyring::{Algorithm, Keyring};
use ringmail::auth::revocation::{Revocation, Revocations, Target};
use ringmail::auth::rights::Role;
use ringmail::auth::tally::{Tally, TallyLimits};
use ringmail::auth::token::Requirements;
use ringmail::auth::{Authority, Method, Rights, Roles, Who};
use ringmail::base::clock::Instant;
use ringmail::broker::{Access, Admission, Limits, Wall};
use ringmail::proto::session::Settings;
use ringmail::ring::sim::client::traffic::{Act, Command, Delivered, Grant, Record, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending};
use ringmail::ring::sim::{Faults, RingSize, World};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Unix time at the start of a run.
const BEGIN: u64 = 1_800_000_000;
pub const SECRET: &str = "of-32-bytes-and-more-0123456789abcdef";
const LEEWAY_S: u32 = 5;
/// How long after the server has sent a message a client may receive it.
const TRAVEL: Duration = Duration::from_millis(100);

/// What a test knows of a token it has made.
#[derive(Clone)]
struct Known {
    principal: String,
    rights: Arc<Rights>,
    expires: u64,
    token_id: String,
    revoked_at: Option<Instant>,
}

pub struct Guarded {
    pub world: World,
    pub server: Server,
    pub clients: Vec<ClientId>,
    pub admission: Arc<Admission>,
    /// Clients take over each other's sessions, so that none has the full record of its own.
    pub shared: bool,
    authority: RefCell<Arc<Authority>>,
    tokens: RefCell<HashMap<String, Known>>,
}

fn role(publish: &[&str], subscribe: &[&str]) -> Role {
    let own = |filters: &[&str]| filters.iter().map(|&one| one.to_owned()).collect();
    Role {
        publish: own(publish),
        subscribe: own(subscribe),
        request: own(&["$sys/echo"]),
        serve: own(&["of/{principal}/+"]),
        admin: false,
    }
}

fn roles() -> Roles {
    let device = role(
        &["of/{principal}/#", "to/#"],
        &["of/{principal}/#", "all/#"],
    );
    let reader = role(&[], &["of/#", "all/#", "to/#"]);
    let writer = role(&["of/#", "all/#"], &[]);
    let narrow = role(&[], &["all/a"]);
    let all = [
        ("device", &device),
        ("reader", &reader),
        ("writer", &writer),
        ("narrow", &narrow),
    ];
    Roles::new(all).unwrap()
}

/// The key that verifies the tokens made here.
pub fn keyring() -> Keyring {
    Keyring::from_config(&[Algorithm::Hs256], SECRET, "").unwrap()
}

/// A keyring without keys, as before a key set is fetched.
pub fn no_keyring_yet() -> Keyring {
    let none = Keyring::from_config(&[Algorithm::Hs256], "", "").unwrap();
    none.awaiting(Default::default())
}

fn authority() -> Authority {
    let keyring = keyring();
    let requirements = Requirements {
        leeway_s: LEEWAY_S,
        ..Requirements::default()
    };
    Authority::new(roles(), keyring, requirements, ApiKeys::default())
}

impl Guarded {
    pub fn quiet(seed: u64, limits: Limits) -> Guarded {
        let size = RingSize::default();
        let list = AccessList::default();
        Guarded::with(
            seed,
            Faults::none(),
            size,
            limits,
            list,
            TallyLimits::default(),
        )
    }

    pub fn with(
        seed: u64,
        faults: Faults,
        size: RingSize,
        limits: Limits,
        list: AccessList,
        tally: TallyLimits,
    ) -> Guarded {
        let world = World::new(seed, faults);
        let authority = Arc::new(authority());
        let admission = Arc::new(Admission::new(list, Tally::new(tally)));
        let guards = Guards {
            access: Some(Access {
                authority: authority.clone(),
                asks: None,
                is_issuer: false,
                wall: Wall::Simulated(Box::leak(Box::new(AtomicU64::new(BEGIN)))),
            }),
            admission: Some(admission.clone()),
            ..Guards::default()
        };
        let settings = Settings {
            auth_methods: Method::Jwt.bit(),
            ..settings()
        };
        let server = Server::guarded(&world, 3, size, &settings, &limits, guards);
        Guarded {
            world,
            server,
            clients: Vec::new(),
            admission,
            shared: false,
            authority: RefCell::new(authority),
            tokens: RefCell::default(),
        }
    }

    fn unix(&self) -> u64 {
        BEGIN + self.world.now().as_millis() / 1000
    }

    /// A token issued now that expires after this many seconds.
    pub fn token(&self, principal: &str, role: &str, seconds: u64) -> Rc<str> {
        let roles: [Box<str>; 1] = [role.into()];
        let expires = self.unix() + seconds;
        let new = NewToken {
            subject: principal,
            roles: &roles,
            issued_at: self.unix(),
            expires,
            ..NewToken::default()
        };
        let issued = issue(SECRET.as_bytes(), new).unwrap();
        let known = Known {
            principal: principal.to_owned(),
            rights: self.authority.borrow().roles().rights(&roles),
            expires,
            token_id: issued.token_id,
            revoked_at: None,
        };
        let mut tokens = self.tokens.borrow_mut();
        tokens.insert(issued.token.clone(), known);
        issued.token.into()
    }

    /// Revokes a token and has every shard end the connections and sessions it admitted.
    pub fn revoke(&self, token: &str) {
        let mut tokens = self.tokens.borrow_mut();
        let known = tokens.get_mut(token).unwrap();
        known.revoked_at.get_or_insert(self.world.now());
        let authority = self.authority.borrow().clone();
        let mut revocations = Revocations::clone(authority.revocations());
        let revocation = Revocation {
            target: Target::Token(known.token_id.as_str().into()),
            forget_at: known.expires + 60,
        };
        revocations.insert(revocation).unwrap();
        let revoked = Arc::new(authority.with_revocations(Arc::new(revocations)));
        self.server.put_authority(&revoked);
        *self.authority.borrow_mut() = revoked;
    }

    /// Replaces the keys that verify tokens.
    pub fn put_keyring(&self, keyring: Keyring) {
        let authority = Arc::new(self.authority.borrow().with_keyring(keyring));
        self.server.put_authority(&authority);
        *self.authority.borrow_mut() = authority;
    }

    pub fn enter(&mut self, token: &Rc<str>, plan: Traffic) -> ClientId {
        let plan = Traffic {
            token: Some(token.clone()),
            ..plan
        };
        let id = self.world.add_traffic(self.world.now(), plan);
        self.clients.push(id);
        id
    }

    pub fn act(&self, client: ClientId, acts: impl Into<Vec<Act>>) {
        self.world.command(client, Command::Act(acts.into()));
    }

    pub fn perform(&mut self, client: ClientId, acts: impl Into<Vec<Act>>) {
        self.act(client, acts);
        self.run_for(ms(200));
    }

    pub fn end(&self, client: ClientId, ending: Ending) {
        self.world.command(client, Command::End(ending));
    }

    pub fn record(&self, client: ClientId) -> Record {
        self.world.record(client)
    }

    pub fn run_for(&mut self, time: Duration) {
        self.server.run_for(time);
    }

    // ---- checks ----

    /// Checks that no client received what its rights, an expiry or a revocation forbade.
    ///
    /// # Panics
    /// If one did; with the seed.
    pub fn judge(&self) {
        let seed = self.world.seed();
        let mut owners: HashMap<[u8; 16], String> = HashMap::new();
        for &id in &self.clients {
            let record = self.record(id);
            if !self.shared {
                assert_eq!(record.violation, None, "seed {seed}: {id:?}");
            }
            for one in &record.delivered {
                self.judge_delivery(id, &record, one);
            }
            for (place, grant) in record.grants.iter().enumerate() {
                self.judge_grant(id, grant);
                let connection = &record.connections[grant.connection];
                let key = record.memberships.get(connection.membership);
                if let Some(key) = key.and_then(|membership| membership.key) {
                    let owner = owners.entry(key).or_insert(grant.principal.clone());
                    assert_eq!(
                        *owner, grant.principal,
                        "seed {seed}: {id:?}: AUTH {place} took another's session"
                    );
                }
            }
        }
    }

    fn known(&self, token: &str) -> Known {
        self.tokens.borrow()[token].clone()
    }

    fn judge_grant(&self, id: ClientId, grant: &Grant) {
        let seed = self.world.seed();
        let known = self.known(&grant.token);
        assert_eq!(known.principal, grant.principal, "seed {seed}: {id:?}");
        if let Some(revoked_at) = known.revoked_at {
            assert!(
                grant.at <= revoked_at + TRAVEL,
                "seed {seed}: {id:?}: AUTH taken at {:?}, revoked {revoked_at:?}",
                grant.at
            );
        }
    }

    fn judge_delivery(&self, id: ClientId, record: &Record, one: &Delivered) {
        let seed = self.world.seed();
        let Some(grant) = one.grant.map(|grant| &record.grants[grant]) else {
            panic!("seed {seed}: {id:?}: delivered before AUTH: {one:?}");
        };
        assert_eq!(grant.connection, one.connection, "seed {seed}: {id:?}");
        let known = self.known(&grant.token);
        let may = |known: &Known, topic: &str, publish: bool| {
            let who = Who {
                principal: &known.principal,
                client_id: None,
            };
            match publish {
                true => known.rights.may_publish(topic, who),
                false => known.rights.may_subscribe(topic, who),
            }
        };
        assert!(
            may(&known, &one.topic, false),
            "seed {seed}: {id:?}: {} is not {}'s: {one:?}",
            one.topic,
            known.principal
        );
        let sender = self.record(one.label.sender);
        let published = sender.grants.iter().any(|grant| {
            let known = self.known(&grant.token);
            may(&known, &one.topic, true)
        });
        assert!(published, "seed {seed}: {id:?}: nobody may publish {one:?}");
        let expired = Instant::from_nanos((known.expires - BEGIN) * 1_000_000_000);
        let last = expired + Duration::from_secs(30) + TRAVEL;
        assert!(one.at <= last, "seed {seed}: {id:?}: expired: {one:?}");
        if let Some(revoked_at) = known.revoked_at {
            let last = revoked_at + Duration::from_secs(1) + TRAVEL;
            assert!(
                one.at <= last,
                "seed {seed}: {id:?}: revoked {revoked_at:?}: {one:?}"
            );
        }
    }

    /// Ends all clients, judges what they have seen, and checks that everything is released.
    pub fn finish(mut self) {
        for &id in &self.clients {
            self.world.command(id, Command::Reconnect(None));
            self.world.command(id, Command::Heal);
            self.end(id, Ending::Close);
        }
        self.run_for(Duration::from_secs(200));
        self.judge();
        assert_eq!(
            self.admission.connections(),
            0,
            "seed {}: the admission counts them still",
            self.world.seed()
        );
        self.server.end();
    }
}
