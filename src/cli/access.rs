//! Credentials and TLS options of a client command: from flags, else from environment variables.
//!
//! # Secrets on the command line
//! Every user can read `/proc/PID/cmdline`, which `ps` shows; only the same user and root can read
//! `/proc/PID/environ`. So a process that finds a secret among its arguments moves it to its
//! environment and executes itself again, under the same id, before it does anything else
//! ([`conceal`]). The secret is exposed only in between. Commands that a command starts do not get
//! these variables.

use super::args::{Access, Credential as Flags};
use super::failure::Failure;
use crate::base::exit::Status;
use crate::base::file;
use crate::client::{Builder, Credential, Secret, Tls};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The secrets' flags and variables.
const SECRETS: [(&str, &str); 2] = [
    ("--token", "RINGMAIL_TOKEN"),
    ("--api-key", "RINGMAIL_API_KEY"),
];
const FILES: [(&str, &str); 2] = [
    ("--token-file", "RINGMAIL_TOKEN_FILE"),
    ("--api-key-file", "RINGMAIL_API_KEY_FILE"),
];

/// Bytes of a secret's file: far more than a token has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a credential comes from.
enum Origin {
    Given(Credential),
    File(PathBuf, fn(Secret) -> Credential),
}

/// A builder that has the credential and the TLS of these flags.
///
/// # Errors
/// Usage: variables of several credentials, or a file that cannot be read.
pub fn apply<C>(builder: Builder<C>, access: &Access) -> Result<Builder<C>, Failure> {
    let builder = match origin(&access.credential)? {
        None => builder,
        Some(Origin::Given(credential)) => builder.credential(credential),
        Some(Origin::File(path, kind)) => {
            read(&path).map_err(|text| Failure::new(Status::Usage, text))?;
            builder.credential_by(move || read(&path).map(kind))
        }
    };
    Ok(match tls(access) {
        Some(tls) => builder.tls(tls),
        None => builder,
    })
}

/// The credential of these flags, for commands that present it by themselves.
///
/// # Errors
/// As [`apply`].
#[cfg(feature = "bench")]
pub fn credential(access: &Access) -> Result<Option<Credential>, Failure> {
    shown(&access.credential)
}

/// As [`credential`], for commands without TLS.
///
/// # Errors
/// As [`apply`].
pub fn shown(flags: &Flags) -> Result<Option<Credential>, Failure> {
    Ok(match origin(flags)? {
        None => None,
        Some(Origin::Given(credential)) => Some(credential),
        Some(Origin::File(path, kind)) => {
            let secret = read(&path).map_err(|text| Failure::new(Status::Usage, text))?;
            Some(kind(secret))
        }
    })
}

/// The TLS options, if a flag asks for TLS.
pub fn tls(access: &Access) -> Option<Tls> {
    let wanted = access.tls || access.tls_ca.is_some() || access.cert.is_some();
    let mut tls = wanted.then(Tls::default)?;
    if let Some(ca) = &access.tls_ca {
        tls = tls.ca(ca);
    }
    if let Some(cert) = &access.cert {
        tls = tls.identity(cert, access.cert_key.as_ref().unwrap_or(cert));
    }
    Some(tls)
}

