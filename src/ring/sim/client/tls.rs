//! A client's TLS: rustls between its session's bytes and the link's. For a client without TLS,
//! bytes pass unchanged.
//!
//! The contents of records depend on the system's random generator, their lengths do not: the same
//! seed still makes the same run.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Write};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Tls {
    tls: Option<Box<ClientConnection>>,
    /// Records that wait to be written.
    records: Vec<u8>,
}

impl Tls {
    pub(super) fn new(config: Option<&Arc<ClientConfig>>) -> Tls {
        let name = ServerName::try_from("localhost").ok();
        let made = config
            .zip(name)
            .and_then(|(config, name)| ClientConnection::new(Arc::clone(config), name).ok());
        Tls {
            tls: made.map(Box::new),
            records: Vec::new(),
        }
    }

    /// Decrypts what was received, for the session.
    ///
    /// # Errors
    /// What is wrong with the server's records.
    pub(super) fn decrypt(&mut self, received: Vec<u8>) -> Result<Vec<u8>, String> {
        let Some(tls) = &mut self.tls else {
            return Ok(received);
        };
        let (mut left, mut plain) = (received.as_slice(), Vec::new());
        while !left.is_empty() {
            let took = tls.read_tls(&mut left).map_err(|error| error.to_string())?;
            let state = tls
                .process_new_packets()
                .map_err(|error| format!("records of the server's: {error}"))?;
            let from = plain.len();
            plain.resize(from + state.plaintext_bytes_to_read(), 0);
            let read = tls.reader().read_exact(&mut plain[from..]);
            read.map_err(|error| error.to_string())?;
            if took == 0 {
                // Nothing may follow close_notify.
                return Err("the server sent more after close_notify".to_owned());
            }
        }
        Ok(plain)
    }

    /// Encrypts the session's output; returns what is to be written to the link.
    pub(super) fn encrypt<'a>(&'a mut self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let Some(tls) = &mut self.tls else {
            return out;
        };
        if !tls.is_handshaking() && !out.is_empty() {
            // What does not fit is encrypted on a later call.
            let took = tls.writer().write(out).unwrap_or(0);
            out.drain(..took);
        }
        while tls.wants_write()
            && tls
                .write_tls(&mut self.records)
                .is_ok_and(|bytes| bytes > 0)
        {}
        &mut self.records
    }

    /// Records wait to be written.
    pub(super) fn has_unsent(&self) -> bool {
        !self.records.is_empty()
    }
}
