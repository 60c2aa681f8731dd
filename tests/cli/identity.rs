//! Client commands with a certificate, trust by the system's authorities, and `token refresh`,
//! against a real server that asks for them.

use crate::broker::Broker;
use crate::{ringmail, run, told};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use ringmail::blocking::Client;
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An authority whose files are in a directory: `ca.pem`, and what it has issued.
struct Authority<'d> {
    directory: &'d Path,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority<'_> {
    fn new<'d>(directory: &'d Path, name: &str) -> Authority<'d> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        std::fs::create_dir_all(directory).unwrap();
        let own = params.self_signed(&key).unwrap();
        std::fs::write(directory.join("ca.pem"), own.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { directory, issuer }
    }

    /// `NAME.pem` and `NAME.key`: a certificate for 127.0.0.1 that stands for `name` in `role`.
    fn issue(&self, name: &str, role: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let mut say = |kind, text: &str| params.distinguished_name.push(kind, text);
        say(DnType::CommonName, name);
        say(DnType::OrganizationalUnitName, role);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        self.write(&format!("{name}.pem"), &certificate);
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// A server with a certificate of this authority's; `more` of `[tls]`.
    fn broker(&self, tables: &str, mode: &str, more: &str) -> Broker {
        self.issue("server", "server");
        let text = format!(
            "{tables}\n[tls]\nmode = \"{mode}\"\ncertificate = {:?}\nkey = {:?}\n{more}",
            self.file("server.pem"),
            self.file("server.key"),
        );
        self.write("ringmail.toml", &text);
        Broker::with_file(Some(&self.directory.join("ringmail.toml")), &[])
    }

    /// One that takes certificates of this authority's, and nothing else.
    fn broker_for_certificates(&self, mode: &str) -> Broker {
        self.broker(
            RIGHTS,
            mode,
            &format!("client_ca = {:?}\n", self.file("ca.pem")),
        )
    }
}

const RIGHTS: &str = "[auth]\nmode = \"required\"\n\
    [roles.device]\npublish = [\"devices/{principal}/#\"]\nrequest = [\"$sys/echo\"]\n";

#[test]
fn a_device_gets_in_by_its_certificate_alone() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let other_directory = directory.path().join("other");
    let other = Authority::new(&other_directory, "another");
    authority.issue("pump-7", "device");
    authority.issue("visitor", "nobody");
    other.issue("pump-7", "device");
    let broker = authority.broker_for_certificates("required");
    let own = [
        authority.file("ca.pem"),
        authority.file("pump-7.pem"),
        authority.file("pump-7.key"),
    ];
    let as_pump = [
        "--tls-ca",
        &own[0],
        "--cert",
        &own[1],
        "--cert-key",
        &own[2],
    ];
    let publish = |topic: &str, access: &[&str]| {
        broker.run(&[&["pub", topic, "on", "--confirm"], access].concat())
    };
    let done = (0, String::new(), String::new());
    assert_eq!(publish("devices/pump-7/state", &as_pump), done);
    let (code, _, errors) = publish("devices/pump-8/state", &as_pump);
    assert!(code == 77 && errors.contains("FORBIDDEN"), "{errors}");

    // Certificate and key in one file.
    let both = authority.text("pump-7.pem") + &authority.text("pump-7.key");
    authority.write("both.pem", &both);
    let both = authority.file("both.pem");
    let in_one = ["--tls-ca", &own[0], "--cert", &both];
    assert_eq!(publish("devices/pump-7/state", &in_one), done);

    // Known, but in no role.
    let visitor = [authority.file("visitor.pem"), authority.file("visitor.key")];
    let as_visitor = [
        "--tls-ca",
        &own[0],
        "--cert",
        &visitor[0],
        "--cert-key",
        &visitor[1],
    ];
    let (code, _, errors) = publish("devices/visitor/state", &as_visitor);
    assert!(code == 77 && errors.contains("FORBIDDEN"), "{errors}");

    // None, and one of another authority's, whose name says the same.
    let (code, _, errors) = publish("devices/pump-7/state", &["--tls-ca", &own[0]]);
    assert!(code == 69 && errors.contains("--cert"), "{code} {errors}");
    let stranger = [other.file("pump-7.pem"), other.file("pump-7.key")];
    let as_stranger = [
        "--tls-ca",
        &own[0],
        "--cert",
        &stranger[0],
        "--cert-key",
        &stranger[1],
    ];
    let (code, _, errors) = publish("devices/pump-7/state", &as_stranger);
    assert_eq!(code, 69, "{errors}");

    // Files that do not fit together, or are not what they should be.
    let mixed = [
        "--tls-ca",
        &own[0],
        "--cert",
        &own[1],
        "--cert-key",
        &visitor[1],
    ];
    let (code, _, errors) = publish("devices/pump-7/state", &mixed);
    assert!(
        code == 69 && errors.contains("pump-7.pem") && errors.contains("visitor.key"),
        "{code} {errors}"
    );
    let (code, _, errors) = publish(
        "devices/pump-7/state",
        &["--tls-ca", &own[0], "--cert", &own[1]],
    );
    assert!(
        code == 69 && errors.contains("no private key"),
        "{code} {errors}"
    );
}

