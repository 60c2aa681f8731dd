//! The simulated driver of one shard. It queues operations and submits them in `poll`, like the
//! real one, and checks the shard against the driver's contract: a breach panics at once, with the
//! seed.
//!
//! `poll` never sleeps. Where the real one would, it records until when and returns without
//! completions; the world lets the shard turn again once there is something for it.

use super::kernel::{Kernel, Operation};
use super::ring::{Activity, Posted, Ring, RingSize};
use super::world::{State, World};
use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::wake::{Wake, Waker};
use crate::ring::driver::{Buffer, Completion, Driver, Received, Socket};
use std::cell::RefMut;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub struct SimDriver {
    world: World,
    shard: u16,
    now: Instant,
    queued: Vec<Operation>,
    ready: VecDeque<Posted>,
    /// The contents of the lent buffers, by buffer id.
    lent: Vec<Option<Vec<u8>>>,
}

impl World {
    /// The next shard's driver; shards count from 0.
    pub fn add_shard(&self, size: RingSize) -> SimDriver {
        let mut state = self.state();
        state.kernel.rings.push(Ring::new(size));
        let shard = state.kernel.rings.len() as u16 - 1;
        drop(state);
        SimDriver::new(self.clone(), shard)
    }
}

impl SimDriver {
    pub(super) fn new(world: World, shard: u16) -> SimDriver {
        let mut state = world.state();
        let ring = &mut state.kernel.rings[usize::from(shard)];
        assert!(ring.activity == Activity::Gone, "one driver for each shard");
        ring.activity = Activity::Awake;
        let lent = (0..ring.size.buffers).map(|_| None).collect();
        let now = state.kernel.now;
        drop(state);
        SimDriver {
            world,
            shard,
            now,
            queued: Vec::new(),
            ready: VecDeque::new(),
            lent,
        }
    }

    /// The shard requests an operation: it is awake, and its next `poll` will submit it.
    fn begin(&mut self) -> RefMut<'_, Kernel> {
        let mut kernel = RefMut::map(self.world.state(), |state: &mut State| &mut state.kernel);
        kernel.rings[usize::from(self.shard)].activity = Activity::Awake;
        kernel
    }

    fn fail(&self, what: std::fmt::Arguments<'_>) -> ! {
        self.world.state().kernel.fail(self.shard, what)
    }
}

impl Driver for SimDriver {
    fn now(&self) -> Instant {
        self.now
    }

    fn accept(&mut self) {
        let shard = self.shard;
        self.begin().begin_accept(shard);
        self.queued.push(Operation::Accept);
    }

    fn stop_accepting(&mut self) {
        let shard = self.shard;
        self.begin().close_listener(shard);
    }

    fn receive(&mut self, key: Key, Socket(socket): Socket) {
        let shard = self.shard;
        self.begin().begin_receive(shard, key, socket);
        self.queued.push(Operation::Receive { key, socket });
    }

    fn cancel_receive(&mut self, key: Key) {
        self.begin();
        self.queued.push(Operation::CancelReceive(key));
    }

    fn send(&mut self, key: Key, Socket(socket): Socket, chunk: Chunk, from: usize) {
        let shard = self.shard;
        let mut kernel = self.begin();
        kernel.rings[usize::from(shard)].sends += 1;
        kernel.begin_send(shard, key, socket, chunk, from);
        drop(kernel);
        self.queued.push(Operation::Send { key, socket });
    }

    fn cancel_send(&mut self, key: Key) {
        self.begin();
        self.queued.push(Operation::CancelSend(key));
    }

    fn shutdown(&mut self, Socket(socket): Socket) {
        let shard = self.shard;
        self.begin().shutdown(shard, socket);
    }

    fn close(&mut self, Socket(socket): Socket) {
        let shard = self.shard;
        self.begin().close(shard, socket);
    }

    fn peer(&self, Socket(socket): Socket) -> Option<SocketAddr> {
        self.world.state().kernel.peer(self.shard, socket)
    }

    fn unacknowledged(&self, Socket(socket): Socket) -> usize {
        self.world.state().kernel.unacknowledged(socket)
    }

    fn poll(
        &mut self,
        limit: usize,
        until: Option<Instant>,
        idle: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let shard = usize::from(self.shard);
        let mut state = self.world.state();
        let kernel = &mut state.kernel;
        let mut count = self.queued.len();
        if count > 0 && kernel.fault("submits_some", kernel.faults.submits_some) {
            count = kernel.rng.usize(..count);
        }
        for operation in self.queued.drain(..count) {
            kernel.submit(self.shard, operation);
        }
        let wakes = kernel.fault("wakes", kernel.faults.wakes);
        self.now = kernel.now;
        let ring = &mut kernel.rings[shard];
        ring.polls += 1;
        ring.activity = Activity::Awake;
        while self.ready.len() < limit
            && let Some(posted) = ring.take_visible(kernel.now)
        {
            self.ready.push_back(posted);
        }
        let woken = Arc::clone(&ring.woken);
        drop(state);
        if !self.ready.is_empty() {
            return Ok(());
        }
        if let Some(until) = until
            && until > self.now
            && self.queued.is_empty()
            && !wakes
        {
            woken.store(false, Ordering::SeqCst);
            if idle() {
                self.begin().rings[shard].activity = Activity::SleepingUntil(until);
                return Ok(());
            }
        }
        self.begin().rings[shard].polls_vain += 1;
        Ok(())
    }

    fn next(&mut self) -> Option<Completion> {
        let Posted { completion, bytes } = self.ready.pop_front()?;
        let shard = self.shard;
        self.begin().taken(shard, &completion);
        if let Completion::Received {
            result: Received::Data(buffer),
            ..
        } = &completion
        {
            self.lent[usize::from(buffer.id)] = Some(bytes);
        }
        Some(completion)
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        match self.lent.get(usize::from(buffer.id)) {
            Some(Some(bytes)) if bytes.len() == buffer.len as usize => bytes,
            _ => self.fail(format_args!("buffer {} is not lent", buffer.id)),
        }
    }

    fn release(&mut self, buffer: Buffer) {
        match self
            .lent
            .get_mut(usize::from(buffer.id))
            .and_then(Option::take)
        {
            Some(bytes) if bytes.len() == buffer.len as usize => {}
            _ => self.fail(format_args!("buffer {} released, not lent", buffer.id)),
        }
        let shard = usize::from(self.shard);
        self.begin().rings[shard].buffers_free.push(buffer.id);
    }

    fn waker(&self) -> Waker {
        let state = self.world.state();
        let woken = Arc::clone(&state.kernel.rings[usize::from(self.shard)].woken);
        Waker::new(Arc::new(Flag(woken)))
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        // While a failed check unwinds, the world may be borrowed; it does not run again then.
        if let Some(mut state) = self.world.try_state() {
            state.kernel.rings[usize::from(self.shard)].activity = Activity::Gone;
        }
    }
}

struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
