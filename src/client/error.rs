//! What can go wrong for a client, grouped by whose fault it is.

use super::pool::PoolStatus;
use crate::base::terminal;
use crate::proto::envelope::Codec;
use crate::proto::error::{Code, Refusal};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a call of a client failed, whose fault that is, and whether the same call may succeed
/// later.
///
/// | variant | [`fault`](Error::fault) | [`is_retryable`](Error::is_retryable) | was it done? | the connection |
/// |---|---|---|---|---|
/// | `Invalid` | caller | no | no: nothing was sent | stands |
/// | `Connect` | network | yes | no | there is none |
/// | `Tls` | operator: certificates, or their names | no | no | there is none |
/// | `Credential` | operator: there is none to show | no | no | there is none |
/// | `Refused`, `Closed` | by code, below | by code | unknown | has ended |
/// | `Failed` | by code: this one operation was refused | by code | no, unless the service says otherwise | stands |
/// | `Rejected` | by code: this one PUBLISH was refused | by code | no | stands |
/// | `Unconfirmed` | network | yes | unknown | broke |
/// | `InboxFull` | caller: messages are not taken | yes | unknown | stands |
/// | `Payload` | service: the two sides' types differ | no | yes | stands |
/// | `Timeout` | unknown | yes | unknown | stands |
/// | `Protocol` | server | no | unknown | has ended |
/// | `Io` | network | yes | unknown | broke |
/// | `PoolTimeout` | as its cause; caller: the pool's bounds, where there is none | yes | no | was not got |
/// | `PoolClosed` | caller | no | no | is not to be got |
///
/// | codes | whose fault | retryable |
/// |---|---|---|
/// | RATE_LIMITED, OVERLOADED, UNAVAILABLE, SLOW_CONSUMER, TOO_MANY_CONNECTIONS, TOO_MANY_REQUESTS | load | yes |
/// | HANDSHAKE_TIMEOUT, HEARTBEAT_TIMEOUT, FRAME_TIMEOUT | network | yes |
/// | DRAINING, SHUTDOWN; NORMAL in `Closed` | operator: the server goes down | yes |
/// | REQUEST_TIMEOUT, SERVICE_GONE | service | yes |
/// | NO_SERVICE, and the application's own | service | no |
/// | AUTH_REQUIRED, AUTH_FAILED, AUTH_EXPIRED, FORBIDDEN, REVOKED, ADDRESS_DENIED, TLS_REQUIRED | operator | no |
/// | INTERNAL | server | no |
/// | SESSION_TAKEN, TOO_MANY_SUBSCRIPTIONS, BAD_NAME, BAD_PAYLOAD, NOT_SUBSCRIBED, TOO_LARGE and all others | caller | no |
///
/// Retryable means that the same call may succeed later, not that it is safe to repeat: if "was
/// it done?" is unknown, repeat only operations that may happen twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that no server would accept; nothing was sent.
    #[error("{text}")]
    Invalid { text: String },
    /// There is no server at the address, or it is not a ringmail server.
    #[error("cannot connect to {address}: {source}; {}", connect_remedy(source))]
    Connect { address: String, source: io::Error },
    /// TLS failed: because of a file, a certificate, or the other side.
    #[error("{text}")]
    Tls { text: String },
    /// The server requires authentication, and there is no credential that it accepts.
    #[error("{text}")]
    Credential { text: String },
    /// The server refused the connection: RST during the handshake, a fatal ERROR after it.
    #[error("the server refused the connection: {}", tell(*code, reason))]
    Refused { code: Code, reason: String },
    /// The answer to this operation is a failure. The connection stays open.
    #[error("the request failed: {}", tell(*code, text))]
    Failed { code: Code, text: String },
    /// The server refused this PUBLISH; it reached nobody. The connection stays open.
    #[error("publishing on {topic:?} failed (id {id}): {}", tell(*code, text))]
    Rejected {
        id: u32,
        topic: String,
        code: Code,
        text: String,
    },
    /// The connection broke before these PUBLISHes were confirmed, the first of them with
    /// this id and topic: they may have been delivered. A session would have repeated them.
    #[error(
        "the connection broke before {count} PUBLISHes were confirmed, the first on {topic:?} \
         (id {id}); publish again, or use a session"
    )]
    Unconfirmed {
        id: u32,
        topic: String,
        count: usize,
    },
    /// The inbox is full, so that the client cannot read the answer it waits for. The connection
    /// stays open.
    #[error(
        "the inbox is full, with {bytes} bytes of messages; take some first, or allow more \
         (inbox_bytes_max)"
    )]
    InboxFull { bytes: usize },
    /// The payload cannot be decoded as requested: the two sides' types differ. The connection
    /// stays open.
    #[error(
        "the payload cannot be decoded as {codec:?}: {source}; do both sides use the same types?"
    )]
    Payload {
        codec: Codec,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time. The connection stays open; the operation may still be carried out, and
    /// a late answer is dropped.
    #[error(
        "{what}: no answer within {after:?}; allow more time, or check whether the server is \
         overloaded"
    )]
    Timeout { what: &'static str, after: Duration },
    /// The server ended the connection in order, with CLOSE.
    #[error("the server closed the connection: {}", tell(*code, reason))]
    Closed { code: Code, reason: String },
    /// The server, or whatever answers in its place, violates the protocol.
    #[error("the server broke the protocol: {0}; is it a ringmail server, of this version?")]
    Protocol(#[source] Refusal),
    /// The connection broke.
    #[error("{what}: {source}; connect again")]
    Io {
        what: &'static str,
        source: io::Error,
    },
    /// The pool had no connection to lend in time.
    #[error("no connection of the pool within {waited:?}, {status}; {}", pool_remedy(status, cause.as_deref()))]
    PoolTimeout {
        waited: Duration,
        /// The pool's status at that moment.
        status: Box<PoolStatus>,
        /// Why no connection could be opened, if that was the cause.
        #[source]
        cause: Option<Arc<Error>>,
    },
    /// The pool has been closed.
    #[error("the pool is closed; open another one")]
    PoolClosed,
}

impl Error {
    pub(crate) fn invalid(text: impl Into<String>) -> Error {
        Error::Invalid { text: text.into() }
    }

    pub(crate) fn tls(text: impl Into<String>) -> Error {
        Error::Tls { text: text.into() }
    }

    /// The client itself has ended.
    pub(super) fn ended(what: &'static str) -> Error {
        Error::Io {
            what,
            source: io::ErrorKind::NotConnected.into(),
        }
    }

    /// The answer's channel was closed without an answer: the client's task has ended.
    pub(super) fn silent() -> Error {
        Error::ended("the client's task has ended")
    }

    /// A copy for each waiting caller; causes by their kind and text.
    pub(super) fn copy(&self) -> Error {
        let again = |source: &io::Error| match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        match self {
            Error::Invalid { text } => Error::Invalid { text: text.clone() },
            Error::Tls { text } => Error::Tls { text: text.clone() },
            Error::Credential { text } => Error::Credential { text: text.clone() },
            Error::Protocol(refusal) => Error::Protocol(refusal.clone()),
            Error::Refused { code, reason } => Error::Refused {
                code: *code,
                reason: reason.clone(),
            },
            Error::Closed { code, reason } => Error::Closed {
                code: *code,
                reason: reason.clone(),
            },
            Error::Failed { code, text } => Error::Failed {
                code: *code,
                text: text.clone(),
            },
            Error::Connect { address, source } => Error::Connect {
                address: address.clone(),
                source: again(source),
            },
            Error::Io { what, source } => Error::Io {
                what,
                source: again(source),
            },
            Error::InboxFull { bytes } => Error::InboxFull { bytes: *bytes },
            // Other errors concern one call, and are returned to that.
            other => Error::Io {
                what: "the connection has ended",
                source: io::Error::other(other.to_string()),
            },
        }
    }

    /// What a broken stream means; TLS has its own errors.
    pub(super) fn of_stream(what: &'static str, source: io::Error) -> Error {
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref());
        match tls {
            Some(error) => Error::tls(format!("TLS: {}; {}", told(error), tls_remedy(error))),
            None => Error::Io { what, source },
        }
    }

    /// Whether the server does not admit this client, or does not permit the operation: another
    /// credential, or other rights, may help.
    pub fn is_permission(&self) -> bool {
        use Code::*;
        let codes = [AuthRequired, AuthFailed, AuthExpired, Forbidden, Revoked];
        matches!(self, Error::Credential { .. })
            || self.code().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the same call may succeed later, on this connection or a new one, without
    /// the caller changing anything. It does not say whether repeating is *safe*: after
    /// `Timeout`, `Closed` and `Io` the request may have been carried out.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Invalid { .. }
            | Error::Protocol(_)
            | Error::Payload { .. }
            | Error::Tls { .. }
            | Error::Credential { .. }
            | Error::PoolClosed => false,
            Error::Connect { .. }
            | Error::Timeout { .. }
            | Error::Io { .. }
            | Error::Unconfirmed { .. }
            | Error::InboxFull { .. }
            | Error::PoolTimeout { .. } => true,
            Error::Closed { code, .. } => *code == Code::Normal || passes(*code),
            Error::Refused { code, .. }
            | Error::Failed { code, .. }
            | Error::Rejected { code, .. } => passes(*code),
        }
    }

    /// Who has to act, by the tables of [`Error`].
    pub fn fault(&self) -> Fault {
        match self {
            Error::Invalid { .. } | Error::InboxFull { .. } | Error::PoolClosed => Fault::Caller,
            Error::PoolTimeout { cause, .. } => {
                cause.as_ref().map_or(Fault::Caller, |cause| cause.fault())
            }
            Error::Tls { .. } | Error::Credential { .. } => Fault::Operator,
            Error::Connect { .. } | Error::Unconfirmed { .. } | Error::Io { .. } => Fault::Network,
            Error::Payload { .. } => Fault::Service,
            Error::Timeout { .. } => Fault::Unknown,
            Error::Protocol(_) => Fault::Server,
            Error::Refused { code, .. }
            | Error::Failed { code, .. }
            | Error::Rejected { code, .. }
            | Error::Closed { code, .. } => Fault::of(*code),
        }
    }

    /// The wire code, if the server or its service sent one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. }
            | Error::Failed { code, .. }
            | Error::Rejected { code, .. }
            | Error::Closed { code, .. } => Some(*code),
            Error::Protocol(refusal) => Some(refusal.code),
            _ => None,
        }
    }
}

