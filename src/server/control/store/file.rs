//! The file on disk: opened, or created atomically.
//!
//! ```text
//!   access.redb.new ── tables, secret, fsync ──► renamed ──► access.redb ── fsync of the directory
//! ```
//!
//! - A file with the final name is complete: a start that is interrupted (killed, no room) leaves
//!   at most the temporary name, which the next start removes.
//! - One server at a time has the directory: its lock is held as long as the store is open, so that
//!   no other server gets in while the file is closed and reopened.
//!
//! A file that is foreign, damaged, or of another version is left untouched and reported.

use super::error::StoreError;
use crate::server::state::{self, StateError};
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file's name in the state directory.
pub(super) const FILE: &str = "access.redb";
/// Its name until it is complete.
pub(super) const NEW: &str = "access.redb.new";
/// Memory for its pages: a family has about 300 bytes, the working set is small.
const CACHE_BYTES: usize = 8 << 20;
/// The most bytes of redb's header; nothing else is written before its magic number.
const HEADER_BYTES: usize = 4096;
const MAGIC_BYTES: usize = 9;
/// The largest size of a file that redb has only begun.
const BEGUN_BYTES_MAX: u64 = 16 << 20;

/// The directory, locked for this process until this is dropped.
pub(super) struct Held {
    directory: PathBuf,
    /// `None`: its file system has no locks; only the file's own lock protects it.
    _lock: Option<File>,
}

/// Creates the directory if it is missing, and locks it.
///
/// # Errors
/// If it cannot be used, or another server has it.
pub(super) fn hold(directory: &Path) -> Result<Held, StateError> {
    state::make(directory)?;
    let lock = File::open(directory).map_err(|cause| unusable(directory, cause))?;
    let lock = match lock.try_lock() {
        Ok(()) => Some(lock),
        Err(TryLockError::WouldBlock) => {
            let path = directory.to_owned();
            return Err(StateError::Taken { path });
        }
        Err(TryLockError::Error(_)) => None,
    };
    Ok(Held {
        directory: directory.to_owned(),
        _lock: lock,
    })
}

impl Held {
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the file, or creates it with the content that `furnish` writes. Returns whether it was
    /// created.
    ///
    /// # Errors
    /// As the module's head says, or if the disk fails.
    pub(super) fn open(
        &self,
        furnish: impl Fn(&Database) -> Result<(), StoreError>,
    ) -> Result<(Database, bool), StateError> {
        let refused = |error| self.refused(error);
        self.remove(NEW).map_err(|cause| self.unusable(cause))?;
        match self.is_there().map_err(|cause| self.unusable(cause))? {
            true => Ok((self.open_existing().map_err(refused)?, false)),
            false => match self.make(|file| file, furnish) {
                Ok(database) => Ok((database, true)),
                Err(error) => {
                    // The next start would remove it too, but it is useless already.
                    let _ = self.remove(NEW);
                    Err(refused(error))
                }
            },
        }
    }

    /// Reopens the file; one that has disappeared is not created again.
    ///
    /// # Errors
    /// If it is missing or unusable, or the disk fails.
    pub(super) fn open_existing(&self) -> Result<Database, StoreError> {
        let file = open_private(&self.directory.join(FILE))?;
        database(FileBackend::new(file)?)
    }

