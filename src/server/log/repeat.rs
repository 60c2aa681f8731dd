//! Lines that say the same are summed up: the first few are written, then one line in
//! [`WINDOW`] that says how many there were.
//!
//! Lines count as the same if they come from one place in the source and differ only in numbers.
//! The last of them is written for all, with their number as `repeated`. Errors are never summed
//! up.

use super::line::Line;
use crate::base::clock::Instant;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tracing::Level;

/// How many equal lines of a window are written.
const WRITTEN_MAX: u64 = 5;
const WINDOW: Duration = Duration::from_secs(5);
/// How many different lines are tracked at once; any others are written as they come.
const WINDOWS_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Repeats {
    windows: HashMap<u64, Window>,
    /// The ends of the windows, the next first.
    ends: VecDeque<(Instant, u64)>,
}

#[derive(Default)]
struct Window {
    written: u64,
    /// The lines since then that were not written, and the last of them.
    held: u64,
    last: String,
}

/// The last of the lines that were not written, and their number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) text: String,
    pub(super) count: u64,
}

impl Repeats {
    /// Returns the line if it is to be written.
    pub(super) fn admit(&mut self, line: Line, now: Instant) -> Option<Line> {
        if line.level == Level::ERROR {
            return Some(line);
        }
        let known = self.windows.len();
        if known >= WINDOWS_MAX && !self.windows.contains_key(&line.same) {
            return Some(line);
        }
        let window = self.windows.entry(line.same).or_insert_with(|| {
            self.ends.push_back((now + WINDOW, line.same));
            Window::default()
        });
        if window.written < WRITTEN_MAX {
            window.written += 1;
            return Some(line);
        }
        window.held += 1;
        window.last = line.text;
        None
    }

    /// The sums of the windows that have ended.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Sum> {
        let mut sums = Vec::new();
        while let Some(&(end, same)) = self.ends.front()
            && end <= now
        {
            self.ends.pop_front();
            let sum = self.windows.remove(&same).and_then(Window::sum);
            if sum.is_some() {
                // The line probably goes on: from now on one sum per window is enough.
                let window = Window {
                    written: WRITTEN_MAX,
                    ..Window::default()
                };
                self.windows.insert(same, window);
                self.ends.push_back((now + WINDOW, same));
            }
            sums.extend(sum);
        }
        sums
    }

    /// All sums, at the end.
    pub(super) fn all(&mut self) -> Vec<Sum> {
        self.ends.clear();
        let windows = self.windows.drain();
        windows.filter_map(|(_, window)| window.sum()).collect()
    }

    /// When a window ends next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }
}

impl Window {
    fn sum(self) -> Option<Sum> {
        (self.held > 0).then_some(Sum {
            text: self.last,
            count: self.held,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, same: u64, text: impl ToString) -> Line {
        Line {
            level,
            same,
            text: text.to_string(),
        }
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn the_first_are_written_and_the_others_summed_up() {
        let mut repeats = Repeats::default();
        let written = (0..100).filter(|number| {
            let line = line(Level::WARN, 1, number);
            repeats.admit(line, at(*number)).is_some()
        });
        assert_eq!(written.count() as u64, WRITTEN_MAX);
        // Another line is not held back by them.
        assert!(repeats.admit(line(Level::WARN, 2, "x"), at(100)).is_some());
        assert_eq!(repeats.due(at(4999)), []);
        assert_eq!(repeats.next(), Some(at(5000)));
        let sum = |text: &str, count| Sum {
            text: text.to_owned(),
            count,
        };
        assert_eq!(repeats.due(at(5200)), [sum("99", 100 - WRITTEN_MAX)]);
        // It goes on: only sums now.
        assert_eq!(repeats.admit(line(Level::WARN, 1, "a"), at(6000)), None);
        assert_eq!(repeats.due(at(10_200)), [sum("a", 1)]);
        // It stops: forgotten, and then new again.
        assert_eq!(repeats.due(at(15_200)), []);
        assert_eq!(repeats.next(), None);
        assert!(
            repeats
                .admit(line(Level::WARN, 1, "b"), at(15_300))
                .is_some()
        );
    }

    #[test]
    fn errors_are_all_written() {
        let mut repeats = Repeats::default();
        for number in 0..100 {
            let line = line(Level::ERROR, 1, number);
            assert!(repeats.admit(line, at(0)).is_some());
        }
        assert_eq!(repeats.next(), None);
    }

    #[test]
    fn memory_is_bounded_and_lines_without_a_window_are_written() {
        let mut repeats = Repeats::default();
        for same in 0..3 * WINDOWS_MAX as u64 {
            assert!(
                repeats
                    .admit(line(Level::INFO, same, same), at(0))
                    .is_some()
            );
        }
        assert_eq!(repeats.windows.len(), WINDOWS_MAX);
        assert_eq!(repeats.ends.len(), WINDOWS_MAX);
        assert_eq!(repeats.due(at(5000)), []);
        assert_eq!(repeats.windows.len(), 0);
    }

    #[test]
    fn nothing_is_withheld_at_the_end() {
        let mut repeats = Repeats::default();
        for number in 0..=WRITTEN_MAX {
            repeats.admit(line(Level::INFO, 1, number), at(0));
        }
        let sums = repeats.all();
        assert_eq!(sums.len(), 1);
        assert_eq!((sums[0].count, sums[0].text.as_str()), (1, "5"));
    }
}
