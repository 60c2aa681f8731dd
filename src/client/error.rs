//! What can go wrong for a client, told apart by whose fault it is.

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
/// Retryable says that the same call may succeed later, not that it is safe to repeat: where
/// "was it done?" is unknown, only what may happen twice should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that no server could make sense of; nothing was sent.
    #[error("{text}")]
    Invalid { text: String },
    /// There is no server at the address, or something else than one.
    #[error("cannot connect to {address}: {source}; {}", connect_remedy(source))]
    Connect { address: String, source: io::Error },
    /// TLS could not be spoken: a file, a certificate, or the other side.
    #[error("{text}")]
    Tls { text: String },
    /// The server asks who this client is, and there is nothing to show that it takes.
    #[error("{text}")]
    Credential { text: String },
    /// The server refused the connection: RST during the handshake, a fatal ERROR after it.
    #[error("the server refused the connection: {}", tell(*code, reason))]
    Refused { code: Code, reason: String },
    /// The answer to this operation is a failure. The connection stands.
    #[error("the request failed: {}", tell(*code, text))]
    Failed { code: Code, text: String },
    /// The server refused this PUBLISH; it reached nobody. The connection stands.
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
    /// More messages wait to be received than the client keeps, so that the answer waited
    /// for cannot be read. The connection stands.
    #[error(
        "{bytes} bytes of messages wait to be taken; take some first, or allow more \
         (inbox_bytes_max)"
    )]
    InboxFull { bytes: usize },
    /// What came is not what it was to be read as: the two sides' types differ. The
    /// connection stands.
    #[error(
        "the payload cannot be read as {codec:?}: {source}; do both sides have the same types?"
    )]
    Payload {
        codec: Codec,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time. The connection stands; what was asked may still be carried out,
    /// and an answer that comes late is dropped.
    #[error(
        "{what}: no answer within {after:?}; allow more time, or look whether the server is overloaded"
    )]
    Timeout { what: &'static str, after: Duration },
    /// The server ended the connection in order, with CLOSE.
    #[error("the server closed the connection: {}", tell(*code, reason))]
    Closed { code: Code, reason: String },
    /// The server, or what answers in its place, does not keep to the protocol.
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
        /// The pool at that moment.
        status: Box<PoolStatus>,
        /// Why none could be made, if that was it.
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

    /// The client itself is at its end.
    pub(super) fn ended(what: &'static str) -> Error {
        Error::Io {
            what,
            source: io::ErrorKind::NotConnected.into(),
        }
    }

    /// The answer's channel is gone without a word: the client's task has ended.
    pub(super) fn silent() -> Error {
        Error::ended("the client's task has ended")
    }

    /// The same once more, for each who waits; causes by their kind and text.
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
            // Others are about one call, and told to that.
            other => Error::Io {
                what: "the connection has ended",
                source: io::Error::other(other.to_string()),
            },
        }
    }

    /// What a broken stream means: TLS has words of its own.
    pub(super) fn of_stream(what: &'static str, source: io::Error) -> Error {
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref());
        match tls {
            Some(error) => Error::tls(format!("TLS: {}; {}", told(error), tls_remedy(error))),
            None => Error::Io { what, source },
        }
    }

    /// Whether the server does not let this client in, or not do what it asked: another
    /// credential, or other rights, may help.
    pub fn is_permission(&self) -> bool {
        use Code::*;
        let codes = [AuthRequired, AuthFailed, AuthExpired, Forbidden, Revoked];
        matches!(self, Error::Credential { .. })
            || self.code().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the same call may succeed later, on this connection or a new one, without
    /// the caller changing anything. It says nothing about whether repeating is *safe*:
    /// after `Timeout`, `Closed` and `Io` the request may have been carried out.
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

    /// The wire code, where the server or its service sent one.
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
    /// Whoever runs the server, gives out its credentials and rights, or takes it down.
    Operator,
    /// The server's, or what answers in its place: it does not do what it should.
    Server,
    /// Who answers for the service that was asked.
    Service,
    /// Nobody in particular: there is too much to do at the moment.
    Load,
    /// The way between the two.
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

/// Whether what a code names is a matter of load or moment.
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

/// Code, reason and, where there is one, the remedy; one line.
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
        HeartbeatTimeout => "this program or the network stood still for too long: connect again",
        AuthRequired => {
            "this server asks who its clients are: give a token or an API key (--token-file, \
             --api-key-file; in a program, the builder's token, api_key or credential_by)"
        }
        AuthFailed => {
            "check that the token or API key is this server's, whole, and has not expired or been \
             revoked; the server's log says more (log.level = \"debug\")"
        }
        AuthExpired => "connect again with a new token",
        Unavailable => "what the server needs for this is away at the moment: try again",
        BadPayload => "mend the field it names: the payload does not fit its topic's schema",
        Revoked => "the credential was withdrawn: ask the server's operator for another",
        Forbidden => "ask the server's operator for the right",
        AddressDenied => "this address is shut out by the server's [access] section",
        TlsRequired => "connect to ringmails://",
        RateLimited | TooManyRequests | Overloaded => "ask less often, or again later",
        TooManyConnections => "try again later, or raise the server's limits.connections_max",
        NoService => "check the name of the service",
        RequestTimeout => "allow more time, or look at the service",
        ServiceGone => "the service's connection ended: try again",
        Draining => "the server is going down: connect again later",
        // The server's own words say whether it ends, or this connection alone.
        Shutdown => "connect again later",
        _ => return None,
    })
}

