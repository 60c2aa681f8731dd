//! Worker threads: where services compute or block for long, so that no shard does.
//!
//! They are ordinary threads at a lower priority than the shards, not pinned. A panic in a
//! job fails its request and nothing else (`call` sees to that).

use crate::broker::request::call::Job;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io;
use std::thread;

/// The queue jobs are sent to and workers take them from. It is bounded by the calls that
/// may be open and by the connections, each of which may have one payload checked.
pub fn queue() -> (Sender<Job>, Receiver<Job>) {
    unbounded()
}

/// Starts `count` workers; they end when the last sender of their queue is gone.
/// `prepare` runs first on each thread (to unpin it, to lower its priority).
///
/// # Errors
/// The system has no thread to give.
pub fn start(
    count: usize,
    jobs: &Receiver<Job>,
    prepare: impl Fn() + Clone + Send + 'static,
) -> io::Result<()> {
    for index in 0..count {
        let (jobs, prepare) = (jobs.clone(), prepare.clone());
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                prepare();
                for job in jobs {
                    job();
                }
            })?;
    }
    Ok(())
}
