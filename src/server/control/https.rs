//! A key set at an https URL: one bounded GET.
//!
//! Certificates are verified against the system's, or those of SSL_CERT_FILE. A redirect to
//! anything but https is refused, and so is an answer of more than `BYTES_MAX`. Each fetch makes
//! a new client: there is at most one in 30 s, no connection is kept open in between, and a
//! changed certificate bundle takes effect.

use super::jwks::{BYTES_MAX, Fetched, Origin};
use crate::server::plan::PRODUCT;
use reqwest::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderMap, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use std::error::Error;
use std::time::Duration;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// From the beginning to the last byte.
const TOTAL_MAX: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 3;

/// An https URL.
pub struct Https {
    url: Url,
    name: String,
}

impl Https {
    /// # Errors
    /// If it is not an https URL.
    pub fn new(text: &str) -> Result<Https, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.scheme() != "https" {
            return Err(format!("the scheme is {}, not https", url.scheme()));
        }
        // User names and queries may hold secrets.
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let host = url.host_str().unwrap_or_default();
        let name = format!("https://{host}{port}{}", url.path());
        Ok(Https { url, name })
    }
}

impl Origin for Https {
    fn name(&self) -> &str {
        &self.name
    }

    async fn fetch(&self, etag: Option<&str>) -> Result<Fetched, String> {
        let client = Client::builder()
            .user_agent(PRODUCT)
            .https_only(true)
            .redirect(Policy::limited(REDIRECTS_MAX))
            .connect_timeout(CONNECT_MAX)
            .timeout(TOTAL_MAX)
            .build()
            .map_err(describe)?;
        let mut request = client.get(self.url.clone());
        request = request.header(ACCEPT, "application/jwk-set+json, application/json");
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let mut answer = request.send().await.map_err(describe)?;
        let (status, headers) = (answer.status(), answer.headers());
        let mut fetched = Fetched {
            json: None,
            etag: text(headers, ETAG.as_str()),
            max_age: max_age(headers),
        };
        if status == StatusCode::NOT_MODIFIED && etag.is_some() {
            return Ok(fetched);
        }
        if status != StatusCode::OK {
            return Err(format!("the answer is {status}"));
        }
        let mut json = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(describe)? {
            if json.len() + piece.len() > BYTES_MAX {
                return Err(format!("the answer has more than {BYTES_MAX} bytes"));
            }
            json.extend_from_slice(&piece);
        }
        fetched.json = Some(json);
        Ok(fetched)
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// For how long the answer may be kept (RFC 9111 §5.2.2); not at all is zero.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut age = None;
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let directives = lines.filter_map(|line| line.to_str().ok());
    for directive in directives.flat_map(|line| line.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if matches!(directive.as_str(), "no-cache" | "no-store") {
            return Some(Duration::ZERO);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let seconds = seconds.trim_matches('"').parse().ok();
            age = age.or(seconds.map(Duration::from_secs));
        }
    }
    age
}

/// The error and its causes, without the URL, which the log names otherwise.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use reqwest::header::HeaderValue;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// Tells a test's child process where its certificates are.
    const CHILD: &str = "RINGMAIL_TEST_CERTIFICATES";

    /// A provider with a certificate for localhost, which answers as configured.
    struct Provider {
        port: u16,
        says: Arc<Mutex<String>>,
        heads: Arc<Mutex<Vec<String>>>,
    }

