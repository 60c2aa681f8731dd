//! One connection: what it holds, what it does with received bytes, and the stages it goes
//! through to its end.
//!
//! ```text
//!   Running ──end(reason)──► Flushing ──all sent──► Lingering ──peer's FIN, 1 s──► Closing ──► slot freed
//!      │                        │ peer's FIN came already, or 1 s without progress     ▲   └──► Detached
//!      └──reset─────────────────┴───────────────────────────────────────────────────────┘   (a session waits)
//! ```
//!
//! Nothing here touches the driver: methods change what the connection wants, and
//! `settle` (in `shard::settle`) brings the driver's operations in line with that, once
//! a turn.
//!
//! What a connection does with a message is the exchange's business; here is what it holds.
//!
//! Invariants: the first reason given is the one counted; bytes are handled only while
//! `Running` and while the outbox has room for the answers; a slot is freed only when
//! neither receive nor send is in flight.

use super::fanout_queue::Fanning;
use super::line::Line;
use super::outbox::Writer;
use super::parcel::Parcel;
use super::resource::Resources;
use super::seek::Resumption;
use super::tls::Tls;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::LINGER_MS;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::metrics::histogram::Timing;
use crate::proto::envelope::Codec;
use crate::proto::error::{Code, Refusal};
use crate::proto::outcome::{Failure, Outcome};
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Event, Session};
use crate::ring::driver::Socket;
use std::time::Duration;

/// Bytes received and not yet handled at which a connection stops receiving.
const INPUT_BYTES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Running,
    /// Ending: what is queued still goes out, what comes in is dropped.
    Flushing,
    /// Our sending side is shut down; reading and dropping until the peer's is.
    Lingering,
    /// Over: only waits for the driver's last completions.
    Closing,
    /// Gone; its session waits in the slot for another connection.
    Detached,
}

/// The state of the multishot receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    Off,
    Armed,
    Cancelling,
}

/// What a connection has received and sent, TLS and handshakes included.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

pub(super) struct Connection {
    pub(super) line: Line,
    pub(super) socket: Socket,
    pub(super) stage: Stage,
    pub(super) receive: Receive,
    /// A send is in flight.
    pub(super) sending: bool,
    /// Bytes of the chunk in flight that went in earlier, short sends.
    pub(super) sent_of_chunk: u32,
    /// The send in flight has been cancelled.
    pub(super) send_cancelled: bool,
    /// In the shard's list of connections to settle.
    pub(super) touched: bool,
    /// In the shard's list of connections with input left to handle.
    pub(super) ready: bool,
    /// Waits for its outbox to drain before it handles more.
    pub(super) stalled: bool,
    /// Waits for room in the mesh before it handles more.
    pub(super) blocked: bool,
    /// What it has published is being delivered to many, or it is being brought much that is
    /// retained: from the end of the turn on it handles no more until that is done.
    pub(super) fanning: Fanning,
    /// So much of what it has asked is unanswered that it handles no more until some is.
    pub(super) unanswered: bool,
    /// Its guest waits: for the issuer, for a worker, or because it has sent more than it may.
    pub(super) held: bool,
    /// On its way to the session it resumes.
    pub(super) moving: Option<Box<Resumption>>,
    /// Another connection takes over its session: nothing more is read or sent.
    pub(super) yields_to: Option<Box<Key>>,
    /// In the shard's queue for receive buffers.
    pub(super) starved: bool,
    /// The peer has shut its sending side down.
    pub(super) peer_ended: bool,
    pub(super) established: bool,
    pub(super) reason: Option<Reason>,
    /// Nothing has come yet, so whether it speaks TLS is not known.
    pub(super) undecided: bool,
    pub(super) tls: Option<Box<Tls>>,
    pub(super) input: Reassembly,
    /// The deadline of the stage, while not `Running`.
    pub(super) stage_deadline: Instant,
    /// Where this connection's timer stands.
    pub(super) timer: Instant,
    pub(super) opened: Instant,
    pub(super) wire: Wire,
}

impl Connection {
    /// How long flushing may make no progress, and how long lingering lasts.
    pub(super) const STAGE_TIME: Duration = Duration::from_millis(LINGER_MS);

    pub(super) fn new(key: Key, socket: Socket, session: Session, now: Instant) -> Connection {
        Connection {
            line: Line::new(key, session),
            socket,
            stage: Stage::Running,
            receive: Receive::Off,
            sending: false,
            sent_of_chunk: 0,
            send_cancelled: false,
            touched: false,
            ready: false,
            stalled: false,
            blocked: false,
            fanning: Fanning::No,
            unanswered: false,
            held: false,
            moving: None,
            yields_to: None,
            starved: false,
            peer_ended: false,
            established: false,
            reason: None,
            undecided: false,
            tls: None,
            input: Reassembly::default(),
            stage_deadline: Instant::NEVER,
            timer: Instant::NEVER,
            opened: now,
            wire: Wire::default(),
        }
    }

