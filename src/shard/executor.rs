//! A shard's thread: a glommio executor pinned to a core, whose main task makes the turns.
//!
//! The shard sleeps in its own ring (one system call), not in glommio's three. So the
//! executor gets to run only when it has something: while services' futures are open the
//! main task yields after each turn and never sleeps longer than a millisecond, which is
//! how late a timer or a wake-up of glommio's may then be noticed.

use super::{Shard, Turn};
use crate::ring::driver::Driver;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use std::io;
use std::time::Duration;

/// glommio's registered memory: we do no I/O through it but what services ask for.
const IO_MEMORY_BYTES: usize = 65_536;
/// How often glommio looks at its own rings while tasks are runnable.
const PREEMPT: Duration = Duration::from_millis(1);
/// The shard's longest sleep while futures are open.
const SLEEP_WITH_FUTURES: Duration = Duration::from_millis(1);
/// The shard's longest sleep otherwise: anything that matters wakes it.
const SLEEP: Duration = Duration::from_secs(3600);
/// CPU shares of services' futures, against the main task's 1,000.
const CALL_SHARES: usize = 100;

/// Runs a shard on the calling thread, pinned to `core`, until it has drained. `make` runs
/// there too, because a ring belongs to the thread that made it.
///
/// # Errors
/// The executor or the ring cannot be set up, or the ring broke.
pub fn run<D, M>(core: usize, make: M) -> io::Result<()>
where
    D: Driver + 'static,
    M: FnOnce() -> io::Result<Shard<D>> + 'static,
{
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT)
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    executor.run(async move {
        let shard = make()?;
        let calls = glommio::executor().create_task_queue(
            Shares::Static(CALL_SHARES),
            Latency::NotImportant,
            "calls",
        );
        turns(shard, calls).await
    })
}

async fn turns<D: Driver>(mut shard: Shard<D>, calls: TaskQueueHandle) -> io::Result<()> {
    let mut sleep = SLEEP;
    loop {
        if shard.turn(sleep)? == Turn::Ended {
            return Ok(());
        }
        for future in shard.take_spawned() {
            match glommio::spawn_local_into(future, calls) {
                Ok(task) => drop(task.detach()),
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
        sleep = SLEEP;
        if shard.calls_on_executor() > 0 {
            glommio::executor().yield_task_queue_now().await;
            sleep = SLEEP_WITH_FUTURES;
        }
    }
}