fn origin(flags: &Flags) -> Result<Option<Origin>, Failure> {
    let given = from(
        flags.token.clone(),
        flags.token_file.clone(),
        flags.api_key.clone(),
        flags.api_key_file.clone(),
    );
    if let Some(origin) = given.into_iter().next() {
        return Ok(Some(origin));
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let secret = |name| {
        let value: Option<OsString> = variable(name);
        value.map(|value| Secret::new(value.to_string_lossy()))
    };
    let path = |name| variable(name).map(PathBuf::from);
    let mut found = from(
        secret(SECRETS[0].1),
        path(FILES[0].1),
        secret(SECRETS[1].1),
        path(FILES[1].1),
    );
    if found.len() > 1 {
        let text = "several credentials are in the environment (RINGMAIL_TOKEN, \
                    RINGMAIL_TOKEN_FILE, RINGMAIL_API_KEY, RINGMAIL_API_KEY_FILE); unset all \
                    but one";
        return Err(Failure::new(Status::Usage, text));
    }
    Ok(found.pop())
}

fn from(
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
) -> Vec<Origin> {
    let origins = [
        token.map(|token| Origin::Given(Credential::Token(token))),
        token_file.map(|file| Origin::File(file, Credential::Token)),
        key.map(|key| Origin::Given(Credential::ApiKey(key))),
        key_file.map(|file| Origin::File(file, Credential::ApiKey)),
    ];
    origins.into_iter().flatten().collect()
}

/// The secret in a file, without surrounding white space.
///
/// # Errors
/// Why it cannot be read, with the remedy.
pub fn read(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let text = file::read(path, FILE_BYTES_MAX)
        .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    match text {
        Ok(text) if text.trim().is_empty() => Err(format!(
            "{shown} is empty; write the token or API key into it"
        )),
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(error) => Err(format!(
            "{shown} cannot be read: {error}; name a file with the token or API key"
        )),
    }
}

/// Removes this process's credential from a command's environment.
pub fn without_secrets(command: &mut Command) -> &mut Command {
    for (_, variable) in SECRETS.iter().chain(&FILES) {
        command.env_remove(variable);
    }
    command
}

/// Executes this program again with a secret among its arguments moved to the environment;
/// returns if there is none.
///
/// # Errors
/// If the program cannot be executed again.
pub fn conceal() -> Result<(), Failure> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let Some(moved) = take_secret(&args) else {
        return Ok(());
    };
    let failure = |error| {
        let remedy = "give the secret as a file or a variable";
        let text = format!("cannot move a secret off the command line: {error}; {remedy}");
        Failure::new(Status::Runtime, text)
    };
    let mut command = Command::new(std::env::current_exe().map_err(failure)?);
    let mut rest = moved.args.into_iter();
    if let Some(name) = rest.next() {
        command.arg0(name);
    }
    without_secrets(&mut command).args(rest);
    command.env(moved.variable, moved.value);
    Err(failure(command.exec()))
}

/// A command line with its secret removed.
#[derive(Debug, PartialEq, Eq)]
struct Moved {
    args: Vec<OsString>,
    variable: &'static str,
    value: OsString,
}

/// Also `None` for what clap will refuse: no value, or several credentials.
fn take_secret(args: &[OsString]) -> Option<Moved> {
    let mut found: Option<Moved> = None;
    let options = args.iter().position(|arg| arg == "--");
    let (options, _) = args.split_at(options.unwrap_or(args.len()));
    let mut index = 1;
    while index < options.len() {
        let arg = options[index].as_bytes();
        let (name, inline) = match arg.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&arg[..equals], Some(&arg[equals + 1..])),
            None => (arg, None),
        };
        let is = |(flag, _): &&(&str, &str)| flag.as_bytes() == name;
        if FILES.iter().any(|known| is(&known)) {
            return None;
        }
        let Some((_, variable)) = SECRETS.iter().find(is) else {
            index += 1;
            continue;
        };
        let (value, width) = match inline {
            Some(value) => (value, 1),
            None => (options.get(index + 1)?.as_bytes(), 2),
        };
        if found.is_some() || value.is_empty() {
            return None;
        }
        found = Some(Moved {
            args: [&args[..index], &args[index + width..]].concat(),
            variable,
            value: OsString::from_vec(OsStr::from_bytes(value).as_bytes().to_vec()),
        });
        index += width;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_secret_is_taken_out_of_the_arguments() {
        for (line, rest, variable) in [
            ("r req --token hush a b", "r req a b", "RINGMAIL_TOKEN"),
            ("r req --token=hush a", "r req a", "RINGMAIL_TOKEN"),
            ("r req a --api-key hush", "r req a", "RINGMAIL_API_KEY"),
            (
                "r req --api-key=hush -- --token x",
                "r req -- --token x",
                "RINGMAIL_API_KEY",
            ),
        ] {
            let moved = take_secret(&args(line)).unwrap();
            assert_eq!(moved.args, args(rest), "{line}");
            assert_eq!((moved.variable, moved.value), (variable, "hush".into()));
        }
    }

    #[test]
    fn arguments_that_are_not_secrets_stay() {
        for line in [
            "r",
            "r req a b",
            "r req -- --token hush",
            "r req --token",
            "r req --token=",
            "r req --tokens hush",
            "r req --token a --api-key b",
            "r req --token a --token-file b",
        ] {
            assert_eq!(take_secret(&args(line)), None, "{line}");
        }
    }

    #[test]
    fn a_secret_file_is_read_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(read(file.path()).unwrap_err().contains("is empty"));
        std::fs::write(&file, "hush\n").unwrap();
        assert_eq!(read(file.path()).unwrap().expose(), "hush");
        assert!(
            read(Path::new("/nowhere/x"))
                .unwrap_err()
                .contains("cannot be read")
        );
    }
}