    /// Whether more should be received now.
    pub(super) fn wants_receive(&self) -> bool {
        match self.stage {
            Stage::Running => {
                let backlog = self.ready && self.input.len() > INPUT_BYTES_MAX;
                !self.peer_ended && !self.waits() && !backlog
            }
            Stage::Flushing | Stage::Lingering => !self.peer_ended && self.yields_to.is_none(),
            Stage::Closing | Stage::Detached => false,
        }
    }

    /// What it receives is not simply plaintext.
    #[inline]
    pub(super) fn is_veiled(&self) -> bool {
        self.tls.is_some() || self.undecided
    }

    /// Its transport moves, or makes way for another.
    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some() || self.yields_to.is_some()
    }

    /// It is a session whose client has not come back in time.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.stage == Stage::Detached && self.stage_deadline <= now
    }

    /// Nothing of its transport is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.receive == Receive::Off && !self.sending
    }

    /// Keeps bytes for later. One turn may bring megabytes of a connection that has to wait
    /// (a receive is cancelled between turns): when the shard's memory is lent out that is
    /// more than can be had.
    pub(super) fn keep(&mut self, bytes: &[u8], resources: &mut Resources) {
        if bytes.is_empty() {
            return;
        }
        if self.input.len() > INPUT_BYTES_MAX && resources.pool.is_exhausted() {
            return self.overload(resources);
        }
        let mut input = std::mem::take(&mut self.input);
        self.lend_input(&mut input, bytes, resources);
        input.keep(bytes);
        self.input = input;
        self.account_input(resources);
    }

    /// A buffer for its reassembly, if bytes are about to be kept and there is none.
    pub(super) fn lend_input(
        &mut self,
        input: &mut Reassembly,
        bytes: &[u8],
        resources: &mut Resources,
    ) {
        if input.charged() == 0 && !bytes.is_empty() {
            let chunk = resources.pool.take();
            input.note_charged(chunk.capacity());
            *input.buffer_mut() = chunk;
        }
    }

    /// Charges what the reassembly has grown by, or gives its buffer back when empty.
    #[inline]
    pub(super) fn account_input(&mut self, resources: &mut Resources) {
        if self.input.charged() == 0 {
            return;
        }
        let capacity = self.input.capacity();
        resources.pool.charge_growth(self.input.charged(), capacity);
        self.input.note_charged(capacity);
        if self.input.is_empty() {
            resources.pool.give(std::mem::take(self.input.buffer_mut()));
            self.input.note_charged(0);
        }
    }

    #[inline]
    pub(super) fn note_established(&mut self, resources: &mut Resources) {
        if !self.established && self.line.session.is_established() {
            self.established = true;
            // The handshake's deadline makes way for the heartbeat's, which may be earlier.
            self.timer = Instant::NEVER;
            resources.counters.add(Counter::Established, 1);
            let took = resources.now.since(self.opened);
            resources.histograms.record(Timing::Handshake, took);
            resources.note_arrival(self.line.key);
        }
    }

    /// The peer has shut its sending side down: what it asked is still answered.
    pub(super) fn take_end(&mut self, resources: &mut Resources) {
        self.peer_ended = true;
        self.finish_if_done(resources);
    }

    /// A deferred call of this connection is over; `id` and `codec` are the request's.
    pub(super) fn answer(
        &mut self,
        id: u32,
        codec: Codec,
        outcome: Outcome,
        resources: &mut Resources,
    ) {
        self.check_answers(resources);
        match outcome {
            Ok(answer) => {
                let codec = answer.codec.unwrap_or(codec);
                self.line
                    .respond_shared(id, codec, answer.payload, resources);
            }
            Err(failure) => self.line.respond_failed(id, &failure, resources),
        }
        self.close_call(resources);
    }

    /// A call is answered by another connection's RESPONSE.
    pub(super) fn take_response(
        &mut self,
        parcel: &mut Parcel<'_>,
        id: u32,
        resources: &mut Resources,
    ) {
        self.check_answers(resources);
        match self.take_message(parcel, id, Instant::NEVER, resources) {
            true => resources.count_response(parcel.message()),
            false => self.line.refuse_too_large(id, resources),
        }
        self.close_call(resources);
    }

    /// Ends a connection whose answers pile up. Asked before the next is put to them: a
    /// single answer larger than the bound is still sent.
    pub(super) fn check_answers(&mut self, resources: &mut Resources) {
        if self.stage == Stage::Running && self.line.is_behind(resources) {
            let text = match self.line.counted {
                true => "your answers pile up faster than you acknowledge them",
                false => "your answers pile up faster than you read them",
            };
            self.refuse(Code::SlowConsumer, text, resources);
        }
    }

    /// A deferred call's deadline has passed: its requester is told now.
    pub(super) fn time_out_call(&mut self, id: u32, resources: &mut Resources) {
        let failure = Failure::of(Code::RequestTimeout, "the service did not answer in time");
        self.line.respond_failed(id, &failure, resources);
        self.close_call(resources);
    }

    fn close_call(&mut self, resources: &mut Resources) {
        self.line.calls_open -= 1;
        self.finish_if_done(resources);
    }

    /// Nothing it asked for is unanswered any more, nor still unread in its input: what
    /// waits for that goes on.
    pub(super) fn finish_if_done(&mut self, resources: &mut Resources) {
        let waits = self.line.is_owed_answers() || self.is_paused();
        if self.stage != Stage::Running || waits {
            return;
        }
        if self.line.session.is_peer_closing() {
            self.line.finish(resources);
            self.end(Reason::PeerClose, resources);
        } else if self.peer_ended {
            self.end(Reason::PeerEof, resources);
        }
    }

    /// A deadline has passed.
    pub(super) fn take_timeout(&mut self, resources: &mut Resources) {
        self.line.outbox.shrink();
        match self.stage {
            Stage::Running => {
                if self.receive != Receive::Armed {
                    // We are not reading: the rest of a message cannot come.
                    self.line.session.restart_frame_clock(resources.now);
                }
                let guest = self.line.guest.as_ref();
                if guest.is_some_and(|guest| guest.has_expired(resources.now)) {
                    let text = "your credential has expired: send AUTH again before it does";
                    return self.cut_off(Code::AuthExpired, text, resources);
                }
                let mut out = Writer {
                    outbox: &mut self.line.outbox,
                    pool: &mut resources.pool,
                };
                let event = self.line.session.handle_timeout(resources.now, &mut out);
                if let Event::Ended(reason) = event {
                    self.end(reason, resources);
                }
            }
            Stage::Flushing | Stage::Lingering if self.stage_deadline <= resources.now => {
                self.stage = Stage::Closing;
            }
            _ => {}
        }
    }

    /// When this connection next wants `take_timeout`.
    pub(super) fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Running => {
                let guest = self.line.guest.as_ref();
                let own = guest.map_or(Instant::NEVER, |guest| guest.deadline());
                self.line.session.timeout().min(own)
            }
            Stage::Flushing | Stage::Lingering | Stage::Detached => self.stage_deadline,
            Stage::Closing => Instant::NEVER,
        }
    }

    /// Whether the deadline may have moved to before where the timer stands.
    #[inline]
    pub(super) fn may_be_due_earlier(&self) -> bool {
        self.stage != Stage::Running || self.line.session.is_mid_message()
    }

    /// Ends the connection for a reason of the peer's making.
    pub(super) fn refuse(&mut self, code: Code, text: &'static str, resources: &mut Resources) {
        self.refuse_with(&Refusal::new(code, text), resources);
    }

    pub(super) fn refuse_with(&mut self, refusal: &Refusal, resources: &mut Resources) {
        let mut out = Writer {
            outbox: &mut self.line.outbox,
            pool: &mut resources.pool,
        };
        if let Event::Ended(reason) = self.line.session.refuse(refusal, &mut out) {
            self.end(reason, resources);
        }
    }

    /// Ends a connection whose credential is good no longer: what waits to be sent is not
    /// sent any more. It is told so, unless it is in the middle of a message, as only a peer
    /// is that does not keep up: then nothing can be said, and the send in flight ends too.
    pub(super) fn cut_off(&mut self, code: Code, text: &'static str, resources: &mut Resources) {
        let between_messages = self.line.outbox.cut(&mut resources.pool);
        self.refuse(code, text, resources);
        if !between_messages && let Some(reason) = self.reason {
            self.abort(reason, resources);
        }
    }

    /// Ends the connection in order, with a CLOSE (before it is established, an RST).
    pub(super) fn close(
        &mut self,
        code: Code,
        text: &'static str,
        reason: Reason,
        resources: &mut Resources,
    ) {
        let mut out = Writer {
            outbox: &mut self.line.outbox,
            pool: &mut resources.pool,
        };
        self.line.session.close(code, text, &mut out);
        self.end(reason, resources);
    }

    /// Neither a message larger than a chunk nor a long backlog can be taken in while the
    /// shard's memory is lent out.
    pub(super) fn overload(&mut self, resources: &mut Resources) {
        let text = "this shard's buffers are lent out; try again later";
        self.close(Code::Overloaded, text, Reason::Overloaded, resources);
    }

    /// Begins the end: flush, shut down, linger, close.
    pub(super) fn end(&mut self, reason: Reason, resources: &mut Resources) {
        self.reason.get_or_insert(reason);
        if self.stage == Stage::Running {
            self.stage = Stage::Flushing;
            // It goes nowhere any more, and its last word is sent from here.
            self.moving = None;
            self.stage_deadline = resources.now + Connection::STAGE_TIME;
        }
        self.drop_input(resources);
    }

    /// The connection is broken: nothing can be sent any more.
    pub(super) fn abort(&mut self, reason: Reason, resources: &mut Resources) {
        self.reason.get_or_insert(reason);
        self.stage = Stage::Closing;
        self.drop_input(resources);
    }

    pub(super) fn drop_input(&mut self, resources: &mut Resources) {
        self.input.clear();
        self.account_input(resources);
    }
}
