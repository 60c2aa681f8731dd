//! What access control keeps on disk: `access.redb` in the state directory.
//!
//! - `family`: refresh tokens, by their hashes.
//! - `revoked`: revocations.
//! - `look`: read-only queries.
//! - `error`: why an operation failed.
//! - `file`: opening or creating the file.
//! - `health`: whether it can be used.
//!
//! One transaction is one change of [`Store::change`]; when it returns, the change is on
//! the disk, and a crash at any point leaves the state before it or after it (redb commits
//! with an fsync). Only then is a change confirmed to its requester.
//!
//! After a disk failure (mostly: no room) redb accepts nothing more until the file is reopened.
//! Until [`Store::recover`] has done so, every operation fails with the cause.
//!
//! The file is for its owner alone (0600), and for one process: redb locks the file, and this
//! module its directory.

mod error;
mod file;
mod health;
mod look;
pub(super) mod revoked;
pub(super) mod token_family;

use crate::base::clock::unix_seconds;
use crate::server::state::StateError;
use aws_lc_rs::hmac;
pub use error::StoreError;
pub(super) use error::random;
use file::Held;
pub use health::Health;
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use revoked::Revoked;
use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use token_family::TokenFamilies;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The key in `META` of the secret with which successors are derived.
const SECRET: &str = "successor_secret";
const SECRET_BYTES: usize = 32;
/// The key in `META` of the trial write that tests the disk.
const TRIAL: &str = "trial";
/// Bytes of the trial write: more than a change needs, so that the next one does not fail again.
const TRIAL_BYTES: usize = 64 << 10;

/// The open file. Shared between threads; changes take turns.
pub struct Store {
    held: Held,
    /// `None`: it could not be reopened yet.
    database: RwLock<Option<Database>>,
    health: Health,
    /// Successors of refresh tokens are derived with it.
    successor: hmac::Key,
}

impl Store {
    /// Opens the store in `directory`; creates either if it is missing.
    ///
    /// # Errors
    /// If the directory cannot be used, another server has the file, or it is not a file of this
    /// server.
    pub fn open(directory: &Path) -> Result<Store, StateError> {
        let held = file::hold(directory)?;
        let (database, is_new) = held.open(|database| furnish(database).map(drop))?;
        let successor = furnish(&database).map_err(|error| held.refused(error))?;
        if is_new {
            tracing::info!(
                "the state in {} is new: no earlier refresh token or revocation is known",
                directory.display()
            );
        }
        Ok(Store {
            held,
            database: RwLock::new(Some(database)),
            health: Health::default(),
            successor: hmac::Key::new(hmac::HMAC_SHA256, &successor),
        })
    }

    /// Makes one change: all of `work` takes effect, on disk, or nothing.
    ///
    /// # Errors
    /// If the disk or `work` failed.
    pub fn change<R>(
        &self,
        work: impl FnOnce(&Change<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let change = Change {
                transaction: &transaction,
                successor: &self.successor,
            };
            let result = work(&change)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Whether it can be used.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Reopens the file after a failure, and tests the disk with a change. Returns whether the
    /// store can be used. Blocks for the disk.
    pub fn recover(&self) -> bool {
        if self.health.cause().is_none() {
            return true;
        }
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Closed first: it has the file's lock.
        *database = None;
        match self.reopened() {
            Ok(reopened) => {
                *database = Some(reopened);
                self.health.recovered();
                let directory = self.held.directory().display();
                tracing::info!("the state in {directory} is written again");
                true
            }
            Err(error) => {
                self.health.failed(error.to_string());
                false
            }
        }
    }

    fn reopened(&self) -> Result<Database, StoreError> {
        let database = self.held.open_existing()?;
        let secret = furnish(&database)?;
        if hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), b"").as_ref()
            != hmac::sign(&self.successor, b"").as_ref()
        {
            let cause = "another file has taken its place: put the previous one back, or restart";
            return Err(io::Error::other(cause).into());
        }
        try_disk(&database)?;
        Ok(database)
    }

    /// Runs an operation on the open file. A disk failure makes all later operations fail.
    fn with<R>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cause) = self.health.cause() {
            return Err(StoreError::Failing(cause));
        }
        let Some(database) = &*database else {
            return Err(StoreError::Failing("it is not open".into()));
        };
        let result = work(database);
        if let Err(error) = &result
            && error.is_lasting()
            && self.health.failed(error.to_string())
        {
            tracing::warn!(
                "the state in {} cannot be written: {error}; until it can, refresh tokens and \
                 revocations are refused: is the disk full? The server keeps trying by itself",
                self.held.directory().display()
            );
        }
        result
    }
}

