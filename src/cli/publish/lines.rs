//! Lines of standard input as they arrive: a thread reads, the publisher takes whole lines.
//!
//! ```text
//!  read      [ line ][ line ][ li              goes on as one chunk of whole lines
//!  kept                      [ li ]
//!  read      ne ][ line ]                      "ne" completes the kept one
//! ```
//!
//! It uses a thread because the publisher must listen to the server while waiting for standard
//! input, and because a file, a pipe and a terminal cannot all be polled. The thread is
//! abandoned at the end.
//!
//! Invariants: each chunk but the last ends in a newline; the kept part is at most
//! `line_bytes_max` long; the channel is bounded, so that a file is read as fast as it is
//! published.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes asked for at once.
const READ_BYTES: usize = 64 * 1024;
/// Chunks read ahead.
const CHUNKS_MAX: usize = 4;

/// What was read.
#[derive(Debug)]
pub enum Input {
    /// One or more whole lines, each but the last of all with its newline.
    Lines(Vec<u8>),
    /// A line longer than allowed, which is skipped.
    TooLong,
    /// Standard input cannot be read any further.
    Broken(io::Error),
}

/// Starts reading; the channel closes at the end of the input.
pub fn read(input: impl Read + Send + 'static, line_bytes_max: usize) -> Receiver<Input> {
    let (tell, inputs) = sync_channel(CHUNKS_MAX);
    std::thread::spawn(move || split(input, line_bytes_max, &tell));
    inputs
}

fn split(mut input: impl Read, line_bytes_max: usize, tell: &SyncSender<Input>) {
    let mut buffer = vec![0; READ_BYTES];
    let mut kept = Vec::new();
    let mut is_too_long = false;
    loop {
        let bytes = match input.read(&mut buffer) {
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = tell.send(Input::Broken(error));
                return;
            }
        };
        let is_end = bytes.is_empty();
        let mut chunk = Vec::new();
        if is_end {
            chunk = std::mem::take(&mut kept);
        } else if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            let mut whole = &bytes[..=last];
            if std::mem::take(&mut is_too_long) {
                // The rest of a line that is being skipped.
                let first = whole.iter().position(|byte| *byte == b'\n');
                whole = &whole[first.map_or(whole.len(), |first| first + 1)..];
            }
            chunk = std::mem::take(&mut kept);
            chunk.extend_from_slice(whole);
            kept.extend_from_slice(&bytes[last + 1..]);
        } else if !is_too_long {
            kept.extend_from_slice(bytes);
        }
        if !chunk.is_empty() && tell.send(Input::Lines(chunk)).is_err() {
            return;
        }
        if kept.len() > line_bytes_max {
            kept = Vec::new();
            is_too_long = true;
            if tell.send(Input::TooLong).is_err() {
                return;
            }
        }
        if is_end {
            return;
        }
    }
}

/// The lines of a chunk, without their newlines.
pub fn lines(chunk: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = chunk.strip_suffix(b"\n").unwrap_or(chunk);
    whole.split(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Returns its pieces one per read.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.pop_front() else {
                return Ok(0);
            };
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn read_pieces(pieces: impl IntoIterator<Item = Vec<u8>>, max: usize) -> Vec<String> {
        let inputs = read(Pieces(pieces.into_iter().collect()), max);
        let mut read = Vec::new();
        for input in inputs {
            match input {
                Input::Lines(chunk) => {
                    let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
                    read.extend(lines(&chunk).map(text));
                }
                Input::TooLong => read.push("<too long>".to_owned()),
                Input::Broken(error) => panic!("{error}"),
            }
        }
        read
    }

    #[test]
    fn lines_are_the_same_wherever_the_input_is_cut() {
        let text = b"one\n\ntwo\r\nthree\n\nlast without a newline";
        let wanted = ["one", "", "two\r", "three", "", "last without a newline"];
        for size in 1..=text.len() {
            let pieces = text.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(read_pieces(pieces, 1000), wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_is_passed_on_before_the_next_one_arrives() {
        let (mut near, far) = {
            let (reader, writer) = io::pipe().unwrap();
            (writer, reader)
        };
        let inputs = read(far, 1000);
        for line in ["first\n", "second\n", "\n"] {
            io::Write::write_all(&mut near, line.as_bytes()).unwrap();
            match inputs.recv().unwrap() {
                Input::Lines(chunk) => assert_eq!(chunk, line.as_bytes()),
                other => panic!("{other:?}"),
            }
        }
        drop(near);
        assert!(inputs.recv().is_err());
    }

    #[test]
    fn an_empty_input_has_no_line_and_an_empty_line_is_one() {
        assert_eq!(read_pieces([], 10), [""; 0]);
        assert_eq!(read_pieces([b"\n".to_vec()], 10), [""]);
        assert_eq!(read_pieces([b"\n\n".to_vec()], 10), ["", ""]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_not_buffered() {
        for size in 1..=8 {
            let text = b"short\nfar too long\nnext\n";
            let pieces = text.chunks(size).map(<[u8]>::to_vec);
            let read = read_pieces(pieces, 8);
            assert_eq!(read[0], "short", "in pieces of {size}");
            assert_eq!(read.last().unwrap(), "next");
            // A line that is complete within one read is passed on: the server's limit decides.
            assert!(read.len() == 3, "{read:?}");
        }
    }
}
