//! What every client did and saw, with times of one clock: what the checker judges.
//!
//! An operation's span is taken from before its first byte was written to after its answer was
//! read, so that "confirmed before that was asked" means the server saw it so too. A *life* is
//! as long as the server owes a client continuity: a session with all its connections, or one
//! connection without a session.

use std::time::Instant;

/// Microseconds since the run began.
pub type Time = u64;

#[derive(Clone, Copy)]
pub struct Clock(pub Instant);

impl Clock {
    pub fn now(self) -> Time {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// Who made a message or a request, and which of its own it is: an index into `published` or
/// `asked` of that client's record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Label {
    pub maker: u16,
    pub number: u32,
}

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Open,
    /// The client said CLOSE, and it was answered.
    Closed,
    /// The server said so, and the client has read it: a CLOSE or a fatal ERROR.
    Told(u16),
    /// The server's CLOSE at the end of its drain.
    Drained,
    /// The connection broke off, and there was no session or nobody came back for it.
    Lost,
    /// The session was SESSION_UNKNOWN when its client came back.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Life {
    pub is_session: bool,
    /// Since when it has had no connection.
    pub lost_at: Option<Time>,
    /// When the client began to end it by CLOSE.
    pub closing_at: Option<Time>,
    pub end: End,
    /// Its principal was revoked: what the server kept of it is gone, and may be.
    pub is_revoked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Live,
    Retained,
    /// Retained and empty: it clears.
    Clear,
    Will,
}

#[derive(Clone, Debug)]
pub struct Published {
    pub kind: Kind,
    pub topic: String,
    pub life: usize,
    pub asked_at: Time,
    /// Written so many times, once on each connection that had to repeat it.
    pub sent: u32,
    /// Its session was lost before it was confirmed, and its maker published it again.
    pub is_repeated: bool,
    pub confirmed_at: Option<Time>,
    pub refused: Option<u16>,
}

/// A subscription, or a service: while it stands, the client is owed what matches.
#[derive(Clone, Debug)]
pub struct Standing {
    pub life: usize,
    pub filter: String,
    pub group: Option<String>,
    /// When each SUBSCRIBE was sent: retained messages come with each.
    pub asked_at: Vec<Time>,
    pub confirmed_at: Option<Time>,
    /// When the client began to leave, and when that was confirmed.
    pub left_at: Option<Time>,
    pub left_confirmed_at: Option<Time>,
}

#[derive(Clone, Debug)]
pub struct Delivered {
    pub label: Label,
    pub topic: String,
    pub life: usize,
    pub at: Time,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub service: String,
    pub life: usize,
    /// The connection it was sent on: it is not repeated on another.
    pub connection: usize,
    pub asked_at: Time,
    /// With the client that answered, or the code.
    pub answers: Vec<(Time, Result<u16, u16>)>,
}

#[derive(Clone, Debug)]
pub struct Served {
    pub label: Label,
    /// An answer was about to be written.
    pub answered: Option<Result<(), u16>>,
}

/// WILL, or its withdrawal, in the order sent.
#[derive(Clone, Debug)]
pub struct Will {
    pub life: usize,
    /// `None` withdraws.
    pub number: Option<u32>,
    pub confirmed_at: Option<Time>,
}

/// A session that was not there any more.
#[derive(Clone, Debug)]
pub struct Unknown {
    pub life: usize,
    pub lost_at: Time,
    pub answered_at: Time,
}

#[derive(Clone, Debug, Default)]
pub struct Record {
    pub client: u16,
    /// How it behaves, in words.
    pub manner: String,
    pub lives: Vec<Life>,
    /// When each connection was there, the life it served, how it ended.
    pub connections: Vec<(Time, usize, String)>,
    pub published: Vec<Published>,
    pub standings: Vec<Standing>,
    pub delivered: Vec<Delivered>,
    pub wills: Vec<Will>,
    pub asked: Vec<Asked>,
    pub services: Vec<Standing>,
    pub served: Vec<Served>,
    pub unknown: Vec<Unknown>,
    /// What no server may do, as the client saw it.
    pub wrong: Vec<String>,
}

/// How the server of a history ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It stands, and its clients have come to rest.
    Calm,
    /// SIGTERM.
    Drained,
    /// kill -9.
    Killed,
}

/// What all clients of one server process have left behind.
#[derive(Clone, Debug)]
pub struct History {
    pub fate: Fate,
    /// How long a session outlives its connection, in microseconds.
    pub linger: Time,
    /// By the client's number.
    pub records: Vec<Record>,
    /// What a newcomer got for each topic at rest: the label of the retained message.
    pub retained: Option<Vec<(String, Label)>>,
}

impl Life {
    /// Since when it may have been over for the server: `None`, it stands.
    pub fn ending_at(&self) -> Option<Time> {
        match (self.closing_at, self.lost_at) {
            (Some(closing), Some(lost)) => Some(closing.min(lost)),
            (closing, lost) => closing.or(lost),
        }
    }
}

impl Standing {
    pub fn suits(&self, topic: &str) -> bool {
        matches(&self.filter, topic)
    }
}

impl History {
    pub fn published(&self, label: Label) -> Option<&Published> {
        let record = self.records.get(usize::from(label.maker))?;
        record.published.get(label.number as usize)
    }

    /// All that was published, with its label.
    pub fn publications(&self) -> impl Iterator<Item = (Label, &Published)> {
        self.records.iter().flat_map(|record| {
            let each = (0..).zip(&record.published);
            each.map(|(number, published)| {
                let maker = record.client;
                (Label { maker, number }, published)
            })
        })
    }

    /// Operations of all kinds, and what was delivered: what there was to judge.
    pub fn counts(&self) -> [usize; 2] {
        let operations = self.records.iter().map(|record| {
            let standings = record.standings.iter().chain(&record.services);
            let standings: usize = standings.map(|one| one.asked_at.len()).sum();
            record.published.len() + record.asked.len() + record.wills.len() + standings
        });
        let delivered = self.records.iter().map(|record| {
            let answers: usize = record.asked.iter().map(|one| one.answers.len()).sum();
            record.delivered.len() + record.served.len() + answers
        });
        [operations.sum(), delivered.sum()]
    }
}

/// Whether a filter matches a topic, by the protocol's page.
pub fn matches(filter: &str, topic: &str) -> bool {
    let (mut levels, mut names) = (filter.split('/'), topic.split('/'));
    loop {
        match (levels.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some(level), Some(name)) if level == "+" || level == name => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}