    /// Whether there is a file to open. One that was only begun (by a version that created it under
    /// its final name) holds nothing and is removed.
    fn is_there(&self) -> io::Result<bool> {
        let path = self.directory.join(FILE);
        match fs::metadata(&path) {
            Ok(data) if !data.is_file() => Err(io::Error::other(format!("{FILE} is not a file"))),
            Ok(data) if data.len() <= BEGUN_BYTES_MAX && is_only_begun(&path)? => {
                self.remove(FILE)?;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `wrap` wraps the new file's storage for redb.
    fn make<B: StorageBackend>(
        &self,
        wrap: impl FnOnce(FileBackend) -> B,
        furnish: impl Fn(&Database) -> Result<(), StoreError>,
    ) -> Result<Database, StoreError> {
        let new = self.directory.join(NEW);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let whole = file.try_clone()?;
        let database = database(wrap(FileBackend::new(file)?))?;
        furnish(&database)?;
        whole.sync_all()?;
        fs::rename(&new, self.directory.join(FILE))?;
        match File::open(&self.directory)?.sync_all() {
            // Not every file system can sync a directory.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error.into()),
            _ => Ok(database),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn unusable(&self, cause: io::Error) -> StateError {
        unusable(&self.directory, cause)
    }

    /// The error as an operator needs it: whether the disk or the file is at fault.
    pub(super) fn refused(&self, error: StoreError) -> StateError {
        let path = self.directory.clone();
        match error {
            StoreError::Redb(error) => match *error {
                redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                    StateError::Taken { path }
                }
                redb::Error::Io(cause) if !is_of_the_content(&cause) => {
                    unusable(&self.directory, cause)
                }
                error => StateError::Unreadable {
                    path,
                    cause: format!("{FILE}: {error}"),
                    remedy: "it is damaged, or another version wrote it: run that version, or \
                             move the file away to start afresh: clients then authenticate by \
                             their API keys again, and revocations are forgotten",
                },
            },
            StoreError::Failing(cause) => unusable(&self.directory, io::Error::other(&*cause)),
        }
    }
}

fn unusable(directory: &Path, cause: io::Error) -> StateError {
    StateError::Directory {
        path: directory.to_owned(),
        cause,
    }
}

/// Whether the file's content is wrong, rather than the disk.
fn is_of_the_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

fn database(backend: impl StorageBackend) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    let opened = builder
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend);
    opened.map_err(|error: DatabaseError| error.into())
}

/// Whether a file is one that redb began and did not finish: no magic number, and only zeros after
/// the header.
fn is_only_begun(path: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(BEGUN_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    let zeros = |part: &[u8]| part.iter().all(|byte| *byte == 0);
    let magic = &bytes[..bytes.len().min(MAGIC_BYTES)];
    Ok(zeros(magic) && zeros(bytes.get(HEADER_BYTES..).unwrap_or_default()))
}

/// Opens a file that only its owner may read.
fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // A restored copy may have wider permissions.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tempfile::TempDir;

    /// A disk that fails after a number of writes, as when the process is killed or the disk full.
    #[derive(Debug)]
    struct Ending {
        file: FileBackend,
        left: AtomicUsize,
    }

    impl Ending {
        fn spend(&self) -> io::Result<()> {
            let spent = self
                .left
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            match spent {
                Ok(_) => Ok(()),
                Err(_) => Err(io::ErrorKind::StorageFull.into()),
            }
        }
    }

    impl StorageBackend for Ending {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.spend()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.spend()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.spend()?;
            self.file.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.file.close()
        }

        fn try_lock_range(
            &self,
            start: Bound<u64>,
            end: Bound<u64>,
        ) -> Result<bool, redb::BackendError> {
            self.file.try_lock_range(start, end)
        }

        fn unlock_range(
            &self,
            start: Bound<u64>,
            end: Bound<u64>,
        ) -> Result<(), redb::BackendError> {
            self.file.unlock_range(start, end)
        }
    }

    fn furnish(database: &Database) -> Result<(), StoreError> {
        super::super::furnish(database).map(drop)
    }

    fn names(directory: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).expect("a directory");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("read").file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_start_that_ends_anywhere_in_the_making_is_in_nobodys_way() {
        let mut ends = 0;
        loop {
            let directory = tempfile::tempdir().expect("a directory");
            let held = hold(directory.path()).expect("held");
            let left = AtomicUsize::new(ends);
            let made = held.make(|file| Ending { file, left }, furnish);
            let is_whole = made.is_ok();
            drop(made);
            assert_eq!(directory.path().join(FILE).exists(), is_whole, "{ends}");
            let (again, is_new) = held.open(furnish).expect("the next start");
            assert_eq!(is_new, !is_whole, "{ends}");
            drop(again);
            assert_eq!(names(&directory), [FILE], "{ends}");
            if is_whole {
                break;
            }
            ends += 1;
        }
        assert!(ends > 5, "it has more steps than {ends}");
    }

    #[test]
    fn an_existing_file_is_opened_recreated_or_refused_with_its_name() {
        let whole = {
            let directory = tempfile::tempdir().expect("a directory");
            drop(hold(directory.path()).expect("held").open(furnish));
            fs::read(directory.path().join(FILE)).expect("made")
        };
        let begun = |header: &[u8]| [header, &[0; 9000]].concat();
        let mut headless = whole.clone();
        headless[..MAGIC_BYTES].fill(0);
        // The file's content, and whether it is created anew; `None`: refused and left untouched.
        let rows = [
            ("whole", whole.clone(), Some(false)),
            ("without a byte", Vec::new(), Some(true)),
            ("zeros", begun(&[]), Some(true)),
            ("a header without its magic", begun(&whole[9..300]), None),
            (
                "begun",
                begun(&[&[0; 9], &whole[9..300]].concat()),
                Some(true),
            ),
            ("headless", headless, None),
            ("cut", whole[..4096].to_vec(), None),
            ("text", b"hello\n".repeat(100), None),
        ];
        for (name, content, is_new) in rows {
            let directory = tempfile::tempdir().expect("a directory");
            fs::write(directory.path().join(FILE), &content).expect("written");
            fs::write(directory.path().join(NEW), "left over").expect("written");
            let held = hold(directory.path()).expect("held");
            match held.open(furnish) {
                Ok((_, made)) => assert_eq!(Some(made), is_new, "{name}"),
                Err(error) => {
                    assert_eq!(is_new, None, "{name}: {error}");
                    assert!(error.to_string().contains("move the file away"), "{error}");
                    let kept = fs::read(directory.path().join(FILE)).expect("there");
                    assert_eq!(kept.len(), content.len(), "{name}");
                }
            }
            assert_eq!(names(&directory), [FILE], "{name}");
        }
    }
}