/// Nobody has a credential but by a certificate: that lets no one in without.
#[test]
fn who_comes_without_tls_where_certificates_are_all_there_is_stays_out() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    authority.issue("pump-7", "device");
    let broker = authority.broker_for_certificates("optional");
    let request = |access: &[&str]| broker.run(&[&["req", "$sys/echo", "x"], access].concat());
    let (code, _, errors) = request(&[]);
    assert!(
        code == 77 && errors.contains("no credential"),
        "{code} {errors}"
    );
    for credential in [["--token", "a.b.c"], ["--api-key", "pump-7.x"]] {
        let (code, _, errors) = request(&credential);
        assert_eq!(code, 77, "{errors}");
    }
    let files = ["ca.pem", "pump-7.pem", "pump-7.key"].map(|name| authority.file(name));
    let access = [
        "--tls-ca",
        &files[0],
        "--cert",
        &files[1],
        "--cert-key",
        &files[2],
    ];
    assert_eq!(request(&access), (0, "x".to_owned(), String::new()));
}

#[test]
fn a_certificate_is_named_by_variables_too() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    authority.issue("pump-7", "device");
    let ca = authority.file("ca.pem");
    let broker = authority.broker_for_certificates("required");
    let mut command = ringmail(&["req", "$sys/echo", "hello"]);
    command
        .env("RINGMAIL_ADDRESS", &broker.address)
        .env("RINGMAIL_TLS_CA", &ca)
        .env("RINGMAIL_CERT", authority.file("pump-7.pem"))
        .env("RINGMAIL_CERT_KEY", authority.file("pump-7.key"));
    let (code, out, errors) = told(command.output().unwrap());
    assert_eq!((code, out.as_str()), (0, "hello"), "{errors}");
}

#[test]
fn the_systems_authorities_are_trusted_unless_others_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let other_directory = directory.path().join("other");
    let other = Authority::new(&other_directory, "another");
    let broker = authority.broker("", "required", "");
    authority.write("empty.pem", "");
    let request = |system: &str, address: &str, more: &[&str]| {
        let mut command = ringmail(&[&["req", "$sys/echo", "hello"], more].concat());
        command
            .env_remove("SSL_CERT_DIR")
            .env("SSL_CERT_FILE", system)
            .env("RINGMAIL_ADDRESS", address);
        told(command.output().unwrap())
    };
    let good = (0, "hello".to_owned(), String::new());
    let (ours, others) = (authority.file("ca.pem"), other.file("ca.pem"));
    assert_eq!(request(&ours, &broker.address, &["--tls"]), good);
    let by_scheme = format!("ringmails://{}", broker.address);
    assert_eq!(request(&ours, &by_scheme, &[]), good);
    let (code, _, errors) = request(&others, &by_scheme, &[]);
    assert!(code == 69 && errors.contains("--tls-ca"), "{code} {errors}");
    // A file that is named stands instead of the system's, both ways.
    assert_eq!(request(&others, &by_scheme, &["--tls-ca", &ours]), good);
    let (code, _, errors) = request(&ours, &by_scheme, &["--tls-ca", &others]);
    assert_eq!(code, 69, "{errors}");
    let (code, _, errors) = request(&authority.file("empty.pem"), &by_scheme, &[]);
    assert!(
        code == 69 && errors.contains("no certificate authorities"),
        "{code} {errors}"
    );
}

