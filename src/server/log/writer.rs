//! The queue of lines, and the thread behind it that writes them.
//!
//! The queue holds [`BYTES_MAX`] bytes of lines, and [`ERROR_BYTES`] more of errors. A line
//! without room is dropped and counted; nobody waits.

use super::line::{Layout, Line, Record, repeated};
use super::repeat::{Repeats, Sum};
use super::target::Target;
use crate::base::clock::Instant;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tracing::Level;

/// Bytes of lines that may wait.
const BYTES_MAX: usize = 4 << 20;
/// Additional bytes for errors.
const ERROR_BYTES: usize = 1 << 20;
/// The shortest time between two reports of lost lines.
const REPORT_EVERY: Duration = Duration::from_secs(5);

enum Item {
    Line(Line),
    Flush(Sender<()>),
}

/// Counts since the start, except `queued_bytes`.
#[derive(Default)]
pub(super) struct Tally {
    queued_bytes: AtomicUsize,
    /// Lines lost.
    pub(super) dropped: AtomicU64,
    /// Lines summed up.
    pub(super) repeated: AtomicU64,
}

/// The queue's entry.
#[derive(Clone)]
pub(super) struct Queue {
    items: Sender<Item>,
    pub(super) tally: Arc<Tally>,
}

impl Queue {
    /// Queues a line, or drops it.
    pub(super) fn push(&self, line: Line) {
        let bytes = line.bytes();
        let room = match line.level {
            Level::ERROR => BYTES_MAX + ERROR_BYTES,
            _ => BYTES_MAX,
        };
        let queued = &self.tally.queued_bytes;
        if queued.fetch_add(bytes, Ordering::Relaxed) + bytes <= room
            && self.items.send(Item::Line(line)).is_ok()
        {
            return;
        }
        queued.fetch_sub(bytes, Ordering::Relaxed);
        self.tally.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything queued before is written, at most for `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, written) = bounded(1);
        if self.items.send(Item::Flush(done)).is_ok() {
            // Written or timed out: the caller goes on either way.
            let _ = written.recv_timeout(patience);
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// If the system cannot start a thread.
pub(super) fn start(target: Target, layout: Layout) -> io::Result<Queue> {
    let (queue, writer) = pair(target, layout);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(|| writer.run())?;
    Ok(queue)
}

fn pair(target: Target, layout: Layout) -> (Queue, Writer) {
    // Bounded by bytes, in `push`.
    let (items, received) = unbounded();
    let tally = Arc::new(Tally::default());
    let writer = Writer {
        received,
        tally: tally.clone(),
        target,
        layout,
        repeats: Repeats::default(),
        reported: 0,
        report_at: Instant::ZERO,
    };
    (Queue { items, tally }, writer)
}

struct Writer {
    received: Receiver<Item>,
    tally: Arc<Tally>,
    target: Target,
    layout: Layout,
    repeats: Repeats,
    /// How many lost lines have been reported.
    reported: u64,
    report_at: Instant,
}

impl Writer {
    /// Writes until the queue's last sender is dropped.
    fn run(mut self) {
        loop {
            let next = self.next();
            let item = match next {
                Some(next) => self.received.recv_timeout(next.since(Instant::now())),
                None => self.received.recv().map_err(RecvTimeoutError::from),
            };
            match item {
                Ok(item) => self.take(item, Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
            self.look(Instant::now());
        }
    }

    fn take(&mut self, item: Item, now: Instant) {
        match item {
            Item::Line(line) => {
                let bytes = line.bytes();
                match self.repeats.admit(line, now) {
                    Some(line) => self.write(&line.text, now),
                    None => drop(self.tally.repeated.fetch_add(1, Ordering::Relaxed)),
                }
                // Only now, since a line being written takes memory too.
                self.tally.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Item::Flush(done) => {
                self.end();
                // The caller may have stopped waiting.
                let _ = done.send(());
            }
        }
    }

    /// When there will be something to write even if nothing is queued.
    fn next(&self) -> Option<Instant> {
        let lost = self.tally.dropped.load(Ordering::Relaxed) > self.reported;
        let tell = lost.then_some(self.report_at);
        self.repeats.next().into_iter().chain(tell).min()
    }

    /// Writes what is due: sums, and the report of lost lines.
    fn look(&mut self, now: Instant) {
        for sum in self.repeats.due(now) {
            self.write_sum(sum, now);
        }
        let dropped = self.tally.dropped.load(Ordering::Relaxed);
        if dropped > self.reported && now >= self.report_at {
            self.report_at = now + REPORT_EVERY;
            let lost = dropped - self.reported;
            let message = format!(
                "{lost} lines of this log were lost: they came faster than they could be \
                 written; check the disk, or whatever reads the log"
            );
            let line = self.own(message);
            if self.target.write(&line).is_ok() {
                self.reported = dropped;
            }
        }
    }

    fn end(&mut self) {
        let now = Instant::now();
        for sum in self.repeats.all() {
            self.write_sum(sum, now);
        }
    }

    fn write_sum(&mut self, sum: Sum, now: Instant) {
        let line = repeated(&sum.text, sum.count, self.layout);
        self.write(&line, now);
    }

    fn write(&mut self, line: &str, now: Instant) {
        if let Err(error) = self.target.renew(now) {
            let line = self.own(error.to_string());
            // An error would be reported to the same target.
            let _ = self.target.write(&line);
        }
        if self.target.write(line).is_err() {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A line of the log about itself.
    fn own(&self, message: String) -> String {
        let record = Record::new(Level::WARN, "ringmail::server::log");
        record.message(message).written(self.layout)
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::LINE_BYTES;
    use super::*;
    use std::fs;

    fn line(level: Level, same: u64, text: &str) -> Line {
        Line {
            level,
            same,
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_queue_that_is_not_emptied_is_bounded_and_errors_have_room_of_their_own() {
        let (queue, writer) = pair(Target::stderr(), Layout::Json);
        let text = "x".repeat(1000 - LINE_BYTES);
        let fill = |level| {
            let before = queue.tally.queued_bytes.load(Ordering::Relaxed);
            for _ in 0..2 * (BYTES_MAX + ERROR_BYTES) / 1000 {
                queue.push(line(level, 0, &text));
            }
            queue.tally.queued_bytes.load(Ordering::Relaxed) - before
        };
        assert_eq!(fill(Level::WARN) / 1000, BYTES_MAX / 1000);
        let held = writer.received.len();
        assert_eq!(held, BYTES_MAX / 1000);
        let dropped = || queue.tally.dropped.load(Ordering::Relaxed) as usize;
        assert_eq!(dropped() + held, 2 * (BYTES_MAX + ERROR_BYTES) / 1000);
        assert_eq!(fill(Level::INFO), 0);
        assert!(fill(Level::ERROR) / 1000 >= ERROR_BYTES / 1000);
        // The flush gives up: nothing empties the queue.
        queue.flush(Duration::from_millis(1));
    }

    #[test]
    fn lines_and_their_sums_are_written_in_order_and_nothing_is_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let target = Target::file(path.to_str().expect("text")).expect("opened");
        let queue = start(target, Layout::Text { colour: false }).expect("a thread");
        queue.push(line(Level::INFO, 1, "first"));
        for _ in 0..50 {
            queue.push(line(Level::INFO, 2, "again"));
        }
        queue.push(line(Level::ERROR, 3, "last"));
        queue.flush(Duration::from_secs(60));
        let written = fs::read_to_string(&path).expect("there");
        let lines: Vec<&str> = written.lines().collect();
        let again = ["again"; 5].as_slice();
        let all = [&["first"], again, &["last", "again repeated=45"]].concat();
        assert_eq!(lines, all);
        assert_eq!(queue.tally.repeated.load(Ordering::Relaxed), 45);
        assert_eq!(queue.tally.queued_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(queue.tally.dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_disk_costs_lines_that_are_counted() {
        let target = Target::file("/dev/full").expect("opened");
        let queue = start(target, Layout::Json).expect("a thread");
        for same in 0..100 {
            queue.push(line(Level::INFO, same, "x"));
        }
        queue.flush(Duration::from_secs(60));
        assert_eq!(queue.tally.dropped.load(Ordering::Relaxed), 100);
        assert_eq!(queue.tally.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lost_lines_are_reported_once_that_is_possible() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let target = Target::file(path.to_str().expect("text")).expect("opened");
        let (queue, mut writer) = pair(target, Layout::Json);
        queue.tally.dropped.store(7, Ordering::Relaxed);
        writer.look(Instant::now());
        writer.look(Instant::now());
        let written = fs::read_to_string(&path).expect("there");
        assert_eq!(written.lines().count(), 1, "{written}");
        let json: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        let message = json["message"].as_str().expect("a message");
        assert!(message.starts_with("7 lines"), "{message}");
        assert_eq!(json["level"], "WARN");
        assert_eq!(writer.next(), None);
    }
}
