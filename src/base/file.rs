//! Files named by the user: read completely, within a bound, and without waiting. A FIFO without a
//! writer, or a device, must not block a start or a command forever.
//!
//! On systems other than Unix, where only clients run, every file is read as a regular one.

#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(unix)]
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
#[cfg(unix)]
use std::{fs::OpenOptions, io::ErrorKind};

/// How long a pipe's writer may write nothing.
#[cfg(unix)]
const SILENCE_MAX: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Reads a whole file, or everything from a pipe (`<(…)` of a shell).
///
/// # Errors
/// If it cannot be read, has more than `bytes_max`, or a pipe's writer writes nothing.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let bytes = read_some(path, bytes_max)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!(
            "it is too large (max {bytes_max} bytes)"
        ))),
        false => Ok(bytes),
    }
}

#[cfg(not(unix))]
fn read_some(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads all of it, or a few bytes more than the bound.
#[cfg(unix)]
fn read_some(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    let mut bytes = Vec::new();
    match kind.is_fifo() || kind.is_char_device() {
        false => drop(file.take(bytes_max + 1).read_to_end(&mut bytes)?),
        true => {
            read_pipe(file, bytes_max, &mut bytes)?;
            if bytes.is_empty() && kind.is_fifo() {
                return Err(io::Error::other("it is a FIFO that nobody writes to"));
            }
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
fn read_pipe(mut file: File, bytes_max: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 8192];
    while bytes.len() as u64 <= bytes_max {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut wanted = [PollFd::new(&file, PollFlags::IN)];
                match poll(&mut wanted, Some(&SILENCE_MAX)) {
                    // Readable, at its end, or failed: the read will tell.
                    Ok(1..) | Err(Errno::INTR) => {}
                    Ok(0) => {
                        let told = "it is not a regular file, and nothing can be read from it";
                        return Err(io::Error::new(ErrorKind::TimedOut, told));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a file for appending; creates it if it is missing.
///
/// # Errors
/// If it cannot be opened, or is a FIFO without a reader.
#[cfg(unix)]
pub fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    let tried = options.clone().custom_flags(libc::O_NONBLOCK).open(path);
    let file = tried.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("it is a FIFO that nobody reads from"),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        // It exists and has a reader: opens it again for blocking writes.
        false => options.open(path),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::Command;

    #[test]
    fn endless_or_silent_files_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo").success());
        let refused = |path: &Path| read(path, 100).expect_err("refused").to_string();
        assert!(refused(&fifo).contains("FIFO"));
        assert!(
            append(&fifo)
                .expect_err("nobody reads")
                .to_string()
                .contains("FIFO")
        );
        assert!(refused(Path::new("/dev/zero")).contains("max 100"));
        assert!(read(directory.path(), 100).is_err());
        // A writer that writes nothing, and one that writes.
        let mut held = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&fifo)
            .expect("held");
        assert!(refused(&fifo).contains("nothing can be read"));
        held.write_all(b"hush").expect("written");
        let path = fifo.clone();
        let reader = std::thread::spawn(move || read(&path, 3).expect_err("too much").to_string());
        assert!(reader.join().expect("read").contains("max 3"));
        let mut log = append(&fifo).expect("somebody reads");
        log.write_all(b"line").expect("written");
        assert_eq!(read(Path::new("/dev/null"), 100).expect("empty"), b"");
        let file = directory.path().join("file");
        for part in ["a", "b"] {
            append(&file)
                .expect("made")
                .write_all(part.as_bytes())
                .expect("written");
        }
        assert_eq!(read(&file, 2).expect("read"), b"ab");
        assert!(read(&file, 1).is_err());
    }
}
