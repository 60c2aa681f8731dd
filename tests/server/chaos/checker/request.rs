//! Requests: one answer each, from who was asked, to who asked.

use super::Breach;
use crate::chaos::history::{History, Label, Served, Time};
use crate::operation::code;
use std::collections::HashMap;

const SHUTDOWN: u16 = 0x0402;
const DECLINED: u16 = crate::chaos::workload::DECLINED;
use crate::chaos::native::SOMEBODY;

/// What an answer may be. (That it is the one to this request, its requester has seen.)
pub fn answers(history: &History, breaches: &mut Vec<Breach>) {
    let mut served: HashMap<Label, Vec<(u16, &Served)>> = HashMap::new();
    for record in &history.records {
        for one in &record.served {
            let of = served.entry(one.label).or_default();
            of.push((record.client, one));
        }
    }
    for (label, found) in &served {
        let client = found[0].0;
        let maker = history.records.get(usize::from(label.maker));
        if maker.is_none_or(|maker| maker.asked.len() <= label.number as usize) {
            breaches.push(Breach::new(
                client,
                None,
                format!("{label:?} was never asked"),
            ));
        }
        if found.len() > 1 {
            let what = format!("the request {label:?} was brought {} times", found.len());
            breaches.push(Breach::new(client, None, what));
        }
    }
    for record in &history.records {
        for (number, asked) in (0..).zip(&record.asked) {
            let maker = record.client;
            let label = Label { maker, number };
            let mut tell = |what: String| {
                let what = format!("the request {label:?} {what}: {asked:?}");
                breaches.push(Breach::new(maker, None, what));
            };
            if asked.answers.len() > 1 {
                tell("has more than one answer".to_owned());
            }
            let Some(&(at, answer)) = asked.answers.first() else {
                continue;
            };
            let by = served.get(&label).and_then(|found| found.first());
            let said = by.and_then(|(client, one)| Some((*client, one.answered?)));
            match answer {
                Ok(client)
                    if {
                        said.is_none_or(|(by, said)| {
                            (by != client && client != SOMEBODY) || said.is_err()
                        })
                    } =>
                {
                    tell(format!("was answered, but not by {client}"));
                }
                Err(DECLINED) if said.is_none_or(|(_, said)| said.is_ok()) => {
                    tell("was declined by nobody".to_owned());
                }
                Err(code::NO_SERVICE) if is_served(history, &asked.service, asked.asked_at, at) => {
                    tell("found no service, though there is one".to_owned());
                }
                Ok(_) | Err(DECLINED | code::NO_SERVICE | SHUTDOWN) => {}
                Err(code::REQUEST_TIMEOUT | code::SERVICE_GONE | code::OVERLOADED) => {}
                Err(other) => tell(format!("failed with {other:#06x}")),
            }
        }
    }
}

/// Whether somebody served that all the time. Who was ended by the server learns it later.
fn is_served(history: &History, service: &str, from: Time, to: Time) -> bool {
    history.records.iter().any(|record| {
        record.services.iter().any(|one| {
            let life = &record.lives[one.life];
            let leaving = history.stood_until(life, one);
            history.is_whole(life)
                && one.filter == service
                && one.confirmed_at.is_some_and(|at| at <= from)
                && to < leaving
        })
    })
}

/// What was asked on a connection that stands to the end has been answered.
pub fn each_is_answered(history: &History, breaches: &mut Vec<Breach>) {
    for record in &history.records {
        for (number, asked) in (0..).zip(&record.asked) {
            let stands = asked.connection + 1 == record.connections.len();
            let whole = history.is_whole(&record.lives[asked.life]);
            if stands && whole && asked.answers.is_empty() {
                let maker = record.client;
                let label = Label { maker, number };
                let what = format!("the request {label:?} has no answer: {asked:?}");
                breaches.push(Breach::new(maker, None, what));
            }
        }
    }
}