/// From an API key to a pair, and from its refresh token to the next.
#[test]
fn a_refresh_token_is_exchanged_for_a_pair_that_works() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let (code, key, lines) = run(&["token", "key", "pump-7", "--role", "device"]);
    assert_eq!(code, 0, "{lines}");
    let tables = lines.split_once("[[auth.api_key]]").unwrap().1;
    let broker = authority.broker(
        &format!(
            "{RIGHTS}[[auth.api_key]]{tables}\n[auth.issuer]\n\
         signing_secret = \"of-32-bytes-and-more-0123456789abcdef\"\n"
        ),
        "required",
        "",
    );
    let ca = authority.file("ca.pem");
    let client = Client::builder().tls_ca(&ca).api_key(key.trim());
    let client = client.connect(&broker.address).unwrap();
    let first = client.login().unwrap().refresh_token.expose().to_owned();
    client.close().unwrap();

    let pair = |(code, out, errors): (i32, String, String)| -> Value {
        assert_eq!((code, errors.as_str()), (0, ""));
        serde_json::from_str(&out).unwrap()
    };
    let text = |pair: &Value, name: &str| pair[name].as_str().unwrap().to_owned();
    authority.write("refresh", &first);
    let by_file = [
        "token",
        "refresh",
        "--tls-ca",
        &ca,
        "--refresh-file",
        &authority.file("refresh"),
    ];
    let second = pair(broker.run(&by_file));
    assert_eq!(second["principal"], "pump-7");
    assert!(
        (890..=900).contains(&second["expires_in_s"].as_u64().unwrap()),
        "{second}"
    );
    let token = text(&second, "access_token");
    let published = broker.run(&[
        "pub",
        "devices/pump-7/state",
        "on",
        "--confirm",
        "--tls-ca",
        &ca,
        "--token",
        &token,
    ]);
    assert_eq!(published, (0, String::new(), String::new()));
    // The answer may have been lost: for ten seconds the old one brings the same successor.
    let again = pair(broker.run(&by_file));
    assert_eq!(again["refresh_token"], second["refresh_token"]);
    assert_ne!(text(&second, "refresh_token"), first);
    let by_input = ["token", "refresh", "--tls-ca", &ca];
    let line = text(&second, "refresh_token") + "\n";
    let third = pair(broker.run_with_input(&by_input, line.as_bytes()));
    assert_ne!(third["refresh_token"], second["refresh_token"]);

    let wrong = "A".repeat(43);
    let (code, out, errors) = broker.run_with_input(&by_input, wrong.as_bytes());
    assert!(
        code == 77 && out.is_empty() && errors.contains("AUTH_FAILED"),
        "{code} {errors}"
    );
    assert!(!errors.contains(&wrong), "{errors}");
    let (code, _, errors) = broker.run(&by_input);
    assert!(
        code == 2 && errors.contains("standard input"),
        "{code} {errors}"
    );
}

#[test]
fn where_nobody_is_asked_who_they_are_there_is_nothing_to_refresh() {
    let broker = Broker::start();
    let (code, out, errors) = broker.run_with_input(&["token", "refresh"], &[b'A'; 43]);
    assert!(
        code == 1 && out.is_empty() && errors.contains("nothing to refresh"),
        "{code} {errors}"
    );
}