/// Creates what is missing in a file, and returns the secret with which successors are derived.
/// Writes nothing if nothing is missing.
fn furnish(database: &Database) -> Result<[u8; SECRET_BYTES], StoreError> {
    let transaction = database.begin_write()?;
    let before = transaction.list_tables()?.count();
    let kept = {
        let meta = transaction.open_table(META)?;
        meta.get(SECRET)?
            .and_then(|secret| secret.value().try_into().ok())
    };
    let secret = match kept {
        Some(secret) => secret,
        None => random::<SECRET_BYTES>()?,
    };
    // Made now, so that readers find them.
    TokenFamilies::open(&transaction, &hmac::Key::new(hmac::HMAC_SHA256, &secret))?;
    Revoked::open(&transaction)?;
    if kept.is_none() {
        let mut meta = transaction.open_table(META)?;
        meta.insert(SECRET, secret.as_slice())?;
    }
    match kept.is_some() && transaction.list_tables()?.count() == before {
        true => transaction.abort()?,
        false => transaction.commit()?,
    }
    Ok(secret)
}

/// Writes as much as a change needs, and removes it.
fn try_disk(database: &Database) -> Result<(), StoreError> {
    let mut bytes = vec![0; TRIAL_BYTES];
    bytes[..8].copy_from_slice(&unix_seconds().to_be_bytes());
    let change = |bytes: Option<&[u8]>| -> Result<(), StoreError> {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            match bytes {
                Some(bytes) => drop(meta.insert(TRIAL, bytes)?),
                None => drop(meta.remove(TRIAL)?),
            }
        }
        Ok(transaction.commit()?)
    };
    change(Some(&bytes))?;
    change(None)
}

/// A change in the making.
pub struct Change<'t> {
    transaction: &'t WriteTransaction,
    successor: &'t hmac::Key,
}

