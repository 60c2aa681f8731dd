//! The admin address: HTTP/1.1 for operators and what watches over the server.
//!
//! | endpoint | answer |
//! |---|---|
//! | `GET /livez` | 200: the process and its control thread work |
//! | `GET /readyz` | 200 while serving, 503 from the beginning of a drain |
//! | `POST /revocations` | 200 with what was revoked once every shard has it |
//!
//! **Who may.** What changes something needs a credential whose role has `admin = true`, as
//! `Authorization: Bearer` with an access token or an API key `id.secret`. Reading needs it
//! too unless the address is loopback. With `auth.mode = "none"` nobody has a credential:
//! then nothing can be changed, and nothing read but over loopback (403, which says so).
//!
//! **What it costs at most.** [`CONNECTIONS_MAX`] connections, each with [`HEAD_MAX`] for a
//! request's head, [`BODY_MAX`] for its body of [`BODY_BYTES_MAX`], and [`CONNECTION_MAX`]
//! in all; the next one waits in the kernel. Errors are JSON, `{"error": …}`, and name cause
//! and remedy; nothing a caller showed is in an answer or in the log, but whom it was about.

use super::warden::{RevokeError, Warden};
use crate::auth::revocation::{Revocation, Target};
use crate::auth::{Denied, Method as Credential};
use crate::base::clock::unix_nanos;
use crate::proto::option::is_client_id;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub const CONNECTIONS_MAX: usize = 64;
/// From the beginning of a connection, or the end of an answer, to the end of a head.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_MAX: Duration = Duration::from_secs(5);
pub const BODY_BYTES_MAX: usize = 4 << 10;
/// Read and dropped of a body that is too long, so that its sender reads the answer.
const BODY_DROPPED_MAX: usize = 1 << 20;
/// A connection's life; the request in progress may end.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
const LAST_REQUEST_MAX: Duration = Duration::from_secs(10);
/// Descriptors ran short: time for some to come back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What the endpoints speak about.
pub struct Admin {
    pub draining: Arc<AtomicBool>,
    pub is_loopback: bool,
    /// `None`: nobody authenticates.
    pub warden: Option<Arc<Warden>>,
    /// Told when a token brought an unknown key.
    pub wanted: Arc<Notify>,
}

/// Serves, for ever.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/revocations", post(revocations))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(admin);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = free.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                super::pass_on_panic(ended);
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) => {
                let (http, router) = (http.clone(), router.clone());
                connections.spawn(async move {
                    converse(&http, stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!("the admin address accepts nothing: {error}");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One connection, to its end.
async fn converse(http: &http1::Builder, stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let end = timeout(CONNECTION_MAX, connection.as_mut()).await;
    let end = match end {
        Ok(end) => end,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            let end = timeout(LAST_REQUEST_MAX, connection).await;
            end.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = end {
        tracing::debug!("an admin connection ended: {error}");
    }
}

/// An answer that is no success: JSON that names cause and remedy.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(json!({ "error": self.1 }))).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        if self.0 == StatusCode::PAYLOAD_TOO_LARGE || self.0 == StatusCode::REQUEST_TIMEOUT {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

fn refuse<T>(status: StatusCode, error: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, error.into()))
}

/// Whoever asks may read.
struct Reader;

impl FromRequestParts<Arc<Admin>> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Reader, Refusal> {
        match admin.is_loopback {
            true => Ok(Reader),
            false => admin.authenticate(parts).map(|_| Reader),
        }
    }
}

/// Whoever asks may change things; the principal, for the log.
struct Changer(Box<str>);

impl FromRequestParts<Arc<Admin>> for Changer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Changer, Refusal> {
        admin.authenticate(parts).map(Changer)
    }
}

impl Admin {
    /// The principal of a request by an administrator.
    fn authenticate(&self, parts: &Parts) -> Result<Box<str>, Refusal> {
        let Some(warden) = &self.warden else {
            return refuse(
                StatusCode::FORBIDDEN,
                "nobody can authenticate here, because auth.mode is \"none\"; set it to \
                 \"required\" and give an API key a role with admin = true",
            );
        };
        let bearer = parts.headers.get(AUTHORIZATION).and_then(bearer);
        let Some(credential) = bearer else {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "this needs a credential; send Authorization: Bearer with an access token or \
                 an API key (id.secret) whose role has admin = true",
            );
        };
        let now = now_unix();
        let authority = warden.authority();
        let method = credential_kind(credential);
        match authority.check(method, credential, now) {
            Ok(grant) if grant.rights.is_admin() => Ok(grant.identity.principal),
            Ok(grant) => {
                let principal = &*grant.identity.principal;
                tracing::info!(principal, "refused at the admin address: no role is admin");
                refuse(
                    StatusCode::FORBIDDEN,
                    "the credential is good, but none of its roles has admin = true; use one \
                     that has, or set it in [roles]",
                )
            }
            Err(denied) => {
                if denied == Denied::UnknownKey {
                    self.wanted.notify_one();
                }
                tracing::info!("refused at the admin address: {denied}");
                let error = format!(
                    "{}; it may be wrong, expired or revoked: the server's log says which",
                    Denied::TEXT
                );
                refuse(StatusCode::UNAUTHORIZED, error)
            }
        }
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, credential) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| credential.trim_ascii())
}

