//! Signals: each is answered by a line and none ends the server in silence.

use crate::harness::Server;
use libc::{SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGPWR, SIGQUIT, SIGSTKFLT, SIGTERM};
use libc::{SIGPIPE, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ};
use ringmail::proto::error::Code;
use ringmail::proto::message::Message;

#[test]
fn what_is_no_end_gets_a_line_and_clients_notice_nothing() {
    let server = Server::start(&[]);
    let mut wire = server.greet();
    let rows = [
        (SIGHUP, "SIGHUP is ignored: the configuration"),
        (SIGUSR1, "SIGUSR1: reopening the log file"),
        (SIGUSR2, "SIGUSR2 is ignored"),
        (SIGALRM, "SIGALRM is ignored"),
        (SIGVTALRM, "SIGVTALRM is ignored"),
        (SIGIO, "SIGIO is ignored"),
        (SIGPWR, "SIGPWR is ignored"),
        (SIGSTKFLT, "SIGSTKFLT is ignored"),
        (SIGXCPU, "SIGXCPU is ignored"),
        (libc::SIGRTMIN(), "SIGRTMIN+0 is ignored"),
        (libc::SIGRTMAX(), "SIGRTMIN+30 is ignored"),
    ];
    for (signal, told) in rows {
        server.signal(signal);
        server.expect_lines(1, |line| line.contains(told));
        wire.echoes();
    }
    for silent in [SIGPIPE, SIGPROF, SIGXFSZ] {
        server.signal(silent);
        wire.echoes();
    }
    wire.close();
    server.end();
}

#[test]
fn what_is_an_end_drains() {
    for signal in [SIGTERM, SIGINT, SIGQUIT] {
        let mut server = Server::start(&[]);
        let mut wire = server.greet();
        server.signal(signal);
        let told = wire.message().expect("DRAIN");
        assert!(matches!(told.message(), Message::Drain { .. }), "{signal}");
        let told = wire.message().expect("CLOSE");
        let Message::Close { code, .. } = told.message() else {
            panic!("{signal}");
        };
        assert_eq!(code, Code::Shutdown);
        wire.shut();
        assert_eq!(server.wait().code(), Some(0), "{signal}: {}", server.log());
        assert!(server.log().contains("draining"), "{}", server.log());
    }
}
