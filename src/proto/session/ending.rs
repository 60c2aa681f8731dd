//! How a session ends: refusals, errors that become fatal, CLOSE (PROTOCOL.md, Ending).
//!
//! Every path leads to `State::Ended` once, and reports it once; what the peer still sends is
//! dropped. Flushing and lingering are up to the owner.

use super::{Event, Session, State};
use crate::base::clock::Instant;
use crate::base::limits::ERRORS_PER_S_MAX;
use crate::base::reason::Reason;
use crate::proto::error::{Code, Refusal};
use crate::proto::frame::Frame;
use crate::proto::message::Message;
use crate::proto::output::Output;

impl Session {
    /// Ends the session because of the peer: RST in the link phase, a fatal ERROR after it. Returns
    /// `Ended` once; a session that has ended stays so and writes nothing.
    #[cold]
    pub fn refuse(&mut self, refusal: &Refusal, out: &mut impl Output) -> Event<'static> {
        match self.state {
            State::AwaitSyn { .. } => Frame::encode_rst(0, refusal, out),
            State::AwaitAck { seq, .. } => Frame::encode_rst(seq, refusal, out),
            State::AwaitSynAck { .. } => Frame::encode_rst(0, refusal, out),
            State::Open | State::PeerClosing if self.is_server => {
                let (code, text) = (refusal.code, refusal.text.as_ref());
                self.send(
                    &Message::Error {
                        code,
                        id: 0,
                        fatal: true,
                        text,
                    },
                    out,
                );
            }
            // Only a server sends ERROR; a client gives its reason in CLOSE.
            State::Open | State::PeerClosing => {
                self.send(
                    &Message::Close {
                        code: refusal.code,
                        reason: &refusal.text,
                    },
                    out,
                );
            }
            State::Closing => {}
            State::Ended => return Event::Handled,
        }
        self.state = State::Ended;
        Event::Ended(refusal.code.close_reason())
    }

    /// Answers an operation with a non-fatal ERROR, or ends the session if the peer has caused too
    /// many of them within a second.
    #[cold]
    pub fn error(
        &mut self,
        code: Code,
        id: u32,
        text: &str,
        now: Instant,
        out: &mut impl Output,
    ) -> Event<'static> {
        if !matches!(self.state, State::Open | State::PeerClosing) {
            return Event::Handled;
        }
        let fatal = code.counts_as_error() && !self.errors.spend(ERRORS_PER_S_MAX, now);
        self.send(
            &Message::Error {
                code,
                id,
                fatal,
                text,
            },
            out,
        );
        if fatal {
            self.state = State::Ended;
            return Event::Ended(Reason::TooManyErrors);
        }
        Event::Handled
    }

    /// Asks the peer to end: CLOSE when established, RST before.
    pub fn close(&mut self, code: Code, reason: &'static str, out: &mut impl Output) {
        match self.state {
            State::Open | State::PeerClosing => {
                self.send(&Message::Close { code, reason }, out);
                let answered = self.state == State::PeerClosing;
                self.state = if answered {
                    State::Ended
                } else {
                    State::Closing
                };
            }
            State::Closing | State::Ended => {}
            _ => {
                self.refuse(&Refusal::new(code, reason), out);
            }
        }
    }

    /// Answers the peer's CLOSE and ends the session.
    pub fn finish(&mut self, out: &mut impl Output) {
        if self.state == State::PeerClosing {
            self.send(
                &Message::Close {
                    code: Code::Normal,
                    reason: "",
                },
                out,
            );
        }
        self.state = State::Ended;
    }
}
