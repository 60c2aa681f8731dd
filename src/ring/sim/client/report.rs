//! What a simulated client has seen, and whether that is what it was owed.

use super::{Ending, Plan};
use crate::base::reason::Reason;
use crate::proto::error::Code;

/// What became of one client's conversation, so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub established: bool,
    /// The shard that served it, as SYN-ACK said.
    pub shard: Option<u16>,
    pub requests: u32,
    pub responses: u32,
    pub pings: u32,
    pub pongs: u32,
    /// PINGs of the server.
    pub pings_heard: u32,
    /// RESPONSEs that came before one that was asked for earlier.
    pub overtaken: u32,
    /// The first thing that was not as it should be.
    pub wrong: Option<Box<str>>,
    /// Codes of FAILED responses.
    pub failures: Vec<Code>,
    /// Codes of ERRORs that were not fatal.
    pub errors: Vec<Code>,
    /// The code of a fatal ERROR, or of an RST.
    pub refused: Option<Code>,
    pub drains: u32,
    /// Messages of other types.
    pub others: u32,
    /// The code of the server's CLOSE, when it came first.
    pub close_heard: Option<Code>,
    /// Its CLOSE was answered.
    pub close_answered: bool,
    /// What its own session ended for, when the server's bytes were at fault.
    pub offended: Option<Reason>,
    /// The server's stream ended.
    pub eof: bool,
    /// The connection was reset.
    pub reset: bool,
    /// A fault broke it, or nobody listened.
    pub broken: bool,
    /// What came, if it does not speak the protocol.
    pub raw: Vec<u8>,
    /// It is done: ended, or gone.
    pub over: bool,
}

impl Report {
    /// Whether a client that followed a well-behaved plan got what it was owed: of each
    /// REQUEST exactly one right RESPONSE (in the order asked, if all went to one service),
    /// each PING answered, and an end in order. A connection that a fault broke is owed a beginning of that.
    ///
    /// # Errors
    /// What was not so.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        self.check_truth()?;
        if self.broken {
            return Ok(());
        }
        if !self.over || self.reset || self.close_answered != (plan.ending == Ending::Close) {
            return Err(format!("it did not end in order: {self:?}"));
        }
        let asked = (self.requests, self.responses);
        let in_turn = self.overtaken == 0 || plan.asks.len() > 1;
        if asked != (plan.requests, plan.requests) || !in_turn {
            return Err(format!("not each REQUEST answered in turn: {self:?}"));
        }
        if self.pings != self.pongs {
            return Err(format!("not each PING answered: {self:?}"));
        }
        Ok(())
    }

    /// Whether nothing came that should not have, whoever ended the conversation.
    ///
    /// # Errors
    /// What came.
    pub fn check_truth(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.to_string());
        }
        match self.offended {
            Some(reason) => Err(format!("the server spoke nonsense: {reason:?}")),
            None => Ok(()),
        }
    }
}
