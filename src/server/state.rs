//! The state directory, which holds what must survive a restart (refresh tokens, revocations):
//! choosing and creating it.
//!
//! No key of the configuration names it: where a program keeps its state is the host's
//! business, as it is the service manager's. In this order: `--state-directory` or
//! RINGMAIL_STATE_DIRECTORY, STATE_DIRECTORY (systemd.exec(5), the first of several),
//! `$XDG_STATE_HOME/ringmail`, `~/.local/state/ringmail`.

use crate::base::exit::Status;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "there is no place for the server's state: neither HOME nor XDG_STATE_HOME is set; \
         name one with --state-directory"
    )]
    Nowhere,
    #[error(
        "the state directory {} cannot be used: {cause}; {}name another with --state-directory",
        path.display(), room(.cause)
    )]
    Directory { path: PathBuf, cause: io::Error },
    #[error(
        "the state in {} belongs to a running server; stop that one, or name another \
         directory with --state-directory", path.display()
    )]
    Taken { path: PathBuf },
    #[error("the state in {} cannot be read: {cause}; {remedy}", path.display())]
    Unreadable {
        path: PathBuf,
        cause: String,
        remedy: &'static str,
    },
}

impl StateError {
    /// The exit status this error asks for.
    pub fn status(&self) -> Status {
        match self {
            StateError::Directory { cause, .. }
                if cause.kind() == io::ErrorKind::PermissionDenied =>
            {
                Status::Permission
            }
            // A later start may find the disk in order.
            StateError::Directory { cause, .. } if is_disk(cause) => Status::Unavailable,
            _ => Status::Config,
        }
    }
}

/// Whether the disk is full or broken, rather than the configuration wrong.
fn is_disk(cause: &io::Error) -> bool {
    is_full(cause) || matches!(cause.raw_os_error(), Some(libc::EIO | libc::ESTALE))
}

fn is_full(cause: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(cause.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

fn room(cause: &io::Error) -> &'static str {
    match is_full(cause) {
        true => "make room there, or ",
        false => "",
    }
}

/// The directory for this process if none was named, from the environment that `variable` reads.
///
/// # Errors
/// If the environment names no directory.
pub fn default_directory(
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, StateError> {
    let path = |name| {
        let text = variable(name).filter(|text| !text.is_empty())?;
        Some(PathBuf::from(text))
    };
    if let Some(list) = variable("STATE_DIRECTORY")
        && let Some(first) = std::env::split_paths(&list).find(|path| path.is_absolute())
    {
        return Ok(first);
    }
    // A relative path has to be ignored (XDG Base Directory Specification).
    let state_home = path("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state_home = state_home.or_else(|| Some(path("HOME")?.join(".local/state")));
    match state_home {
        Some(home) => Ok(home.join("ringmail")),
        None => Err(StateError::Nowhere),
    }
}

/// Creates `directory` and its missing parents; only the owner may access it.
pub(super) fn make(directory: &Path) -> Result<(), StateError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|cause| StateError::Directory {
        path: directory.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(found.1))
        };
        let path = default_directory(variable).ok()?;
        Some(path.to_str().expect("text").to_owned())
    }

    #[test]
    fn the_environment_names_the_place_systemd_first() {
        let home = ("HOME", "/users/a");
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[("HOME", "")]), None);
        let is = |path: &str| Some(path.to_owned());
        assert_eq!(chosen(&[home]), is("/users/a/.local/state/ringmail"));
        let xdg = ("XDG_STATE_HOME", "/state");
        assert_eq!(chosen(&[home, xdg]), is("/state/ringmail"));
        let relative = ("XDG_STATE_HOME", "state");
        assert_eq!(
            chosen(&[home, relative]),
            is("/users/a/.local/state/ringmail")
        );
        let systemd = ("STATE_DIRECTORY", "/var/lib/ringmail:/var/lib/other");
        assert_eq!(chosen(&[home, xdg, systemd]), is("/var/lib/ringmail"));
    }

    #[test]
    fn a_directory_that_cannot_be_created_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = make(&file.path().join("below")).expect_err("a file is no directory");
        let text = error.to_string();
        assert!(
            text.contains("below") && text.contains("--state-directory"),
            "{text}"
        );
        assert_eq!(error.status(), Status::Config);
    }
}
