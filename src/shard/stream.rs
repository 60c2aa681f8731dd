//! The byte stream under a transport: a socket, what of it is in flight, and TLS. Of what is
//! said over it this knows nothing; the broker, which does, knows nothing of this.
//!
//! ```text
//!   broker     slot 7  [ member │ transport ]        slot 9  [ member │ transport ]
//!   shard      slot 7  [ stream ]                    slot 9  [ stream ]
//! ```
//!
//! Invariants: the stream of a slot is that of the transport in it, and the two move together,
//! as a `Moved` from one shard to another; a stream moves only when nothing of it is in flight, as the driver knows
//! it by the slot's key.

use crate::auth::certificate::Certificate;
use crate::base::id::Key;
use crate::base::page::Paged;
use crate::broker::Broker;
use crate::broker::context::resource::Resources;
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
    /// Bytes of the chunk in flight that went in earlier, short sends.
    pub(super) sent_of_chunk: u32,
    /// The send in flight has been cancelled.
    pub(super) send_cancelled: bool,
    /// Nothing has come yet, so whether it speaks TLS is not known.
    pub(super) undecided: bool,
    pub(super) tls: Option<Box<Tls>>,
    /// Received and sent, TLS and handshakes included.
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Stream {
    /// Over a socket that has just been accepted; `undecided`: it may turn out to speak TLS.
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

    /// Where there is none.
    fn none() -> Stream {
        Stream::new(Socket(-1), false)
    }

    /// Nothing of it is in flight.
    pub(super) fn is_quiet(&self, transport: &Transport) -> bool {
        self.receive == Receive::Off && !transport.sending
    }

    /// What it receives is not simply plaintext.
    #[inline]
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some() || self.undecided
    }

    /// Bytes that the pool counts for it, without what is in flight.
    pub(super) fn held_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.held_bytes())
    }

    /// Its TLS is over, with what it holds.
    pub(super) fn release_tls(&mut self, resources: &mut Resources) {
        if let Some(mut tls) = self.tls.take() {
            tls.release(&mut resources.pool);
        }
    }

    /// Whom the client's certificate names: with `tls.client_ca` set everyone has one.
    pub(super) fn certificate_principal(&self) -> Option<&str> {
        self.certificate()
            .map(|certificate| &*certificate.principal)
    }

    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.tls.as_ref()?.certificate.as_deref()
    }
}

/// The streams of a shard, by the slots of their connections.
pub(super) struct Streams {
    slots: Paged<Stream>,
    /// `None`: TLS is not spoken.
    pub(super) tls: Option<TlsSettings>,
    /// TLS handshakes to be advanced.
    pub(super) handshakes: Handshakes,
}

impl Streams {
    pub(super) fn new(tls: Option<TlsSettings>) -> Streams {
        Streams {
            slots: Paged::new(),
            tls,
            handshakes: Handshakes::default(),
        }
    }

    /// That of a slot that the broker has, or has had.
    #[inline]
    pub(super) fn of(&self, slot: u32) -> &Stream {
        &self.slots[slot]
    }

    #[inline]
    pub(super) fn of_mut(&mut self, slot: u32) -> &mut Stream {
        &mut self.slots[slot]
    }

    /// Has the broker handle what was received.
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

    /// Puts a stream under a slot; the one that was there is over.
    pub(super) fn put(&mut self, slot: u32, stream: Stream) {
        while self.slots.len() <= u64::from(slot) {
            self.slots.add_page(|_| Stream::none());
        }
        self.slots[slot] = stream;
    }

    /// Takes out what is under a slot.
    pub(super) fn take(&mut self, slot: u32) -> Stream {
        std::mem::replace(&mut self.slots[slot], Stream::none())
    }
}
