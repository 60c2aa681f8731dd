//! Queries the admin address on its own thread: a server that is slow or gone never delays the
//! handling of a key.

use super::answer::Sample;
use crate::base::exit::Status as Exit;
use crate::cli::access;
use crate::cli::args::Credential;
use crate::cli::failure::Failure;
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::de::DeserializeOwned;
use std::error::Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The time from a request to the last byte of its answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer; a thousand connections take some 400 KiB.
const BYTES_MAX: usize = 8 << 20;
const TOPICS: usize = 100;

/// Which connections to ask for: the first `limit` of this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    pub sort: &'static str,
    pub descending: bool,
    pub limit: usize,
}

/// The admin address and how to ask it.
pub struct Source {
    client: Client,
    base: Url,
    credential: Credential,
}

impl Source {
    /// # Errors
    /// Usage: no address, or a credential that cannot be read.
    pub fn new(address: &str, credential: &Credential) -> Result<Source, Failure> {
        let base = base(address).map_err(|text| Failure::new(Exit::Usage, text))?;
        access::shown(credential)?;
        let mut client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX);
        if base.scheme() == "http" {
            // Then the system's authorities are not needed.
            client = client.tls_certs_only([]);
        }
        let client = client
            .build()
            .map_err(|error| Failure::new(Exit::Runtime, told(error)))?;
        Ok(Source {
            client,
            base,
            credential: credential.clone(),
        })
    }

    /// The address as it is shown.
    pub fn name(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or_default();
        match self.base.scheme() {
            "http" => format!("{host}:{port}"),
            scheme => format!("{scheme}://{host}:{port}"),
        }
    }

    /// Fetches all answers now.
    ///
    /// # Errors
    /// Why there is no answer, with the exit status.
    pub async fn sample(&self, query: Query) -> Result<Sample, Failure> {
        let order = match query.descending {
            true => "desc",
            false => "asc",
        };
        let Query { sort, limit, .. } = query;
        let connections = format!("connections?sort={sort}&order={order}&limit={limit}");
        let Some(status) = self.ask("status").await? else {
            let text = format!(
                "{} has no /status; is it ringmail's admin address (server.admin)?",
                self.name()
            );
            return Err(Failure::new(Exit::Unavailable, text));
        };
        Ok(Sample {
            status,
            connections: self.ask(&connections).await?,
            topics: self.ask(&format!("topics?limit={TOPICS}")).await?,
        })
    }

    /// One answer; `None` where there is no such endpoint.
    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        let fail = |exit, text: String| Err(Failure::new(exit, format!("{}: {text}", self.name())));
        let url = match self.base.join(path) {
            Ok(url) => url,
            Err(error) => return fail(Exit::Usage, error.to_string()),
        };
        let mut request = self.client.get(url).header(ACCEPT, "application/json");
        // Read each time: a token in a file is replaced before it expires.
        if let Some(credential) = access::shown(&self.credential)? {
            request = request.bearer_auth(credential.secret().expose());
        }
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return fail(Exit::Unavailable, told(error)),
        };
        let mut bytes = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(piece)) if bytes.len() + piece.len() <= BYTES_MAX => bytes.extend(piece),
                Ok(Some(_)) => return fail(Exit::Runtime, format!("/{path} is too long")),
                Ok(None) => break,
                Err(error) => return fail(Exit::Unavailable, told(error)),
            }
        }
        match answer.status() {
            StatusCode::OK => match serde_json::from_slice(&bytes) {
                Ok(answer) => Ok(Some(answer)),
                Err(error) => fail(Exit::Runtime, format!("/{path} is not understood: {error}")),
            },
            StatusCode::NOT_FOUND => Ok(None),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let why = error_of(&bytes);
                fail(Exit::Permission, why.unwrap_or_else(|| status.to_string()))
            }
            status => {
                let why = error_of(&bytes).unwrap_or_default();
                fail(Exit::Runtime, format!("/{path} answers {status}: {why}"))
            }
        }
    }
}

/// `host:port`, or a URL without more than that.
fn base(address: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("{address}: {why}; write host:port or http://host:port");
    let text = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" => {}
        _ => return Err(wrong("the admin address speaks HTTP")),
    }
    // A user name and a password would be displayed.
    if url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
        return Err(wrong("it is more than an address"));
    }
    Ok(url)
}

/// The server's own words.
fn error_of(bytes: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let text: String = json["error"].as_str()?.chars().take(300).collect();
    Some(text)
}

/// The last cause says what happened; the earlier ones only say where.
fn told(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    format!("cannot be asked: {text}; is the server running, and server.admin this address?")
}

/// Fetches every interval, and at once for another query, until the receiver is dropped.
pub fn run(
    source: &Source,
    interval: Duration,
    queries: &Receiver<Query>,
    samples: &Sender<Result<Sample, Failure>>,
    mut query: Query,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => return drop(samples.send(Err(failure))),
    };
    loop {
        let asked = Instant::now();
        if samples
            .send(runtime.block_on(source.sample(query)))
            .is_err()
        {
            return;
        }
        let rest = interval.saturating_sub(asked.elapsed());
        match queries.recv_timeout(rest) {
            // The last one counts.
            Ok(next) => query = queries.try_iter().last().unwrap_or(next),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// # Errors
/// The system has no descriptors left.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|error| {
        let text = format!("cannot wait for answers: {error}");
        Failure::new(Exit::Runtime, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        for (address, name) in [
            ("127.0.0.1:7412", "127.0.0.1:7412"),
            ("[::1]:7412", "[::1]:7412"),
            ("http://mail.example:7412/", "mail.example:7412"),
            ("https://mail.example", "https://mail.example:443"),
        ] {
            let source = Source::new(address, &Credential::default()).unwrap();
            assert_eq!(source.name(), name);
        }
        for wrong in [
            "",
            ":",
            "ringmail://x:7411",
            "http://x/y",
            "http://u:p@x:1",
            "a b",
        ] {
            assert!(base(wrong).unwrap_err().contains("host:port"), "{wrong}");
        }
    }
}
