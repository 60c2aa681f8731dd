//! Credentials and TLS of the client commands, against a real server that asks for both; and
//! `token`.

use crate::broker::Broker;
use crate::{ringmail, run, run_with_input, told};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ringmail::blocking::Client;
use ringmail::client::{Code, Credential, Error, Reconnect, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SECRET: &str = "of-32-bytes-and-more-0123456789abcdef";

/// A server that speaks TLS only and asks everybody who they are; and what its clients need.
struct Guarded {
    broker: Broker,
    directory: tempfile::TempDir,
    key: String,
}

impl Guarded {
    fn start(tls_mode: &str) -> Guarded {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::write(file(name), text).unwrap();
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(file(name), private).unwrap();
        };
        certificates(&write);
        let (code, key, lines) = run(&["token", "key", "thing-7"]);
        assert_eq!(code, 0, "{lines}");
        let tables = lines.split_once("[[auth.api_key]]").unwrap().1;
        let mut text = format!(
            "[auth]\nmode = \"required\"\n[auth.jwt]\nsecret = \"{SECRET}\"\n[[auth.api_key]]{tables}\n\
             [roles.device]\npublish = [\"devices/{{principal}}/#\", \"units/{{client_id}}/#\"]\n\
             subscribe = [\"devices/{{principal}}/#\"]\nrequest = [\"$sys/echo\", \"devices/{{principal}}/+\"]\n\
             serve = [\"devices/{{principal}}/+\"]\n"
        );
        if tls_mode != "off" {
            text += &format!(
                "[tls]\nmode = \"{tls_mode}\"\ncertificate = {:?}\nkey = {:?}\n",
                file("server.pem"),
                file("server.key")
            );
        }
        write("ringmail.toml", &text);
        write("key", &key);
        write("secret", SECRET);
        Guarded {
            broker: Broker::with_file(Some(&file("ringmail.toml")), &[]),
            key: key.trim().to_owned(),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn token(&self, ttl: &str) -> String {
        let secret = self.text("secret");
        let args = ["token", "issue", "--secret-file", &secret, "--ttl", ttl];
        let (code, token, errors) =
            run(&[&args[..], &["--subject", "thing-7", "--role", "device"]].concat());
        assert_eq!((code, errors.as_str()), (0, ""));
        token.trim().to_owned()
    }
}

fn certificates(write: &dyn Fn(&str, &str)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority");
    write("ca.pem", &params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    write(
        "server.pem",
        &params.signed_by(&own, &issuer).unwrap().pem(),
    );
    write("server.key", &own.serialize_pem());
}

#[test]
fn a_device_gets_in_by_its_key_over_tls_and_has_its_own_topics() {
    let guarded = Guarded::start("required");
    let broker = &guarded.broker;
    let (ca, key) = (guarded.text("ca.pem"), guarded.text("key"));
    let access = ["--tls-ca", &ca, "--api-key-file", &key];
    let with = |args: &[&str]| broker.run(&[args, &access].concat());
    let watcher = [&["sub", "devices/thing-7/#", "--count", "1"], &access[..]].concat();
    let watcher = broker.tool(&watcher).ready();
    let published = with(&["pub", "devices/thing-7/door", "open", "--confirm"]);
    assert_eq!(published, (0, String::new(), String::new()));
    let (code, out, errors) = watcher.end();
    assert!(code == 0 && out.contains("open"), "{out}{errors}");
    let (code, answer, _) = with(&["req", "$sys/echo", "hello"]);
    assert_eq!((code, answer.as_str()), (0, "hello"));
    let (code, _, errors) = with(&["ping", "--count", "1"]);
    assert_eq!(code, 0, "{errors}");
    let (code, _, errors) = with(&["pub", "devices/other/door", "open", "--confirm"]);
    assert!(
        code == 77 && errors.contains("FORBIDDEN"),
        "{code} {errors}"
    );
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_remedy() {
    let guarded = Guarded::start("required");
    let broker = &guarded.broker;
    let (ca, key) = (guarded.text("ca.pem"), guarded.text("key"));
    let req = |more: &[&str]| {
        let (code, _, errors) = broker.run(&[&["req", "$sys/echo", "x"], more].concat());
        (code, errors)
    };
    let (code, errors) = req(&["--api-key-file", &key]);
    assert!(
        code == 69 && errors.contains("ringmails://"),
        "{code} {errors}"
    );
    let (code, errors) = req(&["--tls", "--api-key-file", &key]);
    assert!(code == 69 && errors.contains("--tls-ca"), "{code} {errors}");
    let (code, errors) = req(&["--tls-ca", &ca]);
    assert!(
        code == 77 && errors.contains("give a token or an API key"),
        "{code} {errors}"
    );
    let (code, errors) = req(&["--tls-ca", &ca, "--api-key", "thing-7.wrong"]);
    assert!(
        code == 77 && errors.contains("AUTH_FAILED"),
        "{code} {errors}"
    );
    assert!(!errors.contains("thing-7.wrong"), "{errors}");
    let (code, errors) = req(&["--tls-ca", "/nowhere.pem"]);
    assert!(
        code == 69 && errors.contains("/nowhere.pem cannot be read"),
        "{code} {errors}"
    );
    let (code, errors) = req(&["--token", "a", "--api-key", "b"]);
    assert!(
        code == 2 && errors.contains("cannot be used with"),
        "{code} {errors}"
    );
}

#[test]
fn a_client_has_the_topics_of_the_id_it_gives_itself() {
    let guarded = Guarded::start("off");
    let key = guarded.text("key");
    let publish = |more: &[&str]| {
        let command = ["pub", "units/u-1/state", "on", "--confirm"];
        let args = [&command[..], &["--api-key-file", &key], more].concat();
        let (code, _, errors) = guarded.broker.run(&args);
        (code, errors)
    };
    assert_eq!(publish(&["--client-id", "u-1"]), (0, String::new()));
    for others in [&[][..], &["--client-id", "u-2"]] {
        let (code, errors) = publish(others);
        assert!(
            code == 77 && errors.contains("FORBIDDEN"),
            "{code} {errors}"
        );
    }
    let (code, errors) = publish(&["--client-id", "u 1"]);
    assert!(
        code == 2 && errors.contains("client id \"u 1\": 1 to 64 of"),
        "{code} {errors}"
    );
}

/// Whatever way a secret is given, nobody else can read it from the process.
#[test]
fn no_secret_stays_on_the_command_line_or_reaches_a_service_command() {
    let guarded = Guarded::start("off");
    let flag = format!("--api-key={}", guarded.key);
    let service = "devices/thing-7/env";
    for credential in [&["--api-key", &guarded.key][..], &[&flag]] {
        let args = [
            &[
                "reply",
                service,
                "--exec",
                "env; tr '\\0' ' ' < /proc/$PPID/cmdline",
            ],
            credential,
        ];
        let tool = guarded.broker.tool(&args.concat()).ready();
        let cmdline = std::fs::read_to_string(format!("/proc/{}/cmdline", tool.id())).unwrap();
        assert!(
            cmdline.contains(service) && !cmdline.contains(&guarded.key),
            "{cmdline}"
        );
        assert!(!cmdline.contains("--api-key"), "{cmdline}");
        let key = guarded.text("key");
        let (code, shown, errors) = guarded
            .broker
            .run(&["req", service, "--api-key-file", &key]);
        assert!(
            code == 0 && shown.contains("PATH=") && shown.contains("reply"),
            "{errors}"
        );
        assert!(!shown.contains(&guarded.key), "{shown}");
        tool.interrupt();
        let (_, out, errors) = tool.end();
        assert!(!out.contains(&guarded.key) && !errors.contains(&guarded.key));
    }
}

#[test]
fn a_variable_serves_and_a_flag_wins_over_it() {
    let guarded = Guarded::start("off");
    let req = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = ringmail(&[&["req", "$sys/echo", "hi"], args].concat());
        command.env("RINGMAIL_ADDRESS", &guarded.broker.address);
        told(command.envs(variables.iter().copied()).output().unwrap())
    };
    let token = guarded.token("1m");
    let key_file = guarded.text("key");
    for variable in [
        ("RINGMAIL_API_KEY", &*guarded.key),
        ("RINGMAIL_TOKEN", &token),
        ("RINGMAIL_API_KEY_FILE", &key_file),
    ] {
        assert_eq!(req(&[variable], &[]), (0, "hi".to_owned(), String::new()));
    }
    let wrong = ("RINGMAIL_TOKEN", "wrong");
    assert_eq!(req(&[wrong], &[]).0, 77);
    assert_eq!(req(&[wrong], &["--api-key", &guarded.key]).0, 0);
    assert_eq!(req(&[wrong], &["--api-key-file", &key_file]).0, 0);
    let (code, _, errors) = req(&[wrong, ("RINGMAIL_API_KEY", &guarded.key)], &[]);
    assert!(
        code == 2 && errors.contains("unset all but one"),
        "{errors}"
    );
    assert!(!errors.contains(&guarded.key), "{errors}");
}

#[test]
fn a_token_is_issued_inspected_and_verified_only_by_a_key() {
    let guarded = Guarded::start("off");
    let token = guarded.token("15m");
    let (told_only, signature) = (
        run_with_input(&["token", "inspect"], token.as_bytes()),
        token.rsplit_once('.').unwrap().1,
    );
    let text = String::from_utf8(told_only.stdout).unwrap();
    assert!(
        text.contains("\"sub\":\"thing-7\"") && text.contains("expires "),
        "{text}"
    );
    assert!(
        !text.contains("verified") && !text.contains(signature),
        "{text}"
    );
    let secret = guarded.text("secret");
    let verify = ["token", "inspect", "--secret-file", &secret];
    let good = run_with_input(&verify, token.as_bytes());
    assert_eq!(good.status.code(), Some(0));
    assert!(
        String::from_utf8(good.stdout)
            .unwrap()
            .contains("verified: ")
    );
    std::fs::write(&secret, "another secret, as long as it should be").unwrap();
    let bad = run_with_input(&verify, token.as_bytes());
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        String::from_utf8(bad.stderr)
            .unwrap()
            .contains("not verified: ")
    );
    for (id, problem) in [("no spaces", "valid key id"), ("a/b", "one topic level")] {
        let (code, out, errors) = run(&["token", "key", id]);
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(problem), "{errors}");
    }
}

/// The whole way of a large message through records and a full socket.
#[test]
fn a_client_over_tls_sends_and_gets_large_messages() {
    let guarded = Guarded::start("required");
    let mut client = Client::builder()
        .tls_ca(guarded.path("ca.pem"))
        .api_key(guarded.key.as_str())
        .connect(&guarded.broker.address)
        .unwrap();
    assert_eq!(client.login().unwrap().principal, "thing-7");
    assert!(!format!("{client:?}").contains(&guarded.key));
    for bytes in [0, 1, 16 << 10, 700_000] {
        let payload = vec![7; bytes];
        assert_eq!(
            client.request("$sys/echo", &payload).unwrap().payload,
            payload
        );
    }
    client.ping().unwrap();
    client.close().unwrap();
}

/// A token of 3 s is fetched again before it expires, over the same connection.
#[test]
fn a_client_renews_its_token_before_it_expires() {
    let guarded = Guarded::start("off");
    let issued = Arc::new(AtomicU32::new(0));
    let (count, secret) = (issued.clone(), guarded.path("secret"));
    let fetch = move || {
        count.fetch_add(1, Ordering::Relaxed);
        let mut command = ringmail(&["token", "issue", "--subject", "thing-7", "--ttl", "3s"]);
        command
            .args(["--role", "device", "--secret-file"])
            .arg(&secret);
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        let token = String::from_utf8(output.stdout).unwrap();
        Ok(Credential::Token(Secret::new(token.trim())))
    };
    let mut client = Client::builder()
        .credential_by(fetch)
        .connect(&guarded.broker.address)
        .unwrap();
    let fixed = guarded.token("3s");
    let mut fixed = Client::builder()
        .token(fixed)
        .connect(&guarded.broker.address)
        .unwrap();
    client.subscribe("devices/thing-7/#").unwrap();
    assert!(
        client
            .receive_timeout(Duration::from_secs(5))
            .unwrap()
            .is_none()
    );
    client
        .publish_confirmed("devices/thing-7/x", "still here")
        .unwrap();
    assert!(issued.load(Ordering::Relaxed) >= 2);
    let error = fixed.request("$sys/echo", "x").unwrap_err();
    assert!(
        matches!(
            error,
            Error::Refused {
                code: Code::AuthExpired,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_permission());
    client.close().unwrap();
}

#[test]
fn a_client_that_reconnects_says_again_who_it_is() {
    let guarded = Guarded::start("required");
    let cable = crate::broker::Cable::to(&guarded.broker.address);
    let mut client = Client::builder()
        .tls_ca(guarded.path("ca.pem"))
        .api_key(guarded.key.as_str())
        .reconnect(Reconnect::default())
        .session(true)
        .connect(&format!("ringmails://{}", cable.address))
        .unwrap();
    client.subscribe("devices/thing-7/#").unwrap();
    cable.cut();
    client
        .publish_confirmed("devices/thing-7/x", "after the cut")
        .unwrap();
    client.close().unwrap();
}

/// The load generator comes by TLS and says who it is, like any other client.
#[test]
fn load_is_made_over_tls_by_who_may_make_it() {
    let guarded = Guarded::start("required");
    let address = format!("ringmails://{}", guarded.broker.address);
    let (ca, key) = (guarded.text("ca.pem"), guarded.text("key"));
    let bench = |more: &[&str]| {
        let args = [
            &["bench", "echo", "--address", &address, "--tls-ca", &ca][..],
            &["--connections", "3", "--depth", "4", "--bytes", "20000"],
            &["--duration", "300ms", "--warm-up", "0", "--output", "json"],
            more,
        ];
        run(&args.concat())
    };
    let (code, out, errors) = bench(&["--api-key-file", &key]);
    assert_eq!(code, 0, "{errors}");
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(result["messages"].as_u64().unwrap() > 0, "{out}");
    let (code, _, errors) = bench(&[]);
    assert!(code != 0 && errors.contains("--api-key"), "{code} {errors}");
}

/// An echo that knows nothing but TLS, and is slow to begin with it.
fn bare_echo(directory: &std::path::Path, pause: Duration) -> SocketAddr {
    let chain = CertificateDer::from_pem_file(directory.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![chain], key)
    .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, stream);
            std::thread::spawn(move || {
                std::thread::sleep(pause);
                let mut buffer = vec![0; 65536];
                // A client that goes ends it, in whatever way.
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// TLS is below whatever the server speaks; the load begins when its handshakes are over,
/// so that the measured time, shorter than they are here, has none of them.
#[test]
fn load_on_a_bare_echo_waits_for_its_handshakes() {
    let directory = tempfile::tempdir().unwrap();
    certificates(&|name, text| std::fs::write(directory.path().join(name), text).unwrap());
    let address = bare_echo(directory.path(), Duration::from_millis(700)).to_string();
    let ca = directory.path().join("ca.pem").display().to_string();
    let args = [
        &["bench", "echo", "--raw", "--address", &address][..],
        &["--tls-ca", &ca, "--connections", "2", "--depth", "2"],
        &["--bytes", "20000", "--duration", "300ms", "--warm-up", "0"],
        &["--output", "json"],
    ];
    let (code, out, errors) = run(&args.concat());
    assert_eq!(code, 0, "{errors}");
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(result["messages"].as_u64().unwrap() > 0, "{out}");
}
