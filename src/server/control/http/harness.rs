//! The admin address without a socket, for this crate's tests (feature `sim`): a connection's bytes
//! in, its answers out, by the same conversation, guard and endpoints.
//!
//! There are no shards behind it, and no log to change. A key with `admin = true` and one without
//! are made anew each time, so that nobody can have guessed them.

use super::admin::Admin;
use super::guard::{Door, Guard};
use super::place::Places;
use super::{converse, http, router};
use crate::auth::Authority;
use crate::auth::key::{ApiKey, ApiKeys, NewApiKey, generate};
use crate::auth::keyring::Keyring;
use crate::auth::rights::{Role, Roles};
use crate::auth::token::Requirements;
use crate::base::clock::Instant;
use crate::server::control::broadcaster::Broadcaster;
use crate::server::control::host::Host;
use crate::server::control::listing::Lister;
use crate::server::control::revocations::{Lives, RevocationRegistry};
use crate::server::control::store::Store;
use crate::shard::sys::Board;
use axum::Router;
use hyper_util::service::TowerToHyperService;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

pub struct Harness {
    runtime: Runtime,
    endpoints: TowerToHyperService<Router>,
    guard: Arc<Guard>,
    places: Arc<Places>,
    /// An administrator's API key, and one of somebody who is none.
    pub keys: [String; 2],
}

impl Harness {
    /// One that keeps its revocations in `directory`.
    ///
    /// # Errors
    /// No random numbers, no directory, no runtime.
    pub fn new(directory: &Path, is_loopback: bool) -> Result<Harness, Box<dyn Error>> {
        let [operator, device] = [generate("op")?, generate("dev")?];
        let key = |id: &str, new: &NewApiKey| ApiKey {
            id: id.into(),
            sha256: new.sha256.clone(),
            principal: id.into(),
            roles: [id.into()].into(),
        };
        let api_keys = ApiKeys::new([key("op", &operator), key("dev", &device)])?;
        let admin = Role {
            admin: true,
            ..Role::default()
        };
        let roles = Roles::new([("op", &admin), ("dev", &Role::default())])?;
        let (keyring, required) = (Keyring::default(), Requirements::default());
        let authority = Authority::new(roles, keyring, required, api_keys);
        let (broadcaster, _) = Broadcaster::new(Arc::new(authority), &[]);
        let lives = Lives {
            own_s: None,
            foreign: false,
            certificates: false,
            leeway_s: 0,
        };
        let store = Arc::new(Store::open(directory)?);
        let registry = RevocationRegistry::new(broadcaster, store, lives);
        let board = Board::new("x".to_owned(), "y".to_owned(), &[], Instant::ZERO);
        let guard = Arc::new(Guard::new(0));
        let admin = Admin {
            board: Arc::new(board),
            host: Host::default(),
            draining: Arc::default(),
            settled: None,
            guard: guard.clone(),
            reserve: Arc::default(),
            is_loopback,
            lister: Lister::new(Vec::new()),
            registry: Some(Arc::new(registry)),
            wanted: Arc::default(),
            traces: None,
        };
        Ok(Harness {
            runtime: Builder::new_current_thread().enable_all().build()?,
            endpoints: TowerToHyperService::new(router(Arc::new(admin))),
            guard,
            places: Arc::default(),
            keys: [operator.key, device.key],
        })
    }

    /// What a connection is answered whose peer says this and ends its stream.
    pub fn answer(&self, said: &[u8]) -> Vec<u8> {
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let door = Door {
            endpoints: self.endpoints.clone(),
            guard: self.guard.clone(),
            ticket: Arc::new(self.places.take(from)),
            from,
        };
        let mut wire = Wire {
            said,
            answered: Vec::new(),
        };
        let mut http = http();
        // The end of the stream is there from the beginning: it does not take back a request.
        http.half_close(true);
        self.runtime.block_on(converse(&http, &mut wire, door));
        wire.answered
    }
}

/// All that a peer says, and what it is answered.
struct Wire<'a> {
    said: &'a [u8],
    answered: Vec<u8>,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.said.split_at(into.remaining().min(self.said.len()));
        into.put_slice(now);
        self.said = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