/// An API key is an id, a dot, and 43 characters; of a token's three parts the last is
/// never as short for the algorithms there are, but for HS256: then the first part is the
/// beginning of a JSON object in base64url, which as an id would be a strange one.
fn credential_kind(credential: &[u8]) -> Credential {
    let text = std::str::from_utf8(credential).unwrap_or_default();
    let id = text.rsplit_once('.').map_or("", |(id, _)| id);
    match is_client_id(id) && !(id.starts_with("eyJ") && id.contains('.')) {
        true => Credential::ApiKey,
        false => Credential::Jwt,
    }
}

fn now_unix() -> u64 {
    unix_nanos() / 1_000_000_000
}

async fn livez(_: Reader) -> &'static str {
    "ok\n"
}

async fn readyz(_: Reader, State(admin): State<Arc<Admin>>) -> Result<&'static str, Refusal> {
    if admin.draining.load(Ordering::Relaxed) {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "this server is draining; send clients to another one",
        );
    }
    Ok("ok\n")
}

async fn revocations(
    Changer(principal): Changer,
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let body = read(body).await?;
    let target: Target = serde_json::from_slice(&body).map_err(|error| {
        let error = format!(
            "not a revocation: {error}; send {{\"jti\": \"…\"}}, {{\"kid\": \"…\"}} or \
             {{\"sub\": \"…\", \"before\": UNIX_SECONDS}}"
        );
        Refusal(StatusCode::BAD_REQUEST, error)
    })?;
    // Whoever got here was authenticated by it.
    let Some(warden) = &admin.warden else {
        return refuse(
            StatusCode::FORBIDDEN,
            "auth.mode is \"none\"; set it to \"required\"",
        );
    };
    let revoked = warden.revoke(target, now_unix()).await.map_err(|error| {
        let status = match &error {
            RevokeError::Ahead => StatusCode::BAD_REQUEST,
            RevokeError::Full(_) | RevokeError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
            RevokeError::Late => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refusal(status, error.to_string())
    })?;
    tracing::info!(by = &*principal, "revoked: {:?}", revoked.target);
    Ok(Json(shown(&revoked)))
}

/// The revocation with `forget_at`, the Unix second until which it counts, or null: for ever.
fn shown(revoked: &Revocation) -> Value {
    // A target is strings and numbers: it can always be written.
    let mut shown = serde_json::to_value(&revoked.target).unwrap_or_default();
    shown["forget_at"] = match revoked.forget_at {
        u64::MAX => Value::Null,
        forget_at => forget_at.into(),
    };
    shown
}

/// A whole body, if it is short and comes in time.
async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    match timeout(BODY_MAX, read_bounded(body)).await {
        Ok(body) => body,
        Err(_) => refuse(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time; send it within 5 s",
        ),
    }
}

async fn read_bounded(mut body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut bytes, mut dropped) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return refuse(
                StatusCode::BAD_REQUEST,
                "the body is broken off; send it whole",
            );
        };
        let piece = frame.into_data().unwrap_or_default();
        if dropped == 0 && bytes.len() + piece.len() <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
            continue;
        }
        dropped += bytes.len() + piece.len();
        bytes.clear();
        if dropped > BODY_DROPPED_MAX {
            break;
        }
    }
    match dropped {
        0 => Ok(bytes),
        _ => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {BODY_BYTES_MAX} bytes; revoke one thing at a time"),
        ),
    }
}

