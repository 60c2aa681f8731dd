//! The thread of a blocking client: it runs the client's task, and nothing else. Callers wait on
//! their own threads.

use crate::client::builder::Options;
use crate::client::error::Error;
use crate::client::{Client, handle};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use tokio::runtime::{self, Handle};
use tokio::sync::mpsc;

pub(super) struct Engine {
    runtime: Handle,
    /// The process that has the thread: a fork of it has only a copy of the client.
    process: u32,
    /// The thread ends once this is dropped and the client's task has ended.
    _alive: mpsc::Sender<()>,
}

impl Engine {
    /// Starts the thread, and connects.
    ///
    /// # Errors
    /// `Io` if no thread can be started; as `handle::connect`.
    pub(super) fn start(options: &Options, address: &str) -> Result<(Engine, Client), Error> {
        let failed = |source: io::Error| Error::Io {
            what: "the client's thread cannot be started",
            source,
        };
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(failed)?;
        let (alive, mut ended) = mpsc::channel(1);
        let engine = Engine {
            runtime: runtime.handle().clone(),
            process: std::process::id(),
            _alive: alive.clone(),
        };
        thread::Builder::new()
            .name("ringmail-client".to_owned())
            .spawn(move || {
                runtime.block_on(ended.recv());
                runtime.shutdown_background(); // a callback may hang
            })
            .map_err(failed)?;
        let client = engine.wait(handle::connect(options, address, Some(alive)))?;
        Ok((engine, client))
    }

    /// Checks that this process has the thread that everything else depends on.
    ///
    /// # Errors
    /// `Io` if the process was forked since.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.process == std::process::id() {
            true => Ok(()),
            false => Err(Error::ended(
                "this process was forked, and the connection belongs to its parent",
            )),
        }
    }

    /// Waits for a future of the client's, on the caller's thread: that may belong to another
    /// runtime, which tokio's own `block_on` does not allow.
    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        let _timers = self.runtime.enter();
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
            thread::park();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
