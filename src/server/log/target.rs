//! Where lines go: standard error, or a file that can be moved away while it is written
//! (logrotate): it is reopened on SIGUSR1, and when it has been deleted.

use crate::base::clock::Instant;
use crate::base::file;
use signal_hook::consts::SIGUSR1;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The shortest time between two checks that the file still exists.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Target {
    sink: Box<dyn Write + Send>,
    file: Option<Reopening>,
    /// Whether the last line was written only in part.
    torn: bool,
}

struct Reopening {
    path: String,
    file: Arc<File>,
    /// Set by the signal.
    asked: Arc<AtomicBool>,
    looked: Instant,
}

impl Target {
    pub(super) fn stderr() -> Target {
        Target {
            sink: Box::new(io::stderr()),
            file: None,
            torn: false,
        }
    }

    /// The file at `path`, opened for appending, created if it is missing.
    ///
    /// # Errors
    /// If it cannot be opened, or the signal handler not installed.
    pub(super) fn file(path: &str) -> io::Result<Target> {
        let asked = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGUSR1, asked.clone())?;
        let file = Arc::new(open(path)?);
        Ok(Target {
            sink: Box::new(file.clone()),
            file: Some(Reopening {
                path: path.to_owned(),
                file,
                asked,
                looked: Instant::ZERO,
            }),
            torn: false,
        })
    }

    /// Reopens the file if that is due.
    ///
    /// # Errors
    /// If it cannot be opened: the open one stays in use.
    pub(super) fn renew(&mut self, now: Instant) -> io::Result<()> {
        let Some(own) = &mut self.file else {
            return Ok(());
        };
        let asked = own.asked.swap(false, Ordering::Relaxed);
        if !asked && now.since(own.looked) < LOOK {
            return Ok(());
        }
        own.looked = now;
        if !asked && own.file.metadata()?.nlink() > 0 {
            return Ok(());
        }
        own.file = Arc::new(open(&own.path).map_err(|error| {
            let told = format!(
                "log.file {} cannot be reopened: {error}; the log continues in the file that is \
                 open",
                own.path
            );
            io::Error::new(error.kind(), told)
        })?);
        self.sink = Box::new(own.file.clone());
        self.torn = false;
        Ok(())
    }

    /// Writes a line and its newline.
    ///
    /// # Errors
    /// If it is not written, or only in part.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let begin = if self.torn { "\n" } else { "" };
        let bytes = [begin, line, "\n"].concat();
        let mut rest = bytes.as_bytes();
        while !rest.is_empty() {
            let error = match self.sink.write(rest) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(count) => {
                    rest = &rest[count..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.torn |= rest.len() < bytes.len();
            return Err(error);
        }
        self.torn = false;
        Ok(())
    }
}

fn open(path: &str) -> io::Result<File> {
    file::append(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Mutex;

    /// A disk that accepts this many bytes, then nothing more.
    struct Full(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (taken, room) = &mut *self.0.lock().expect("not poisoned");
            let count = bytes.len().min(*room - taken.len());
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_written_in_part_does_not_spoil_the_next() {
        let disk = Arc::new(Mutex::new((Vec::new(), 7)));
        let mut target = Target {
            sink: Box::new(Full(disk.clone())),
            file: None,
            torn: false,
        };
        target.write("one").expect("room");
        target.write("second").expect_err("no room");
        target.write("third").expect_err("no room");
        disk.lock().expect("not poisoned").1 = 100;
        target.write("fourth").expect("room again");
        target.write("fifth").expect("room");
        let taken = disk.lock().expect("not poisoned").0.clone();
        assert_eq!(String::from_utf8_lossy(&taken), "one\nsec\nfourth\nfifth\n");
    }

    #[test]
    fn a_file_is_reopened_on_request_or_when_deleted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let path = path.to_str().expect("text").to_owned();
        let mut target = Target::file(&path).expect("opened");
        let mut write = |line: &str, s: u64, asked: bool| {
            let own = target.file.as_ref().expect("a file");
            own.asked.store(asked, Ordering::Relaxed);
            let renewed = target.renew(Instant::ZERO + Duration::from_secs(s));
            target.write(line).expect("written");
            renewed
        };
        write("a", 1, false).expect("nothing to do");
        let moved = format!("{path}.1");
        fs::rename(&path, &moved).expect("moved");
        write("b", 2, false).expect("nothing to do");
        write("c", 3, true).expect("anew");
        assert_eq!(fs::read_to_string(&moved).expect("there"), "a\nb\n");
        assert_eq!(fs::read_to_string(&path).expect("there"), "c\n");
        fs::remove_file(&path).expect("removed");
        write("d", 4, false).expect("anew");
        assert_eq!(fs::read_to_string(&path).expect("there"), "d\n");
        // A directory in its place: the open file stays in use, and the error is reported.
        fs::rename(&path, &moved).expect("moved");
        fs::create_dir(&path).expect("made");
        let error = write("e", 5, true).expect_err("a directory").to_string();
        assert!(error.contains("log.file"), "{error}");
        assert_eq!(fs::read_to_string(&moved).expect("there"), "d\ne\n");
    }
}
