//! Worker threads: services compute or block here for long, so that no shard does.
//!
//! Ordinary threads with a lower priority than the shards', not pinned. A panic in a job fails its
//! request and nothing else (`call` ensures that).

use crate::broker::request::call::Job;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io;
use std::thread;

/// The job queue of the workers. It is bounded by the number of open calls and of connections, each
/// of which may have one payload being checked.
pub fn queue() -> (Sender<Job>, Receiver<Job>) {
    unbounded()
}

/// Starts `count` workers; they end when the last sender of their queue is dropped. `prepare` runs
/// first on each thread (to unpin it and lower its priority).
///
/// # Errors
/// The system cannot create a thread.
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
