//! What a simulated client has seen, and whether it got everything it was owed.

use super::{Ending, Plan};
use crate::base::reason::Reason;
use crate::proto::error::Code;

/// What has happened to a client so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub established: bool,
    /// The shard that serves it, from SYN-ACK.
    pub shard: Option<u16>,
    pub requests: u32,
    pub responses: u32,
    pub pings: u32,
    pub pongs: u32,
    /// PINGs from the server.
    pub pings_received: u32,
    /// RESPONSEs that overtook one to an earlier REQUEST.
    pub out_of_order: u32,
    /// The first violation of the protocol by the server.
    pub violation: Option<Box<str>>,
    /// Codes of FAILED responses.
    pub failures: Vec<Code>,
    /// Codes of ERRORs that were not fatal.
    pub errors: Vec<Code>,
    /// The code of a fatal ERROR, or of an RST.
    pub refused: Option<Code>,
    pub drains: u32,
    /// Messages of other types.
    pub others: u32,
    /// The code of the server's CLOSE, if that came first.
    pub close_received: Option<Code>,
    /// Its CLOSE was answered.
    pub close_answered: bool,
    /// Why its own session ended, if the server's bytes violated the protocol.
    pub protocol_error: Option<Reason>,
    /// The server's stream ended.
    pub eof: bool,
    /// The connection was reset.
    pub reset: bool,
    /// An injected fault broke it, or no shard listened.
    pub broken: bool,
    /// The bytes received, if the client does not shake hands.
    pub raw: Vec<u8>,
    /// The client has ended.
    pub ended: bool,
}

impl Report {
    /// Checks that a client with a well-behaved plan got what it was owed: exactly one correct
    /// RESPONSE to each REQUEST (in the order of the REQUESTs, if all went to one service), a PONG
    /// to each PING, and an orderly end. If a fault broke the connection, a prefix of that is
    /// enough.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        self.check_violation()?;
        if self.broken {
            return Ok(());
        }
        if !self.ended || self.reset || self.close_answered != (plan.ending == Ending::Close) {
            return Err(format!("it did not end in order: {self:?}"));
        }
        let asked = (self.requests, self.responses);
        let in_turn = self.out_of_order == 0 || plan.request_kinds.len() > 1;
        if asked != (plan.requests, plan.requests) || !in_turn {
            return Err(format!("not each REQUEST answered in turn: {self:?}"));
        }
        if self.pings != self.pongs {
            return Err(format!("not each PING answered: {self:?}"));
        }
        Ok(())
    }

    /// Checks that the server sent nothing it should not have, whoever ended the connection.
    ///
    /// # Errors
    /// What it sent.
    pub fn check_violation(&self) -> Result<(), String> {
        if let Some(wrong) = &self.violation {
            return Err(wrong.to_string());
        }
        match self.protocol_error {
            Some(reason) => Err(format!("the server violated the protocol: {reason:?}")),
            None => Ok(()),
        }
    }
}
