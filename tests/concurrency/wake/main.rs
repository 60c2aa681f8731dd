//! A shard that falls asleep while others write for it: `src/base/wake.rs` under every order that
//! the memory model allows.

mod base;

use base::wake::Sleeping;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// As an eventfd: a read waits for a count, and takes it.
struct Event {
    count: Mutex<u64>,
    written: Condvar,
}

impl Event {
    fn write(&self) {
        *self.count.lock().unwrap() += 1;
        self.written.notify_one();
    }

    fn read(&self) -> u64 {
        let mut count = self.count.lock().unwrap();
        while *count == 0 {
            count = self.written.wait(count).unwrap();
        }
        std::mem::take(&mut *count)
    }
}

/// The shard sleeps until it has found all that `WAKERS` threads write for it.
fn shard_and_wakers(wakers: usize) {
    let shared = Arc::new((
        Sleeping::default(),
        AtomicUsize::new(0),
        Event {
            count: Mutex::new(0),
            written: Condvar::new(),
        },
    ));
    let threads: Vec<_> = (0..wakers)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                let (sleeping, work, event) = &*shared;
                work.fetch_add(1, Relaxed);
                if sleeping.take() {
                    event.write();
                }
            })
        })
        .collect();
    let (sleeping, work, event) = &*shared;
    let (mut sleeps, mut wakes) = (0, 0);
    loop {
        sleeping.begin();
        if work.load(Relaxed) == wakers {
            break;
        }
        // A wake-up that is lost is a deadlock here, which loom reports.
        wakes += event.read();
        sleeps += 1;
        sleeping.end();
    }
    sleeping.end();
    for thread in threads {
        thread.join().unwrap();
    }
    wakes += *event.count.lock().unwrap();
    assert!(wakes <= sleeps + 1, "{wakes} writes for {sleeps} sleeps");
}

fn main() {
    loom::model(|| shard_and_wakers(1));
    // All orders of three threads take a quarter of an hour.
    let mut few = loom::model::Builder::new();
    few.preemption_bound = Some(2);
    few.check(|| shard_and_wakers(2));
    println!("no wake-up is lost, and each sleep is ended by one write");
}
