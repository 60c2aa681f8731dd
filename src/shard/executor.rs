//! A shard's thread: a glommio executor pinned to a core, whose main task makes the turns.
//!
//! The shard sleeps in its own ring (one system call), not in glommio's three. So the executor runs
//! only when it has something to do: while futures of services are open, the main task yields after
//! each turn and never sleeps longer than a millisecond, which bounds how late a timer or wake-up
//! of glommio's is noticed.
//!
//! glommio 0.9 has a bug to work around: if its preemption timer has expired before it has looked
//! at the first runnable task (because the thread was off its core for that long), it concludes
//! that nothing is runnable and sleeps until an event comes, for ever if none does. So the timer is
//! long until the first tasks have begun, and from then on glommio timers of our own end such a
//! sleep: several, because one that has just fired ends none.

use crate::ring::driver::Driver;
use crate::shard::state::Shard;
use crate::shard::turn::Turn;
use glommio::{GlommioError, Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use std::io;
use std::time::Duration;

/// glommio's registered memory: small, because only services do I/O through it.
const IO_MEMORY_BYTES: usize = 65_536;
/// How often glommio looks at its own rings while tasks are runnable.
const PREEMPT: Duration = Duration::from_millis(1);
/// The same before the main task has begun: practically never.
const PREEMPT_AT_START: Duration = Duration::from_secs(3600);
/// Timers that end glommio's sleeps, which are always mistakes, see above. They cost nothing while
/// the shard sleeps in its own ring, because glommio's timers are not looked at then.
const PULSES: [Duration; 3] = [
    Duration::from_millis(1),
    Duration::from_millis(50),
    Duration::from_secs(1),
];
/// The shard's longest sleep while futures are open.
const SLEEP_WITH_FUTURES: Duration = Duration::from_millis(1);
/// The shard's longest sleep otherwise: every event that matters wakes it.
const SLEEP: Duration = Duration::from_secs(3600);
/// CPU shares of the main task.
const MAIN_SHARES: usize = 1000;
/// CPU shares of services' futures, relative to `MAIN_SHARES`.
const CALL_SHARES: usize = 100;

/// Runs a shard on the calling thread, pinned to `core`, until it has drained. `make` runs there
/// too, because a ring belongs to the thread that created it.
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
        .preempt_timer(PREEMPT_AT_START)
        .make()
        .map_err(plain)?;
    executor.run(async move {
        let shard = make()?;
        for period in PULSES {
            glommio::spawn_local(pulse(period)).detach();
        }
        let queue = |shares, name| {
            let (shares, latency) = (Shares::Static(shares), Latency::Matters(PREEMPT));
            glommio::executor().create_task_queue(shares, latency, name)
        };
        let main = queue(MAIN_SHARES, "turns");
        let calls = queue(CALL_SHARES, "calls");
        let turns = async move {
            // With nothing else runnable meanwhile, so that the long timer expires.
            glommio::timer::sleep(PULSES[0]).await;
            turns(shard, calls).await
        };
        match glommio::spawn_local_into(turns, main) {
            Ok(turns) => turns.await,
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    })
}

/// The underlying system error, if there is one: callers act on its number.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        GlommioError::EnhancedIoError { source, .. } => source,
        error => io::Error::other(error.to_string()),
    }
}

async fn pulse(period: Duration) {
    loop {
        glommio::timer::sleep(period).await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refused_keeps_its_number() {
        let source = || io::Error::from_raw_os_error(libc::ENOMEM);
        let enhanced = GlommioError::EnhancedIoError {
            source: source(),
            op: "io_uring_setup",
            path: None,
            fd: None,
        };
        for error in [GlommioError::IoError(source()), enhanced] {
            assert_eq!(plain(error).raw_os_error(), Some(libc::ENOMEM));
        }
        assert_eq!(
            plain(GlommioError::TimedOut(Duration::ZERO)).raw_os_error(),
            None
        );
    }
}