/// Who has to act so that a call succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The program that called.
    Caller,
    /// The operator, who runs the server, grants credentials and rights, or shuts it down.
    Operator,
    /// The server, or whatever answers in its place: it does not do what it should.
    Server,
    /// Whoever serves the service.
    Service,
    /// Nobody in particular: the load is too high at the moment.
    Load,
    /// The network between the two.
    Network,
    /// It cannot be told from here.
    Unknown,
}

impl Fault {
    fn of(code: Code) -> Fault {
        use Code::*;
        match code {
            RateLimited | Overloaded | Unavailable | SlowConsumer | TooManyConnections
            | TooManyRequests => Fault::Load,
            HandshakeTimeout | HeartbeatTimeout | FrameTimeout => Fault::Network,
            Normal | Draining | Shutdown | AuthRequired | AuthFailed | AuthExpired | Forbidden
            | Revoked | AddressDenied | TlsRequired => Fault::Operator,
            RequestTimeout | ServiceGone | NoService | Application(_) => Fault::Service,
            Internal => Fault::Server,
            _ => Fault::Caller,
        }
    }
}

/// Whether a code stands for a temporary condition, such as load.
pub(super) fn passes(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        HandshakeTimeout
            | HeartbeatTimeout
            | FrameTimeout
            | RateLimited
            | TooManyConnections
            | SlowConsumer
            | Overloaded
            | Unavailable
            | TooManyRequests
            | RequestTimeout
            | ServiceGone
            | Draining
            | Shutdown
    )
}

