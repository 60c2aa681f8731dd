//! `ringmail token`: what needs no server (`key`, `issue`, `inspect`), and `refresh`.

mod input;
mod inspect;

use super::access;
use super::args::{Issue, Key, Refresh, Token, TokenCommand};
use super::failure::{Failure, note, print};
use super::peer;
use crate::auth::issue::{NewToken, issue};
use crate::auth::key::generate;
use crate::base::exit::Status;
use crate::client::Credential;
use crate::proto::name::check_topic;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// # Errors
/// An invalid name, a file that cannot be read, a refusal by the server.
pub fn run(args: &Token) -> Result<(), Failure> {
    match &args.command {
        TokenCommand::Key(args) => make_key(args),
        TokenCommand::Issue(args) => make_token(args),
        TokenCommand::Inspect(args) => inspect::run(args),
        TokenCommand::Refresh(args) => refresh(args),
    }
}

fn make_key(args: &Key) -> Result<(), Failure> {
    let usage = |text: String| Failure::new(Status::Usage, text);
    let principal = args.principal.as_deref().unwrap_or(&args.id);
    check_principal(principal)?;
    let new = generate(&args.id).map_err(|error| usage(error.to_string()))?;
    let table = format!(
        "\n[[auth.api_key]]\nid = {}\nsha256 = {}\nprincipal = {}\nroles = {}\n",
        toml_text(&args.id),
        toml_text(&new.sha256),
        toml_text(principal),
        toml::Value::from(args.roles.clone()),
    );
    print(format!("{}\n", new.key).as_bytes())?;
    note("for the configuration:");
    // Not escaped: it has several lines, and is made here.
    let _ = writeln!(io::stderr(), "{table}");
    Ok(())
}

fn toml_text(text: &str) -> toml::Value {
    toml::Value::from(text)
}

fn make_token(args: &Issue) -> Result<(), Failure> {
    let usage = |text: String| Failure::new(Status::Usage, text);
    check_principal(&args.subject)?;
    let seconds = args.ttl.as_secs();
    if seconds == 0 {
        return Err(usage("--ttl: must be at least 1 s".to_owned()));
    }
    let secret = access::read(&args.secret_file).map_err(usage)?;
    let roles: Vec<Box<str>> = args.roles.iter().map(|role| role.as_str().into()).collect();
    let now = unix_seconds();
    let new = NewToken {
        subject: &args.subject,
        roles: &roles,
        issuer: &args.issuer,
        audience: &args.audience,
        issued_at: now,
        expires: now.saturating_add(seconds),
    };
    let issued = issue(secret.expose().as_bytes(), new)
        .map_err(|error| Failure::new(Status::Runtime, error))?;
    print(format!("{}\n", issued.token).as_bytes())
}

/// One plain level of a topic, as servers ask of `sub` and `principal`.
fn check_principal(name: &str) -> Result<(), Failure> {
    let plain = check_topic(name).is_ok() && !name.contains(['/', '$']) && name.len() <= 128;
    match plain {
        true => Ok(()),
        false => Err(Failure::new(
            Status::Usage,
            format!("{name:?} cannot be a principal; use one topic level of at most 128 bytes"),
        )),
    }
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn refresh(args: &Refresh) -> Result<(), Failure> {
    let secret = input::read_input(args.refresh_file.as_deref())?;
    let builder = peer::builder(args.timeout);
    let builder = peer::prepare(builder, &args.peer)?;
    // The credential flags do not apply to this connection.
    let builder = builder.credential(Credential::Refresh(secret));
    let client = peer::dial(&builder, &args.peer.address)?;
    let Some(login) = client.login() else {
        let text = "this server does not authenticate clients; there is nothing to refresh";
        return Err(Failure::new(Status::Runtime, text));
    };
    let pair = serde_json::json!({
        "principal": login.principal,
        "access_token": login.access_token.expose(),
        "refresh_token": login.refresh_token.expose(),
        "expires_in_s": login.expires_in.map(|life| life.as_secs()),
    });
    // The old token is used up: the new pair is printed however the connection ends.
    let printed = print(format!("{pair}\n").as_bytes());
    let _ = client.close();
    printed
}