impl<'t> Change<'t> {
    /// Refresh tokens. One at a time.
    pub fn families(&self) -> Result<TokenFamilies<'t>, StoreError> {
        TokenFamilies::open(self.transaction, self.successor)
    }

    /// Revocations. One at a time.
    pub fn revoked(&self) -> Result<Revoked<'t>, StoreError> {
        Revoked::open(self.transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::file::FILE;
    use super::token_family::{Origin, Token};
    use super::*;
    use std::fs::Permissions;
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    pub(crate) fn origin(key_id: &str) -> Origin {
        Origin {
            principal: "device-7".to_owned(),
            key_id: key_id.to_owned(),
            fingerprint: "ab".repeat(32),
        }
    }

    const NOW: u64 = 1_000_000;
    const TTL: u64 = 3600;
    /// Tells this test's child process where its store is.
    const CHILD: &str = "RINGMAIL_TEST_STORE";

    fn found(store: &Store) -> Token {
        let found = store.change(|change| change.families()?.start(origin("k"), NOW, TTL));
        found.expect("founded").token
    }

    fn rotate(store: &Store, token: &Token, now: u64) -> Option<Token> {
        let rotated = store.change(|change| change.families()?.rotate(token, now, TTL));
        rotated.expect("a store").ok().map(|rotated| rotated.token)
    }

    #[test]
    fn the_file_is_for_its_owner_and_for_one_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let inside = directory.path().join("state");
        let store = Store::open(&inside).expect("opens");
        let mode = |path: &Path| {
            let data = std::fs::metadata(path).expect("is there");
            data.permissions().mode() & 0o777
        };
        assert_eq!(mode(&inside.join(FILE)), 0o600);
        assert_eq!(mode(&inside), 0o700);
        let error = Store::open(&inside).err().expect("is taken");
        assert!(matches!(error, StateError::Taken { .. }), "{error}");
        assert_eq!(error.status().code(), 78);
        assert!(error.to_string().contains("--state-directory"), "{error}");
        drop(store);
        // A file with wider permissions is restricted again.
        let generous = Permissions::from_mode(0o644);
        std::fs::set_permissions(inside.join(FILE), generous).expect("mine");
        let _store = Store::open(&inside).expect("opens again");
        assert_eq!(mode(&inside.join(FILE)), 0o600);
    }

    #[test]
    fn a_restart_keeps_tokens_successors_and_revocations() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        let first = found(&store);
        let second = rotate(&store, &first, NOW).expect("rotated");
        let revoke = |store: &Store, text: &str, until| {
            let kept = store.change(|change| change.revoked()?.insert(text, until));
            kept.expect("kept");
        };
        revoke(&store, "{\"jti\":\"a\"}", NOW + 5);
        revoke(&store, "{\"jti\":\"b\"}", NOW + 50);
        revoke(&store, "{\"jti\":\"b\"}", NOW + 40);
        drop(store);
        let store = Store::open(directory.path()).expect("opens again");
        let again = rotate(&store, &first, NOW + 3).expect("within the grace");
        assert_eq!(again.text(), second.text(), "the same successor");
        assert!(rotate(&store, &second, NOW + 4).is_some());
        let kept = store.revocations().expect("read");
        let line = |id: &str, until| (format!("{{\"jti\":\"{id}\"}}"), until);
        assert_eq!(kept, [line("a", NOW + 5), line("b", NOW + 50)]);
        let forgotten = store.change(|change| change.revoked()?.forget(NOW + 5));
        assert_eq!(forgotten.expect("forgot"), 1);
        assert_eq!(store.revocations().expect("read"), [line("b", NOW + 50)]);
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        let token = found(&store);
        let failed: Result<(), StoreError> = store.change(|change| {
            let rotated = change.families()?.rotate(&token, NOW, TTL)?;
            assert!(rotated.is_ok());
            Err(StoreError::from(io::Error::other("the disk is full")))
        });
        assert!(failed.is_err());
        assert!(store.recover());
        // Long after any grace: it was not used.
        assert!(rotate(&store, &token, NOW + 1000).is_some());
    }

    #[test]
    fn after_a_failure_all_fails_until_the_same_file_is_open_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        let token = found(&store);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let failed = store.change(|_| Err::<(), _>(StoreError::from(full)));
        let cause = failed.expect_err("failed").to_string();
        let is_refused = |store: &Store| {
            let told = store.knows(&token).map_err(|error| error.to_string());
            told.is_err_and(|told| Some(told.into()) == store.health().cause())
        };
        assert_eq!(store.health().cause(), Some(cause.into()));
        assert!(is_refused(&store), "a reader");
        let path = directory.path().join(FILE);
        let aside = directory.path().join("aside");
        std::fs::rename(&path, &aside).expect("moved");
        assert!(!store.recover() && is_refused(&store), "it is gone");
        assert!(!path.exists(), "made anew");
        let other = tempfile::tempdir().expect("a directory");
        drop(Store::open(other.path()).expect("opens"));
        std::fs::copy(other.path().join(FILE), &path).expect("copied");
        assert!(!store.recover() && is_refused(&store), "another one");
        std::fs::rename(&aside, &path).expect("moved back");
        assert!(store.recover());
        assert_eq!(store.health().cause(), None);
        assert_eq!(store.health().failures(), 3);
        assert!(rotate(&store, &token, NOW).is_some(), "what it had, it has");
        let taken = Store::open(directory.path()).err().expect("still held");
        assert!(matches!(taken, StateError::Taken { .. }), "{taken}");
    }

    /// The child process of the test below: rotates forever and prints each token it gets.
    #[test]
    #[ignore = "the test below runs it as a process of its own"]
    fn child_that_rotates() {
        let Some(directory) = std::env::var_os(CHILD) else {
            return;
        };
        let store = Store::open(Path::new(&directory)).expect("opens");
        let mut token = found(&store);
        loop {
            println!("token {}", token.text());
            token = rotate(&store, &token, NOW).expect("the latest one");
        }
    }

    #[test]
    fn tokens_returned_before_a_kill_are_valid_after_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let name = "server::control::store::tests::child_that_rotates";
        for told in 1..=12 {
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .args([name, "--exact", "--ignored", "--nocapture"])
                .env(CHILD, directory.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("a child");
            let output = BufReader::new(child.stdout.take().expect("piped"));
            let mut tokens = output.lines().map_while(Result::ok).filter_map(|line| {
                let (_, text) = line.split_once("token ")?;
                Token::parse(text.trim().as_bytes())
            });
            let heard: Vec<Token> = tokens.by_ref().take(told).collect();
            // SIGKILL, somewhere in the work of the next ones.
            child.kill().expect("killed");
            child.wait().expect("ended");
            assert_eq!(heard.len(), told, "the child ended early");
            let store = Store::open(directory.path()).expect("repaired");
            // Even if it was used for a successor that was never reported, it yields a successor.
            let last = heard.last().expect("one at least");
            let next = rotate(&store, last, NOW + 5).expect("the last one told");
            let again = rotate(&store, last, NOW + 6).expect("within the grace");
            assert_eq!(next.text(), again.text());
            if let [.., before, _] = &heard[..] {
                assert!(rotate(&store, before, NOW + 60).is_none(), "used twice");
                assert!(
                    rotate(&store, &next, NOW + 60).is_none(),
                    "its token family has ended"
                );
            }
        }
    }
}
