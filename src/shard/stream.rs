//! The byte stream under a transport: a socket, what is in flight on it, and TLS. It knows nothing
//! of the conversation over it; the broker, which has that, knows nothing of the stream.
//!
//! ```text
//!   broker     slot 7  [ member │ transport ]        slot 9  [ member │ transport ]
//!   shard      slot 7  [ stream ]                    slot 9  [ stream ]
//! ```
//!
//! Invariants: the stream of a slot belongs to the transport in it, and the two move together,
//! between shards as a `Moved`; a stream moves only when nothing of it is in flight, because the
//! driver knows it by the slot's key.

use crate::auth::certificate::Certificate;
use crate::base::id::Key;
use crate::base::page::Paged;
use crate::broker::Broker;
use crate::broker::context::resource::Resources;
use crate::broker::peers::lists::HearingQueue;
use crate::broker::peers::transport::Transport;
use crate::metrics::counter::Counter;
use crate::ring::driver::Socket;
use crate::shard::tls::{Handshakes, Tls, TlsSettings};

/// The state of the multishot receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    Off,
    Armed,
    Cancelling,
}

pub(super) struct Stream {
    pub(super) socket: Socket,
    pub(super) receive: Receive,
    /// Bytes of the chunk in flight that were sent by earlier, short sends.
    pub(super) sent_of_chunk: u32,
    /// The send in flight has been cancelled.
    pub(super) send_cancelled: bool,
    /// Nothing has been received yet, so it is not known whether it speaks TLS.
    pub(super) undecided: bool,
    pub(super) tls: Option<Box<Tls>>,
    /// Bytes received and sent, including TLS and its handshakes.
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Stream {
    /// A stream over a newly accepted socket; `undecided`: it may turn out to speak TLS.
    pub(super) fn new(socket: Socket, undecided: bool) -> Stream {
        Stream {
            socket,
            receive: Receive::Off,
            sent_of_chunk: 0,
            send_cancelled: false,
            undecided,
            tls: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// A stream without a socket.
    fn none() -> Stream {
        Stream::new(Socket(-1), false)
    }

    /// Nothing of it is in flight.
    pub(super) fn is_quiet(&self, transport: &Transport) -> bool {
        self.receive == Receive::Off && !transport.sending && !self.waits_to_open()
    }

    /// Its input is not plain bytes.
    #[inline]
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some() || self.undecided
    }

    /// It has records that wait for their turn to be opened.
    #[inline]
    pub(super) fn waits_to_open(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.waits())
    }

    /// Bytes the pool counts for it, except what is in flight.
    pub(super) fn held_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.held_bytes())
    }

    /// Ends its TLS and releases the memory.
    pub(super) fn release_tls(&mut self, resources: &mut Resources) {
        if let Some(mut tls) = self.tls.take() {
            tls.release(&mut resources.pool);
        }
    }

    /// The principal in the client's certificate: with `tls.client_ca` set every client has one.
    pub(super) fn certificate_principal(&self) -> Option<&str> {
        self.certificate()
            .map(|certificate| &*certificate.principal)
    }

    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.tls.as_ref()?.certificate.as_deref()
    }
}

/// The streams of a shard, by connection slot.
pub(super) struct Streams {
    slots: Paged<Stream>,
    /// `None`: TLS is off.
    pub(super) tls: Option<TlsSettings>,
    /// TLS handshakes to advance.
    pub(super) handshakes: Handshakes,
    /// Records to open.
    pub(super) unopened: HearingQueue,
}

impl Streams {
    pub(super) fn new(tls: Option<TlsSettings>) -> Streams {
        Streams {
            slots: Paged::new(),
            tls,
            handshakes: Handshakes::default(),
            unopened: HearingQueue::default(),
        }
    }

    /// The stream of a slot that the broker has, or has had.
    #[inline]
    pub(super) fn of(&self, slot: u32) -> &Stream {
        &self.slots[slot]
    }

    #[inline]
    pub(super) fn of_mut(&mut self, slot: u32) -> &mut Stream {
        &mut self.slots[slot]
    }

    /// Passes received bytes to the broker.
    #[inline]
    pub(super) fn take_bytes(&mut self, key: Key, bytes: &[u8], broker: &mut Broker) {
        let length = bytes.len() as u64;
        broker
            .resources
            .counters
            .add(Counter::BytesReceived, length);
        let stream = self.of_mut(key.slot);
        stream.bytes_in += length;
        match stream.is_encrypted() {
            false => broker.take_bytes(key, bytes),
            true => self.take_encrypted(key, bytes, broker),
        }
    }

    /// Puts a stream under a slot; the previous one has ended.
    pub(super) fn put(&mut self, slot: u32, stream: Stream) {
        while self.slots.len() <= u64::from(slot) {
            self.slots.add_page(|_| Stream::none());
        }
        self.slots[slot] = stream;
    }

    /// Takes the stream out from under a slot.
    pub(super) fn take(&mut self, slot: u32) -> Stream {
        std::mem::replace(&mut self.slots[slot], Stream::none())
    }
}
