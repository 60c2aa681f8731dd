//! The environment, and files that are none.

use crate::{ringmail, told};
use std::process::Command;

/// Nobody listens there: a command that understands its arguments ends with 69.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let variables = [
        "RINGMAIL_ADDRESS",
        "RINGMAIL_ADMIN_ADDRESS",
        "RINGMAIL_CLIENT_ID",
        "RINGMAIL_TLS",
        "RINGMAIL_TLS_CA",
        "RINGMAIL_CERT",
        "RINGMAIL_CERT_KEY",
        "RINGMAIL_TOKEN",
        "RINGMAIL_TOKEN_FILE",
        "RINGMAIL_API_KEY",
        "RINGMAIL_API_KEY_FILE",
        "RINGMAIL_STATE_DIRECTORY",
        "RINGMAIL__SERVER__LISTEN",
        "RINGMAIL__RING__ENTRIES",
        "RINGMAIL__NO__SUCH_KEY",
    ];
    let run = |args: &[&str]| {
        let mut command = ringmail(args);
        command.envs(variables.map(|name| (name, "")));
        told(command.output().unwrap())
    };
    let (code, _, errors) = run(&["req", "-a", NOBODY, "$sys/echo", "x"]);
    assert_eq!(code, 69, "{errors}");
    let (code, _, errors) = run(&["top", "--once", NOBODY]);
    assert_eq!(code, 69, "{errors}");
    let (code, _, errors) = run(&["check"]);
    assert_eq!(code, 0, "{errors}");
    let (code, _, errors) = run(&["serve", "--set", "ring.entries=3"]);
    assert_eq!(code, 78, "{errors}");
}

#[test]
fn a_fifo_that_nobody_writes_to_is_named_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let fifo = path.to_str().unwrap();
    let set = |key: &str| format!("{key}={fifo}");
    let (certificate, log, keys) = (
        set("tls.certificate"),
        set("log.file"),
        set("auth.jwt.jwks"),
    );
    let secret = set("auth.issuer.signing_secret_file");
    let tls = ["--set", "tls.mode=required", "--set", "tls.key=k"];
    let auth = ["--set", "auth.mode=required"];
    let rows: [(&[&str], i32); 9] = [
        (&["serve", "--config", fifo], 78),
        (&["check", "--config", fifo], 78),
        (&["serve", "--set", &log], 78),
        (
            &[&["check"][..], &tls, &["--set", &certificate]].concat(),
            78,
        ),
        (&[&["serve"][..], &auth, &["--set", &keys]].concat(), 78),
        (&["req", "-a", NOBODY, "--token-file", fifo, "x"], 2),
        (&["req", "-a", NOBODY, "--tls-ca", fifo, "x"], 69),
        (&[&["check"][..], &auth, &["--set", &secret]].concat(), 78),
        (
            &["token", "issue", "--subject", "s", "--secret-file", fifo],
            2,
        ),
    ];
    for (args, wanted) in rows {
        let (code, _, errors) = told(ringmail(args).output().unwrap());
        assert!(
            errors.contains("FIFO") && errors.contains("fifo"),
            "{args:?}: {errors}"
        );
        assert_eq!(code, wanted, "{args:?}: {errors}");
    }
}
