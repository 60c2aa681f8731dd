//! What access control keeps on disk: `access.redb` in the state directory.
//!
//! - `family`: refresh tokens, by their hashes.
//! - `revoked`: revocations.
//!
//! One transaction is one change of [`Store::change`]; when it returns, the change is on
//! the disk, and a crash at any point leaves the state before it or after it (redb commits
//! with an fsync). An answer that tells of a change is given only afterwards.
//!
//! The file is for its owner alone (0600), and one process: redb locks it.

pub(super) mod family;
pub(super) mod revoked;

use crate::server::state::{self, StateError};
use aws_lc_rs::hmac;
use family::Families;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableTable, TableDefinition, WriteTransaction};
use revoked::Revoked;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The file's name in the state directory.
const FILE: &str = "access.redb";
/// Memory for its pages: a family has about 300 bytes, the working set is small.
const CACHE_BYTES: usize = 8 << 20;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The key in `META` of what successors are derived with.
const SECRET: &str = "successor_secret";
const SECRET_BYTES: usize = 32;

/// The disk or the file failed; what was asked has not happened. After a failure to read or
/// write, redb takes no more changes until the file is opened again: by a restart.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError(Box::new(error.into()))
    }
}

/// The open file. Shared between threads; changes take turns.
pub struct Store {
    database: Database,
    /// Successors of refresh tokens are derived with it.
    successor: hmac::Key,
}

impl Store {
    /// Opens the store in `directory`; both are made if they are not there.
    ///
    /// # Errors
    /// The directory cannot be used, another server has the file, or it is none of ours.
    pub fn open(directory: &Path) -> Result<Store, StateError> {
        state::make(directory)?;
        let unusable = |cause| StateError::Directory {
            path: directory.to_owned(),
            cause,
        };
        let file = open_private(&directory.join(FILE)).map_err(unusable)?;
        let backend = FileBackend::new(file).map_err(|error| told(directory, error))?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| told(directory, error))?;
        let made = Store::on(database).map_err(|error| StateError::Unreadable {
            path: directory.to_owned(),
            cause: error.to_string(),
            remedy: "is the disk full?",
        })?;
        Ok(made)
    }

    fn on(database: Database) -> Result<Store, StoreError> {
        let transaction = database.begin_write()?;
        let successor = {
            let mut meta = transaction.open_table(META)?;
            let kept = meta.get(SECRET)?.map(|secret| secret.value().to_vec());
            let secret = match kept {
                Some(secret) => secret,
                None => {
                    let secret = random::<SECRET_BYTES>()?;
                    meta.insert(SECRET, secret.as_slice())?;
                    secret.to_vec()
                }
            };
            hmac::Key::new(hmac::HMAC_SHA256, &secret)
        };
        // Made now, so that readers find them.
        Families::open(&transaction, &successor)?;
        Revoked::open(&transaction)?;
        transaction.commit()?;
        Ok(Store {
            database,
            successor,
        })
    }

    /// Makes one change: all of `work` happens, on the disk, or nothing of it.
    ///
    /// # Errors
    /// The disk failed, or `work` did.
    pub fn change<R>(
        &self,
        work: impl FnOnce(&Change<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let transaction = self.database.begin_write()?;
        let change = Change {
            transaction: &transaction,
            successor: &self.successor,
        };
        let result = work(&change)?;
        transaction.commit()?;
        Ok(result)
    }
}

/// A change in the making.
pub struct Change<'t> {
    transaction: &'t WriteTransaction,
    successor: &'t hmac::Key,
}

impl<'t> Change<'t> {
    /// Refresh tokens. One at a time.
    pub fn families(&self) -> Result<Families<'t>, StoreError> {
        Families::open(self.transaction, self.successor)
    }

    /// Revocations. One at a time.
    pub fn revoked(&self) -> Result<Revoked<'t>, StoreError> {
        Revoked::open(self.transaction)
    }
}

/// Bytes nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let error = io::Error::other(format!("the system has no random numbers: {error}"));
        redb::Error::Io(error)
    })?;
    Ok(bytes)
}

/// Opens or makes a file that only its owner may read.
fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // Whoever copied it back from somewhere may have been generous.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn told(directory: &Path, error: DatabaseError) -> StateError {
    let path = directory.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StateError::Taken { path }
        }
        error => StateError::Unreadable {
            path,
            cause: format!("{FILE}: {error}"),
            remedy: "move that file away to begin anew: clients authenticate by their API keys \
                     again, and revocations are forgotten",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::family::{Founder, Token};
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    pub(crate) fn founder(key_id: &str) -> Founder {
        Founder {
            principal: "device-7".to_owned(),
            key_id: key_id.to_owned(),
            fingerprint: "ab".repeat(32),
        }
    }

    const NOW: u64 = 1_000_000;
    const TTL: u64 = 3600;
    /// Says to the child of this test where its store is.
    const CHILD: &str = "RINGMAIL_TEST_STORE";

    fn found(store: &Store) -> Token {
        let found = store.change(|change| change.families()?.found(founder("k"), NOW, TTL));
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
        // A generous copy is closed again.
        let generous = Permissions::from_mode(0o644);
        std::fs::set_permissions(inside.join(FILE), generous).expect("mine");
        let _store = Store::open(&inside).expect("opens again");
        assert_eq!(mode(&inside.join(FILE)), 0o600);
    }

    #[test]
    fn a_file_of_another_kind_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(FILE);
        let text = "not a database\n".repeat(1000);
        std::fs::write(&file, &text).expect("written");
        let error = Store::open(directory.path()).err().expect("refused");
        assert!(error.to_string().contains("move that file away"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).expect("still there"), text);
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
        // Long after any grace: it was not used.
        assert!(rotate(&store, &token, NOW + 1000).is_some());
    }

    /// The child of the test below: rotates for ever and says each token it was given.
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
    fn what_was_told_before_a_kill_holds_after_it() {
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
            // Whether or not it was used for one nobody was told of, it gives a successor.
            let last = heard.last().expect("one at least");
            let next = rotate(&store, last, NOW + 5).expect("the last one told");
            let again = rotate(&store, last, NOW + 6).expect("within the grace");
            assert_eq!(next.text(), again.text());
            if let [.., before, _] = &heard[..] {
                assert!(rotate(&store, before, NOW + 60).is_none(), "used twice");
                assert!(
                    rotate(&store, &next, NOW + 60).is_none(),
                    "its kin has ended"
                );
            }
        }
    }
}
