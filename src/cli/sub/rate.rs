//! Reports once a second how many messages arrived, even if none did.

use crate::base::clock::Instant;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Counts messages, and tells when a line is due.
pub struct Rate {
    /// When the second that is counted began.
    since: Instant,
    messages: u64,
    bytes: u64,
    messages_total: u64,
}

impl Rate {
    pub fn new(now: Instant) -> Rate {
        Rate {
            since: now,
            messages: 0,
            bytes: 0,
            messages_total: 0,
        }
    }

    pub fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
        self.messages_total += 1;
    }

    /// When the next line is due.
    pub fn due(&self) -> Instant {
        self.since + SECOND
    }

    /// The line, if it is due; the rate is per second, even if more than one has passed.
    pub fn line(&mut self, now: Instant) -> Option<String> {
        if now < self.due() {
            return None;
        }
        let seconds = (now - self.since).as_secs_f64();
        let per_second = |count: u64| (count as f64 / seconds).round();
        let line = format!(
            "{} messages/s, {} bytes/s, {} messages so far",
            per_second(self.messages),
            per_second(self.bytes),
            self.messages_total
        );
        *self = Rate {
            messages_total: self.messages_total,
            ..Rate::new(now)
        };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_each_second_and_starts_over() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        for _ in 0..300 {
            rate.count(10);
        }
        assert_eq!(rate.line(start + Duration::from_millis(999)), None);
        // Twice the time is half the rate.
        let line = rate.line(start + 2 * SECOND).unwrap();
        assert_eq!(line, "150 messages/s, 1500 bytes/s, 300 messages so far");
        rate.count(10);
        assert_eq!(rate.line(start + 2 * SECOND), None);
        let line = rate.line(start + 3 * SECOND).unwrap();
        assert_eq!(line, "1 messages/s, 10 bytes/s, 301 messages so far");
        let line = rate.line(start + 4 * SECOND).unwrap();
        assert_eq!(line, "0 messages/s, 0 bytes/s, 301 messages so far");
    }
}