    impl Provider {
        async fn start(directory: &Path) -> Provider {
            let certificate = CertificateDer::from_pem_file(directory.join("leaf.pem"));
            let key = PrivateKeyDer::from_pem_file(directory.join("leaf.key"));
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.expect("PEM")], key.expect("PEM"))
                .expect("a certificate");
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let made = Provider {
                port: listener.local_addr().expect("bound").port(),
                says: Arc::default(),
                heads: Arc::default(),
            };
            let (says, heads) = (made.says.clone(), made.heads.clone());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        continue;
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.expect("a head"));
                    }
                    let head = String::from_utf8(head).expect("text").to_lowercase();
                    heads.lock().expect("whole").push(head);
                    let answer = says.lock().expect("whole").clone();
                    // A client that has read enough closes before the end.
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
            made
        }

        fn say(&self, status: &str, headers: &str, body: &str) {
            let length = body.len();
            *self.says.lock().expect("whole") = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
            );
        }

        fn last_head(&self) -> String {
            let heads = self.heads.lock().expect("whole");
            heads.last().expect("a request").clone()
        }

        async fn fetch(&self, etag: Option<&str>) -> Result<Fetched, String> {
            let url = format!("https://user:hush@localhost:{}/keys?token=hush", self.port);
            let origin = Https::new(&url).expect("https");
            assert_eq!(
                origin.name(),
                format!("https://localhost:{}/keys", self.port)
            );
            let fetched = origin.fetch(etag).await;
            if let Err(cause) = &fetched {
                assert!(!cause.contains("hush"), "{cause}");
            }
            fetched
        }
    }

    /// In a process of its own, where SSL_CERT_FILE may be set.
    #[tokio::test]
    #[ignore = "a test below runs it as a process of its own"]
    async fn child_that_trusts_the_authority() {
        let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else {
            return;
        };
        let provider = Provider::start(&directory).await;
        let fetch = |etag| provider.fetch(etag);
        let headers = "ETag: \"v1\"\r\nCache-Control: public, max-age=600\r\n";
        provider.say("200 OK", headers, "{\"keys\":[]}");
        let fetched = fetch(None).await.expect("fetched");
        assert_eq!(fetched.json.as_deref(), Some(&b"{\"keys\":[]}"[..]));
        assert_eq!(fetched.etag.as_deref(), Some("\"v1\""));
        assert_eq!(fetched.max_age, Some(Duration::from_secs(600)));
        assert!(!provider.last_head().contains("if-none-match"));

        provider.say("304 Not Modified", "Cache-Control: max-age=60\r\n", "");
        let fetched = fetch(Some("\"v1\"")).await.expect("the same");
        assert_eq!(
            (fetched.json, fetched.max_age),
            (None, Some(Duration::from_secs(60)))
        );
        assert!(provider.last_head().contains("if-none-match: \"v1\""));
        assert!(
            fetch(None).await.is_err(),
            "nothing was sent to compare with"
        );

        provider.say("200 OK", "", &"x".repeat(BYTES_MAX));
        assert!(fetch(None).await.is_ok());
        provider.say("200 OK", "", &"x".repeat(BYTES_MAX + 1));
        let cause = fetch(None).await.err().expect("too long");
        assert!(cause.contains("more than 262144 bytes"), "{cause}");
        provider.say("503 Service Unavailable", "", "{\"keys\":[]}");
        let cause = fetch(None).await.err().expect("no success");
        assert!(cause.contains("503"), "{cause}");

        let count = || provider.heads.lock().expect("whole").len();
        let before = count();
        let to = |scheme: &str| format!("Location: {scheme}://localhost:{}/\r\n", provider.port);
        provider.say("302 Found", &to("http"), "");
        assert!(
            fetch(None).await.is_err(),
            "a redirect to http was followed"
        );
        assert_eq!(count(), before + 1);
        provider.say("302 Found", &to("https"), "");
        assert!(
            fetch(None).await.is_err(),
            "redirects were followed forever"
        );
        assert!((2..=2 + REDIRECTS_MAX).contains(&(count() - before)));
    }

    #[tokio::test]
    #[ignore = "a test below runs it as a process of its own"]
    async fn child_that_does_not_know_the_authority() {
        let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else {
            return;
        };
        let provider = Provider::start(&directory).await;
        provider.say("200 OK", "", "{\"keys\":[]}");
        let cause = provider
            .fetch(None)
            .await
            .err()
            .expect("an unknown authority");
        assert!(cause.to_lowercase().contains("certificate"), "{cause}");
        assert!(provider.heads.lock().expect("whole").is_empty());
    }

    fn run_child(name: &str, trusted: &str) {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: String| {
            std::fs::write(directory.path().join(file), text).expect("written");
        };
        let authority = || {
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            CertifiedIssuer::self_signed(params, key).expect("signed")
        };
        let (ours, other) = (authority(), authority());
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&key, &ours).expect("signed");
        write("ours.pem", ours.pem());
        write("other.pem", other.pem());
        write("leaf.pem", leaf.pem());
        write("leaf.key", key.serialize_pem());
        let name = format!("server::control::https::tests::{name}");
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args([&name, "--exact", "--ignored"])
            .env(CHILD, directory.path())
            .env("SSL_CERT_FILE", directory.path().join(trusted))
            .env_remove("SSL_CERT_DIR")
            .env("NO_PROXY", "*")
            .output()
            .expect("a child");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }

    #[test]
    fn a_key_set_is_fetched_from_a_provider_of_a_local_authority() {
        run_child("child_that_trusts_the_authority", "ours.pem");
    }

    #[test]
    fn no_key_set_is_fetched_from_a_provider_of_an_unknown_authority() {
        run_child("child_that_does_not_know_the_authority", "other.pem");
    }

    #[test]
    fn only_https_is_a_source() {
        for bad in ["http://a/", "ftp://a/", "https://", "file:///etc/passwd"] {
            assert!(Https::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_age_is_taken_from_the_header() {
        let age = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age(&[]), None);
        assert_eq!(age(&["public"]), None);
        assert_eq!(age(&["public, Max-Age=\"30\", must-revalidate"]), Some(30));
        assert_eq!(age(&["public", "max-age=7"]), Some(7));
        assert_eq!(age(&["max-age=7, no-store"]), Some(0));
        assert_eq!(age(&["max-age=x", "max-age=-1"]), None);
    }
}
