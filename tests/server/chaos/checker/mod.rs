//! Whether a history is one that the protocol's page allows. Each promise is a function that
//! adds its breaches; `owed` are those that time may still mend (what has to come and has not
//! yet), `safety` those that nothing mends.
//!
//! What a client is owed ends with its life. A *whole* life was owed everything up to its end;
//! of any other it was owed an unbroken beginning.

mod delivery;
mod request;
mod share;
mod state;

use super::history::{End, Fate, History, Label, Life, Record, Standing, Time};

/// A broken promise, with whom and what it is about.
#[derive(Clone, Debug)]
pub struct Breach {
    pub what: String,
    pub client: u16,
    pub label: Option<Label>,
}

impl Breach {
    fn new(client: u16, label: impl Into<Option<Label>>, what: impl Into<String>) -> Breach {
        Breach {
            what: what.into(),
            client,
            label: label.into(),
        }
    }
}

/// What nothing that comes later can mend.
pub fn safety(history: &History) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for record in &history.records {
        let wrong = record.wrong.iter();
        breaches.extend(wrong.map(|what| Breach::new(record.client, None, what)));
    }
    delivery::as_published(history, &mut breaches);
    delivery::once_and_in_order(history, &mut breaches);
    share::once(history, &mut breaches);
    request::answers(history, &mut breaches);
    state::sessions(history, &mut breaches);
    state::wills_of_who_closed(history, &mut breaches);
    breaches
}

/// What has to have come by now.
pub fn owed(history: &History) -> Vec<Breach> {
    let mut breaches = Vec::new();
    delivery::nothing_lost(history, &mut breaches);
    if history.fate == Fate::Calm {
        share::nothing_lost(history, &mut breaches);
        request::each_is_answered(history, &mut breaches);
        state::wills_of_who_broke_off(history, &mut breaches);
        state::retained(history, &mut breaches);
    }
    breaches
}

impl History {
    /// Whether this life was owed everything up to its end.
    fn is_whole(&self, life: &Life) -> bool {
        match life.end {
            End::Open => self.fate == Fate::Calm && life.lost_at.is_none(),
            End::Drained => true,
            // CLOSE ends subscriptions at once: what waits for the outbox then is not sent.
            End::Closed | End::Told(_) | End::Lost | End::Unknown => false,
        }
    }

    /// Until when what was confirmed had to reach this standing: `Time::MAX`, it stands, or
    /// the drain ended it.
    fn stood_until(&self, life: &Life, standing: &Standing) -> Time {
        let left = standing.left_at.unwrap_or(Time::MAX);
        let ended = match life.end {
            End::Drained => None,
            _ => life.ending_at(),
        };
        left.min(ended.unwrap_or(Time::MAX))
    }

    /// The smallest part of the history around a breach.
    pub fn excerpt(&self, breach: &Breach) -> String {
        let mut lines = vec![format!("client {}: {}", breach.client, breach.what)];
        let record = &self.records[usize::from(breach.client)];
        let mut topic = None;
        if let Some(label) = breach.label {
            if let Some(published) = self.published(label) {
                lines.push(format!("{label:?}: {published:?}"));
                topic = Some(published.topic.clone());
            }
            if label.maker != breach.client
                && let Some(maker) = self.records.get(usize::from(label.maker))
            {
                lines.extend(described(maker));
            }
        }
        lines.extend(described(record));
        if let (Some(topic), Some(label)) = (topic, breach.label) {
            let standings = record.standings.iter().filter(|one| one.suits(&topic));
            lines.extend(standings.map(|one| format!("  {one:?}")));
            lines.extend(self.around(record, &topic, label));
            for other in &self.records {
                let had = other.delivered.iter().filter(|one| one.label == label);
                let had = had.map(|one| format!("  to client {}: {one:?}", other.client));
                lines.extend(had);
            }
        }
        lines.join("\n")
    }

    /// What the receiver got of that maker's on that topic, next to the label.
    fn around(&self, record: &Record, topic: &str, label: Label) -> Vec<String> {
        let of =
            |one: &&super::history::Delivered| one.topic == topic && one.label.maker == label.maker;
        let line: Vec<_> = record.delivered.iter().filter(of).collect();
        let place = line.iter().position(|one| one.label.number >= label.number);
        let place = place.unwrap_or(line.len());
        let (from, to) = (place.saturating_sub(4), line.len().min(place + 4));
        let near = line[from..to].iter();
        near.map(|one| format!("  beside it: {one:?}")).collect()
    }
}

fn described(record: &Record) -> Vec<String> {
    let mut lines = vec![format!("client {}: {}", record.client, record.manner)];
    let lives = record.lives.iter().enumerate();
    lines.extend(lives.map(|(number, life)| format!("  life {number}: {life:?}")));
    let connections = record.connections.iter();
    lines.extend(connections.map(|(at, life, end)| format!("  from {at}: life {life}, to {end}")));
    lines
}