/// Code, reason and, if there is one, the remedy; one line.
fn tell(code: Code, reason: &str) -> String {
    let mut line = code.to_string();
    if !reason.is_empty() {
        line.push_str(": ");
        let reason = reason.replace(['\n', '\r', '\t'], " ");
        line.push_str(&terminal::escaped(&reason));
    }
    if let Some(remedy) = remedy(code) {
        line.push_str("; ");
        line.push_str(remedy);
    }
    line
}

fn remedy(code: Code) -> Option<&'static str> {
    use Code::*;
    Some(match code {
        TooLarge => "send less, or raise the server's limits.message_bytes_max",
        HeartbeatTimeout => "this program or the network stalled for too long: connect again",
        AuthRequired => {
            "this server requires authentication: give a token or an API key (--token-file, \
             --api-key-file; in a program, the builder's token, api_key or credential_by)"
        }
        AuthFailed => {
            "check that the token or API key is this server's, whole, and has not expired or been \
             revoked; the server's log says more (log.level = \"debug\")"
        }
        AuthExpired => "connect again with a new token",
        Unavailable => {
            "something that the server needs for this is unavailable at the moment: \
                        try again"
        }
        BadPayload => "fix the field it names: the payload does not match its topic's schema",
        Revoked => "the credential was revoked: ask the server's operator for a new one",
        Forbidden => "ask the server's operator for the right",
        AddressDenied => "this address is denied by the server's [access] section",
        TlsRequired => "connect to ringmails://",
        RateLimited | TooManyRequests | Overloaded => "send less, or try again later",
        TooManyConnections => "try again later, or raise the server's limits.connections_max",
        NoService => "check the name of the service",
        RequestTimeout => "allow more time, or check the service",
        ServiceGone => "the service's connection ended: try again",
        Draining => "the server is shutting down: connect again later",
        // The server's own words say whether it ends, or this connection alone.
        Shutdown => "connect again later",
        _ => return None,
    })
}