async fn not_found(_: Reader, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(64).collect();
    let error = format!("there is no {path}; there are /livez, /readyz and /revocations");
    Refusal(StatusCode::NOT_FOUND, error)
}

async fn not_allowed(_: Reader) -> Refusal {
    let error = "the method does not fit; GET /livez and /readyz, POST /revocations";
    Refusal(StatusCode::METHOD_NOT_ALLOWED, error.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Authority;
    use crate::auth::key::{ApiKey, ApiKeys, generate};
    use crate::auth::keyring::Keyring;
    use crate::auth::rights::{Role, Roles};
    use crate::auth::token::Requirements;
    use crate::server::control::herald::Herald;
    use crate::server::control::store::Store;
    use crate::server::control::warden::Lives;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The status of `GET path`, of an address that others than this host can reach.
    async fn status(warden: Option<Arc<Warden>>, path: &str, credential: &str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let admin = Admin {
            draining: Arc::default(),
            is_loopback: false,
            warden,
            wanted: Arc::default(),
        };
        let ask = async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Authorization: Bearer {credential}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            let status = answer.split(' ').nth(1).expect("a status");
            status.parse().expect("a number")
        };
        tokio::select! {
            () = serve(listener, Arc::new(admin)) => panic!("it ended"),
            status = ask => status,
        }
    }

    #[tokio::test]
    async fn beyond_loopback_reading_needs_an_administrator_too() {
        let [operator, device] = ["op", "dev"].map(|id| generate(id).expect("a key"));
        let key = |id: &str, sha256: &str| ApiKey {
            id: id.into(),
            sha256: sha256.to_owned(),
            principal: id.into(),
            roles: [id.into()].into(),
        };
        let keys = ApiKeys::new([key("op", &operator.sha256), key("dev", &device.sha256)]);
        let admin = Role {
            admin: true,
            ..Role::default()
        };
        let roles = Roles::new([("op", &admin), ("dev", &Role::default())]).expect("roles");
        let requirements = Requirements::default();
        let authority =
            Authority::new(roles, Keyring::default(), requirements, keys.expect("keys"));
        let directory = tempfile::tempdir().expect("a directory");
        let (herald, _) = Herald::new(Arc::new(authority), &[]);
        let store = Arc::new(Store::open(directory.path()).expect("a store"));
        let lives = Lives {
            own_s: None,
            foreign: false,
            leeway_s: 0,
        };
        let warden = Arc::new(Warden::new(herald, store, lives));
        for path in ["/livez", "/readyz", "/nothing", "/revocations"] {
            assert_eq!(status(None, path, "").await, 403, "{path}");
            let status = async |credential: &str| {
                let warden = Some(warden.clone());
                status(warden, path, credential).await
            };
            assert_eq!(status("").await, 401, "{path}");
            assert_eq!(status("op.wrong").await, 401, "{path}");
            assert_eq!(status(&device.key).await, 403, "{path}");
            let good = status(&operator.key).await;
            assert!(matches!(good, 200 | 404 | 405), "{path}: {good}");
        }
    }

    #[test]
    fn a_credential_is_what_it_looks_like() {
        let rows = [
            ("op.c2VjcmV0", Credential::ApiKey),
            ("a.b.c2VjcmV0", Credential::ApiKey),
            ("eyJ.c2VjcmV0", Credential::ApiKey),
            (
                "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbg",
                Credential::Jwt,
            ),
            ("", Credential::Jwt),
            (".x", Credential::Jwt),
        ];
        for (text, kind) in rows {
            assert_eq!(credential_kind(text.as_bytes()), kind, "{text}");
        }
        let kind = |text| bearer(&HeaderValue::from_static(text)).map(<[u8]>::to_vec);
        assert_eq!(kind("bearer  x"), Some(b"x".to_vec()));
        assert_eq!(kind("Basic x"), None);
        assert_eq!(kind("Bearer"), None);
    }
}
