//! `ringmail ping`: round trips to a server, one at a time, like ping(8).
//!
//! One thread sends the pings and reports the results, another prints them. So Ctrl-C ends the
//! command at once, even while the first thread waits for an answer.

mod tally;

use super::args::{Ping, PingOutput};
use super::failure::{Failure, print};
use super::peer;
use crate::base::exit::Status;
use crate::base::terminal::escaped;
use crate::client::Error;
use crate::client::blocking::Client;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tally::{Tally, ms};

/// How long the pinging thread may take after Ctrl-C to send CLOSE.
const FAREWELL: Duration = Duration::from_millis(200);

/// What the printing thread receives.
enum News {
    Sent,
    Answered(Duration),
    /// No answer in time.
    Missed(Error),
    /// The connection has ended.
    Broken(Error),
    /// All pings were sent, or Ctrl-C was pressed.
    Over,
}

/// Pings and prints until the count, Ctrl-C or the connection ends it.
///
/// # Errors
/// No server, a broken connection, or no answer at all.
pub fn run(args: &Ping) -> Result<(), Failure> {
    let client = peer::connect(&args.peer, args.timeout)?;
    let peer = client.peer().to_string();
    // Before the first line, so that Ctrl-C works once that is printed.
    let (tell, news) = channel();
    interrupts(tell.clone())?;
    if args.output == PingOutput::Text {
        let server = client.server();
        let bytes = args.payload_bytes;
        let line = format!(
            "PING {peer} ({}, shard {}): {bytes} bytes\n",
            escaped(&server.product),
            server.shard
        );
        print(line.as_bytes())?;
    }
    let (stop, stopped) = channel();
    let plan = args.clone();
    let pinging = std::thread::spawn(move || ping(client, &plan, &tell, &stopped));

    let started = Instant::now();
    let mut tally = Tally::default();
    let outcome = report(args, &peer, &news, &mut tally);
    tally.time = started.elapsed();
    drop(stop);
    let farewell = Instant::now();
    while !pinging.is_finished() && farewell.elapsed() < FAREWELL {
        std::thread::sleep(Duration::from_millis(1));
    }

    print(
        match args.output {
            PingOutput::Text => tally.to_text(&peer),
            PingOutput::Json => tally.to_json(&peer),
        }
        .as_bytes(),
    )?;
    outcome?;
    if tally.received() == 0 {
        let text =
            format!("{peer} did not answer; is the server overloaded, or --timeout too short?");
        return Err(Failure::new(Status::Runtime, text));
    }
    Ok(())
}

/// Turns Ctrl-C and SIGTERM into messages to the printing thread.
fn interrupts(tell: Sender<News>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| {
        Failure::new(
            Status::Runtime,
            format!("cannot watch for signals: {error}"),
        )
    })?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if tell.send(News::Over).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// The pinging thread: ends when the count is reached, the connection has ended, or the printing
/// thread has.
fn ping(mut client: Client, args: &Ping, tell: &Sender<News>, stopped: &Receiver<()>) {
    let started = Instant::now();
    let mut turn: u32 = 0;
    let mut left = args.count;
    while left != Some(0) && tell.send(News::Sent).is_ok() {
        let news = match client.ping_with(usize::from(args.payload_bytes), args.timeout) {
            Ok(time) => News::Answered(time),
            Err(error @ (Error::Timeout { .. } | Error::Failed { .. })) => News::Missed(error),
            Err(error) => {
                let _ = tell.send(News::Broken(error));
                return;
            }
        };
        let _ = tell.send(news);
        left = left.map(|left| left - 1);
        turn = turn.saturating_add(1);
        let next = started.checked_add(args.interval.saturating_mul(turn));
        if left != Some(0)
            && let Err(end) = pause(&mut client, next, stopped)
        {
            if let Some(error) = end {
                let _ = tell.send(News::Broken(error));
            }
            break;
        }
    }
    let _ = client.close();
    let _ = tell.send(News::Over);
}

/// Waits for the next ping's time, keeping the connection alive. `Err(None)`: asked to stop.
fn pause(
    client: &mut Client,
    until: Option<Instant>,
    stopped: &Receiver<()>,
) -> Result<(), Option<Error>> {
    let slice = client.server().heartbeat / 2;
    loop {
        let rest = match until {
            Some(until) => until.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        match stopped.recv_timeout(rest.min(slice)) {
            Err(RecvTimeoutError::Timeout) if rest <= slice => return Ok(()),
            Err(RecvTimeoutError::Timeout) => client.keep_alive().map_err(Some)?,
            _ => return Err(None),
        }
    }
}

/// Prints results until the end.
fn report(
    args: &Ping,
    peer: &str,
    news: &Receiver<News>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let bytes = args.payload_bytes;
    for news in news {
        let seq = tally.sent;
        let (text, json) = match news {
            News::Sent => {
                tally.sent += 1;
                continue;
            }
            News::Answered(time) => {
                tally.record(time);
                let ms = ms(time);
                (
                    format!("{bytes} bytes from {peer}: seq={seq} time={ms:.3} ms"),
                    serde_json::json!({"type": "pong", "seq": seq, "bytes": bytes, "time_ms": ms}),
                )
            }
            News::Missed(error) => {
                let why = match error {
                    Error::Timeout { after, .. } => format!("nothing within {after:?}"),
                    error => error.to_string(),
                };
                (
                    format!("no answer from {peer}: seq={seq} ({why})"),
                    serde_json::json!({"type": "missed", "seq": seq, "error": why}),
                )
            }
            News::Broken(error) => return Err(peer::failure(&error)),
            News::Over => break,
        };
        if !args.quiet {
            let line = match args.output {
                PingOutput::Text => format!("{text}\n"),
                PingOutput::Json => format!("{json}\n"),
            };
            print(line.as_bytes())?;
        }
    }
    Ok(())
}