fn pool_remedy(status: &PoolStatus, cause: Option<&Error>) -> String {
    match cause {
        Some(error) => format!("the last attempt to open one failed: {error}"),
        None if status.lent < status.connections_max => {
            "is the server slow, or far away? Allow more time (acquire_timeout)".to_owned()
        }
        None => "return them sooner, or allow more (connections_max, acquire_timeout)".into(),
    }
}

/// What to do about an address that cannot be connected to.
fn connect_remedy(source: &io::Error) -> &'static str {
    use io::ErrorKind::*;
    match source.kind() {
        // No connect(2) says so: the name was not found.
        NotFound => "check the name, and that this machine can resolve it (DNS, /etc/hosts)",
        PermissionDenied => {
            "this machine forbids it: check its firewall, and what confines this program \
             (container, seccomp, SELinux, systemd's IPAddressDeny)"
        }
        TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown => {
            "is the host up, and reachable (network, firewall)?"
        }
        AddrNotAvailable => {
            "this machine has no address or no port left to connect from: check its network, \
             and how many connections it has open"
        }
        QuotaExceeded | ResourceBusy | OutOfMemory => {
            "this machine has run out of memory or of \
                                                       another resource"
        }
        UnexpectedEof | ConnectionReset | ConnectionAborted | NotConnected | BrokenPipe => {
            "something answers there and hangs up: is it a ringmail server, or a proxy whose \
             server is down?"
        }
        _ if is_out_of_files(source) => "close some files, or allow more (ulimit -n)",
        _ => "is a server running there (`ringmail serve`)?",
    }
}

/// EMFILE or ENFILE.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// What is wrong with a peer's certificate, in words; for everything else, what rustls says.
fn told(error: &rustls::Error) -> String {
    use rustls::CertificateError::*;
    let rustls::Error::InvalidCertificate(wrong) = error else {
        return error.to_string();
    };
    let text = match wrong {
        UnknownIssuer => {
            "the server's certificate is not signed by an authority that this \
                          client trusts"
        }
        BadSignature => "the server's certificate is not signed by the authority it names",
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate is not signed by the authority it names, or by an \
             algorithm that this client does not support"
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "the server's certificate is not valid for servers (extended key usage)"
        }
        Expired | ExpiredContext { .. } => "the server's certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the server's certificate is not valid yet",
        Revoked => "the server's certificate has been revoked",
        BadEncoding => "the server's certificate cannot be read",
        _ => return error.to_string(),
    };
    text.to_owned()
}

