//! `ringmail top`: shows live what a server does, from its admin address.
//!
//! - `answer`: the server's answers; `fetch`: fetching them, on a thread.
//! - `model`: from two answers to rates and tables (`table`, `value`).
//! - `screen`: the state that keys change; `view`: drawing it; `text`: without a terminal.
//!
//! The terminal is restored on every exit: a key, a signal, an error, a panic (ratatui's hook).
//! If the server is gone, `top` says so and keeps asking. If the terminal is gone, a separate
//! thread ends the process: crossterm reads a closed terminal over and over, and never returns.

mod answer;
mod fetch;
mod model;
mod screen;
mod table;
mod text;
mod value;
mod view;

use super::args::{Top, TopOutput};
use super::failure::{Failure, print};
use crate::base::exit::Status as Exit;
use answer::Sample;
use fetch::{Query, Source};
use model::{Kind, Model};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use screen::{Screen, Wish};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;
use view::{Palette, View};

const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How long a sample or a signal may wait for the screen.
const SLICE: Duration = Duration::from_millis(50);
/// How many connections to request: a screen and some more; with a filter, as many as the server
/// returns.
const CONNECTIONS: usize = 100;
const CONNECTIONS_MAX: usize = 1000;

/// Shows until a key or a signal ends it; once with `--once`.
///
/// # Errors
/// Usage; with `--once` also no server, or one that wants another credential.
pub fn run(args: &Top) -> Result<(), Failure> {
    let usage = |text: &str| Err(Failure::new(Exit::Usage, text));
    if args.interval < INTERVAL_MIN {
        return usage("--interval is too short; 100ms is the shortest");
    }
    let source = Source::new(&args.address, &args.credential)?;
    if args.once {
        return once(args, &source);
    }
    if args.output == TopOutput::Json {
        return usage("--output json needs --once");
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return usage(
            "standard output is not a terminal; add --once, and for programs --output \
                      json",
        );
    }
    live(args, source)
}

fn once(args: &Top, source: &Source) -> Result<(), Failure> {
    let screen = Screen::default();
    let samples = async {
        let before = source.sample(query(&screen)).await?;
        tokio::time::sleep(args.interval).await;
        Ok::<_, Failure>((before, source.sample(query(&screen)).await?))
    };
    let (before, now) = fetch::runtime()?.block_on(samples)?;
    let model = Model::new(Some(&before), &now);
    let text = match args.output {
        TopOutput::Text => text::plain(&source.name(), &model),
        TopOutput::Json => text::json(&source.name(), &model),
    };
    print(text.as_bytes())
}

/// The connections that the screen shows first.
fn query(screen: &Screen) -> Query {
    let pane = screen.pane(Kind::Connections);
    // Columns that the server cannot sort by are sorted here, among the slow connections.
    let known = model::server_sort(pane.sort.column);
    Query {
        sort: known.unwrap_or("queued"),
        descending: known.is_none() || pane.sort.descending,
        limit: match pane.filter.is_empty() {
            true => CONNECTIONS,
            false => CONNECTIONS_MAX,
        },
    }
}

/// The terminal, restored when this is dropped.
struct Restored(DefaultTerminal);

impl Drop for Restored {
    fn drop(&mut self) {
        // A terminal that is gone cannot be restored.
        let _ = ratatui::try_restore();
    }
}

fn live(args: &Top, source: Source) -> Result<(), Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, ended.clone()).map_err(terminal)?;
    }
    let mut live = Live {
        address: source.name(),
        screen: Screen::default(),
        palette: Palette::new(std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())),
        before: None,
        now: None,
        model: None,
        trouble: None,
    };
    std::thread::Builder::new()
        .name("top-hangup".to_owned())
        .spawn(end_with_terminal)
        .map_err(terminal)?;
    let (ask, queries) = channel();
    let (tell, samples) = channel();
    let (interval, first) = (args.interval, query(&live.screen));
    std::thread::Builder::new()
        .name("top-fetch".to_owned())
        .spawn(move || fetch::run(&source, interval, &queries, &tell, first))
        .map_err(terminal)?;
    let restored = ratatui::try_init().map(Restored);
    // Restores also what a failed init has changed.
    let mut restored = restored
        .inspect_err(|_| drop(ratatui::try_restore()))
        .map_err(terminal)?;
    live.run(&mut restored.0, &ended, &ask, &samples)
}

