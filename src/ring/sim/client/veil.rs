//! A client's TLS: rustls between what its session says and hears and what goes over the
//! link. Where a client does not speak TLS, bytes pass as they are.
//!
//! The bytes of records come from the system's generator, their lengths do not: the same
//! seed still makes the same run.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Write};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Veil {
    tls: Option<Box<ClientConnection>>,
    /// Records that wait to be written.
    records: Vec<u8>,
}

impl Veil {
    pub(super) fn new(config: Option<&Arc<ClientConfig>>) -> Veil {
        let name = ServerName::try_from("localhost").ok();
        let made = config
            .zip(name)
            .and_then(|(config, name)| ClientConnection::new(Arc::clone(config), name).ok());
        Veil {
            tls: made.map(Box::new),
            records: Vec::new(),
        }
    }

    /// What was received, as its session shall see it.
    ///
    /// # Errors
    /// What is wrong with the server's records.
    pub(super) fn open(&mut self, received: Vec<u8>) -> Result<Vec<u8>, String> {
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
                // Nothing may follow close_notify, and nothing does.
                return Err("the server said more after close_notify".to_owned());
            }
        }
        Ok(plain)
    }

    /// What is to be written to the link of what its session has said.
    pub(super) fn seal<'a>(&'a mut self, said: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let Some(tls) = &mut self.tls else {
            return said;
        };
        if !tls.is_handshaking() && !said.is_empty() {
            // What there is no room for is said later.
            let took = tls.writer().write(said).unwrap_or(0);
            said.drain(..took);
        }
        while tls.wants_write()
            && tls
                .write_tls(&mut self.records)
                .is_ok_and(|bytes| bytes > 0)
        {}
        &mut self.records
    }

    /// Records wait to be written.
    pub(super) fn is_behind(&self) -> bool {
        !self.records.is_empty()
    }
}