fn tls_remedy(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError::*;
    use rustls::Error::{AlertReceived, InvalidCertificate};
    match error {
        InvalidCertificate(
            UnknownIssuer
            | BadSignature
            | UnsupportedSignatureAlgorithmContext { .. }
            | UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => "name the authority that signed the server's certificate (--tls-ca FILE)",
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "connect by a name that is in the server's certificate"
        }
        InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => "renew the server's certificate, or check the clock",
        InvalidCertificate(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server's certificate is a CA certificate (CA:TRUE); make one that is not \
             (openssl: -addext basicConstraints=critical,CA:FALSE)"
        }
        InvalidCertificate(_) => "check the server's certificate",
        AlertReceived(_) => {
            "the server aborted the handshake: it may require a client certificate (--cert \
             FILE)"
        }
        _ => "does the server speak TLS there (its tls.mode)?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn an_error_names_cause_and_remedy_in_one_line_and_keeps_its_source() {
        let error = Error::Connect {
            address: "localhost:1".to_owned(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        let text = error.to_string();
        assert!(text.contains("localhost:1") && text.contains("refused"));
        assert!(text.contains("ringmail serve"));
        assert!(error.source().is_some());

        let error = Error::Failed {
            code: Code::NoService,
            text: "no\nsuch".to_owned(),
        };
        assert!(error.to_string().contains("NO_SERVICE: no such; check"));
    }

    #[test]
    fn the_remedy_fits_the_cause_of_a_failed_connect() {
        use io::ErrorKind::*;
        for (source, remedy) in [
            (io::Error::from(ConnectionRefused), "ringmail serve"),
            (io::Error::new(NotFound, "no such host"), "DNS"),
            (io::Error::from_raw_os_error(libc::EACCES), "firewall"),
            (io::Error::from_raw_os_error(libc::EHOSTUNREACH), "host up"),
            (
                io::Error::from_raw_os_error(libc::EADDRNOTAVAIL),
                "port left",
            ),
            (io::Error::from_raw_os_error(libc::EMFILE), "ulimit -n"),
            (io::Error::from(TimedOut), "host up"),
            (io::Error::from(UnexpectedEof), "proxy"),
        ] {
            let address = "localhost:1".to_owned();
            let error = Error::Connect { address, source };
            let (text, again) = (error.to_string(), error.copy().to_string());
            assert!(text.contains(remedy), "{text}");
            assert!(again.contains(remedy), "{again}");
            assert_eq!(
                remedy == "ringmail serve",
                text.contains("`ringmail serve`")
            );
        }
    }

    #[test]
    fn only_temporary_failures_are_retryable() {
        let refused = |code| Error::Refused {
            code,
            reason: String::new(),
        };
        assert!(refused(Code::TooManyConnections).is_retryable());
        assert!(!refused(Code::AddressDenied).is_retryable());
        let failed = |code| Error::Failed {
            code,
            text: String::new(),
        };
        assert!(failed(Code::Overloaded).is_retryable());
        assert!(!failed(Code::Application(0x1000)).is_retryable());
        assert!(!Error::Protocol(Refusal::new(Code::Malformed, "")).is_retryable());
    }

    /// Each row of the table of codes.
    #[test]
    fn the_classification_of_a_code_is_that_of_the_table() {
        let head = include_str!("error.rs")
            .split_once("/// | codes |")
            .unwrap()
            .1;
        let rows = head
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with("/// |"));
        let codes: Vec<Code> = (0..0x600).map(Code::from_wire).collect();
        let mut told = 0;
        for row in rows {
            let columns: Vec<&str> = row.split('|').map(str::trim).collect();
            for &code in &codes {
                let name = code.to_string();
                let mut names = columns[1].split([' ', ',', ';']);
                if !names.any(|word| word == name) {
                    continue;
                }
                told += 1;
                let reason = String::new();
                let error = Error::Closed { code, reason };
                let fault = format!("{:?}", error.fault()).to_lowercase();
                assert!(columns[2].starts_with(&fault), "{name}: {fault}");
                assert_eq!(error.is_retryable(), columns[3] == "yes", "{name}");
            }
        }
        assert_eq!(told, 29, "codes that the table names");
        let own = Error::Failed {
            code: Code::Application(0x1000),
            text: String::new(),
        };
        assert_eq!((own.fault(), own.is_retryable()), (Fault::Service, false));
    }
}