/// Waits until the terminal is gone, and ends the process as SIGHUP would.
fn end_with_terminal() {
    let stdin = io::stdin();
    loop {
        // `poll` always reports hang-ups, but keys only on request.
        let mut terminal = [PollFd::new(&stdin, PollFlags::empty())];
        match rustix::event::poll(&mut terminal, None) {
            Ok(_) => std::process::exit(128 + SIGHUP),
            Err(Errno::INTR) => {}
            // Then only the signal reports it.
            Err(_) => return,
        }
    }
}

fn terminal(error: io::Error) -> Failure {
    let text = format!("the terminal cannot be used: {error}; add --once");
    Failure::new(Exit::Runtime, text)
}

struct Live {
    address: String,
    screen: Screen,
    palette: Palette,
    before: Option<Sample>,
    now: Option<Sample>,
    model: Option<Model>,
    trouble: Option<String>,
}

impl Live {
    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        ended: &AtomicBool,
        ask: &Sender<Query>,
        samples: &Receiver<Result<Sample, Failure>>,
    ) -> Result<(), Failure> {
        let mut asked = query(&self.screen);
        let mut changed = true;
        while !ended.load(Ordering::Relaxed) {
            changed |= self.take(samples)?;
            if changed {
                let drawn = terminal.draw(|frame| self.view().draw(frame));
                drawn.map_err(self::terminal)?;
            }
            changed = event::poll(SLICE).map_err(self::terminal)?;
            if changed && self.hear()? == Wish::Quit {
                return Ok(());
            }
            let wanted = query(&self.screen);
            if wanted != asked {
                // `take` will notice that the thread has ended.
                let _ = ask.send(wanted);
                asked = wanted;
            }
        }
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View {
            address: &self.address,
            model: self.model.as_ref(),
            trouble: self.trouble.as_deref(),
            screen: &self.screen,
            palette: self.palette,
        }
    }

    /// Takes new answers; returns whether there were any.
    fn take(&mut self, samples: &Receiver<Result<Sample, Failure>>) -> Result<bool, Failure> {
        let mut some = false;
        loop {
            match samples.try_recv() {
                Ok(answer) => self.put(answer),
                Err(TryRecvError::Empty) => return Ok(some),
                Err(TryRecvError::Disconnected) => {
                    let text = "the thread that asks the server ended";
                    return Err(Failure::new(Exit::Runtime, text));
                }
            }
            some = true;
        }
    }

    fn put(&mut self, answer: Result<Sample, Failure>) {
        match answer {
            Err(failure) => self.trouble = Some(failure.message),
            Ok(_) if self.screen.paused => self.trouble = None,
            Ok(sample) => {
                self.trouble = None;
                self.before = self.now.replace(sample);
                let now = self.now.as_ref();
                self.model = now.map(|now| Model::new(self.before.as_ref(), now));
            }
        }
    }

    fn hear(&mut self) -> Result<Wish, Failure> {
        let key = match event::read().map_err(terminal)? {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            // A resized terminal is redrawn.
            _ => return Ok(Wish::Nothing),
        };
        let table = self
            .model
            .as_ref()
            .map(|model| model.table(self.screen.focus));
        let pane = self.screen.pane(self.screen.focus);
        let (columns, rows) = table.map_or((0, 0), |table| {
            let rows = table.selected(&pane.filter, pane.sort).len();
            (table.columns.len(), rows)
        });
        Ok(self.screen.press(key, columns, rows))
    }
}