fn pool_remedy(status: &PoolStatus, cause: Option<&Error>) -> String {
    match cause {
        Some(error) => format!("the last attempt to make one failed: {error}"),
        None if status.lent < status.connections_max => {
            "is the server slow, or far away? Allow more time (acquire_timeout)".to_owned()
        }
        None => "hold them for less long, or allow more (connections_max, acquire_timeout)".into(),
    }
}

/// What to do about an address that cannot be connected to.
fn connect_remedy(source: &io::Error) -> &'static str {
    use io::ErrorKind::*;
    match source.kind() {
        // No connect(2) says so: the name was not found.
        NotFound => "check the name, and that this machine can resolve it (DNS, /etc/hosts)",
        PermissionDenied => {
            "this machine forbids it: look at its firewall, and at what this program is confined \
             by (container, seccomp, SELinux, systemd's IPAddressDeny)"
        }
        TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown => {
            "is the host up, and the way to it open (network, firewall)?"
        }
        AddrNotAvailable => {
            "this machine has no address or no port left to connect from: look at its network, and \
             at how many connections it has"
        }
        QuotaExceeded | ResourceBusy | OutOfMemory => "this machine is out of what it takes",
        UnexpectedEof | ConnectionReset | ConnectionAborted | NotConnected | BrokenPipe => {
            "something answers there and hangs up: is it a ringmail server, or a proxy whose \
             server is away?"
        }
        _ if is_out_of_files(source) => "close some files, or allow more (ulimit -n)",
        _ => "is a server running there (`ringmail serve`)?",
    }
}

/// EMFILE or ENFILE.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// What is wrong with a peer's certificate, in words; of all else what rustls says.
fn told(error: &rustls::Error) -> String {
    use rustls::CertificateError::*;
    let rustls::Error::InvalidCertificate(wrong) = error else {
        return error.to_string();
    };
    let text = match wrong {
        UnknownIssuer => "the server's certificate is signed by nobody this client trusts",
        BadSignature => "the server's certificate is not signed by the authority it names",
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate is not signed by the authority it names, or in a way that \
             this client does not know"
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "the server's certificate is not one for servers (extended key usage)"
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
            "connect by a name that the server's certificate has"
        }
        InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => "renew the server's certificate, or check the clock",
        InvalidCertificate(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server's certificate is an authority's (CA:TRUE); make it one that is none \
             (openssl: -addext basicConstraints=critical,CA:FALSE)"
        }
        InvalidCertificate(_) => "look at the server's certificate",
        AlertReceived(_) => {
            "the server does not go on with this client: it may want a certificate that it knows \
             (--cert FILE)"
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
    fn the_remedy_is_for_what_keeps_from_connecting() {
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
    fn only_what_may_pass_is_retryable() {
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
    fn what_is_told_of_a_code_is_what_the_table_says() {
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
