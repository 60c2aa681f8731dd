//! The checker itself: a history that keeps every promise, and the same with one thing broken
//! at a time, which must be found and nothing else.

use super::checker::{owed, safety};
use super::history::{
    Asked, Delivered, End, Fate, History, Kind, Label, Life, Published, Record, Served, Standing,
    Time, Unknown, Will,
};

const LINGER: Time = 8_000_000;
/// Clients of the history below.
const MAKER: usize = 0;
const READER: usize = 1;
const OTHER: usize = 2;

fn label(maker: usize, number: u32) -> Label {
    let maker = u16::try_from(maker).unwrap();
    Label { maker, number }
}

fn life(is_session: bool) -> Life {
    Life {
        is_session,
        lost_at: None,
        closing_at: None,
        end: End::Open,
        is_revoked: false,
    }
}

fn published(kind: Kind, topic: &str, asked_at: Time) -> Published {
    Published {
        kind,
        topic: topic.to_owned(),
        life: 0,
        asked_at,
        sent: 1,
        is_repeated: false,
        confirmed_at: Some(asked_at + 5),
        refused: None,
    }
}

fn standing(filter: &str, group: Option<&str>) -> Standing {
    Standing {
        life: 0,
        filter: filter.to_owned(),
        group: group.map(str::to_owned),
        asked_at: vec![1],
        confirmed_at: Some(2),
        left_at: None,
        left_confirmed_at: None,
    }
}

fn delivered(label: Label, topic: &str, at: Time) -> Delivered {
    Delivered {
        label,
        topic: topic.to_owned(),
        life: 0,
        at,
    }
}

/// A maker publishes on t, g and r, has a will, and asks; a reader and another subscribe to t
/// and r, share g, and serve. The maker has broken off in the end.
fn whole() -> History {
    let mut records: Vec<Record> = (0..3)
        .map(|client| Record {
            client,
            lives: vec![life(client != 0)],
            connections: vec![(3, 0, String::new())],
            ..Record::default()
        })
        .collect();
    let topics = [
        (Kind::Live, "t"),
        (Kind::Live, "t"),
        (Kind::Live, "t"),
        (Kind::Live, "g"),
        (Kind::Live, "g"),
        (Kind::Retained, "r"),
        (Kind::Retained, "r"),
    ];
    let each = (10..).step_by(10).zip(topics);
    records[MAKER].published = each
        .map(|(at, (kind, topic))| published(kind, topic, at))
        .collect();
    let mut will = published(Kind::Will, "will/0", 80);
    will.confirmed_at = None;
    records[MAKER].published.push(will);
    records[MAKER].wills = vec![Will {
        life: 0,
        number: Some(7),
        confirmed_at: Some(85),
    }];
    records[MAKER].asked = vec![Asked {
        service: "s".to_owned(),
        life: 0,
        connection: 0,
        asked_at: 90,
        answers: vec![(95, Ok(1))],
    }];
    let gone = &mut records[MAKER].lives[0];
    (gone.lost_at, gone.end) = (Some(200), End::Lost);
    for reader in [READER, OTHER] {
        let filters = [("t", None), ("g", Some("a")), ("r", None), ("will/0", None)];
        let standings = filters.map(|(filter, group)| standing(filter, group));
        records[reader].standings = standings.to_vec();
        for (number, published) in (0..).zip(topics) {
            // Of the group, one gets the first and the other the second.
            if published.1 != "g" || number as usize == reader + 2 {
                let at = 10 * (Time::from(number) + 1) + 3;
                let one = delivered(label(MAKER, number), published.1, at);
                records[reader].delivered.push(one);
            }
        }
        let will = delivered(label(MAKER, 7), "will/0", 210);
        records[reader].delivered.push(will);
    }
    records[READER].services = vec![standing("s", None)];
    records[READER].served = vec![Served {
        label: label(MAKER, 0),
        answered: Some(Ok(())),
    }];
    History {
        fate: Fate::Calm,
        linger: LINGER,
        records,
        retained: Some(vec![("r".to_owned(), label(MAKER, 6))]),
    }
}

fn found(history: &History) -> Vec<String> {
    let mut breaches = safety(history);
    breaches.extend(owed(history));
    // What a person would be shown can be shown.
    let shown = breaches.iter().map(|breach| history.excerpt(breach));
    assert!(shown.into_iter().all(|text| !text.is_empty()));
    breaches.into_iter().map(|breach| breach.what).collect()
}

type Change = fn(&mut History);

/// What is broken, how, and what the checker says to it.
type Case = (&'static str, Change, &'static str);

fn remove(history: &mut History, reader: usize, number: u32) {
    let delivered = &mut history.records[reader].delivered;
    delivered.retain(|one| one.label.number != number);
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("the last message is lost", |h| remove(h, READER, 2), "never got"),
    ("one in the middle is lost", |h| remove(h, READER, 1), "never got"),
    ("one in the middle, of who broke off later", |h| {
        remove(h, READER, 1);
        let life = &mut h.records[READER].lives[0];
        (life.lost_at, life.end) = (Some(300), End::Lost);
    }, "never got"),
    ("one without confirmation, before one that came", |h| {
        h.records[MAKER].published[1].confirmed_at = None;
        remove(h, READER, 1);
    }, "never got"),
    ("what a drain had confirmed is lost", |h| {
        (h.fate, h.retained) = (Fate::Drained, None);
        for reader in [READER, OTHER] {
            let life = &mut h.records[reader].lives[0];
            // CLOSE was read before the publisher read its OK.
            (life.lost_at, life.end) = (Some(32), End::Drained);
            h.records[reader].delivered.retain(|one| one.at < 32);
        }
        h.records[MAKER].published.truncate(3);
        h.records[MAKER].wills.clear();
    }, "never got"),
    ("a message comes twice", |h| {
        h.records[READER].delivered.insert(2, delivered(label(MAKER, 1), "t", 24));
    }, "delivered 2 times"),
    ("a retained one comes again without being asked for", |h| {
        let again = delivered(label(MAKER, 6), "r", 211);
        h.records[READER].delivered.extend([again.clone(), again]);
    }, "delivered 3 times"),
    ("two are swapped", |h| h.records[READER].delivered.swap(0, 1), "delivered behind number 1"),
    ("one comes that nobody published", |h| {
        h.records[READER].delivered.push(delivered(label(OTHER, 9), "t", 300));
    }, "nobody published"),
    ("one comes under another topic", |h| {
        h.records[READER].delivered[0].topic = "r".to_owned();
    }, "under another topic"),
    ("one comes that was refused", |h| {
        let one = &mut h.records[MAKER].published[2];
        (one.refused, one.confirmed_at) = (Some(1), None);
    }, "though it was refused"),
    ("one comes to who had left", |h| {
        let one = &mut h.records[READER].standings[0];
        (one.left_at, one.left_confirmed_at) = (Some(26), Some(28));
    }, "had left before"),
    ("two members of a group have it", |h| {
        h.records[OTHER].delivered.insert(3, delivered(label(MAKER, 3), "g", 44));
    }, "taken by two"),
    ("no member of a group has it", |h| remove(h, READER, 3), "taken by nobody"),
    ("an answer comes from another service", |h| {
        h.records[MAKER].asked[0].answers[0].1 = Ok(2);
    }, "answered, but not by 2"),
    ("an answer is an error that nobody gave", |h| {
        h.records[MAKER].asked[0].answers[0].1 = Err(0x1001);
    }, "declined by nobody"),
    ("two answers", |h| {
        h.records[MAKER].asked[0].answers.push((96, Ok(1)));
    }, "more than one answer"),
    ("no answer", |h| {
        h.records[MAKER].asked[0].answers.clear();
        let life = &mut h.records[MAKER].lives[0];
        (life.lost_at, life.end) = (None, End::Open);
        for reader in [READER, OTHER] {
            remove(h, reader, 7);
        }
    }, "has no answer"),
    ("a request is brought twice", |h| {
        let again = h.records[READER].served[0].clone();
        h.records[OTHER].served.push(again);
    }, "brought 2 times"),
    ("no service, though there is one", |h| {
        h.records[MAKER].asked[0].answers[0].1 = Err(0x0301);
    }, "found no service"),
    ("a session is forgotten too early", |h| {
        h.records[READER].unknown.push(Unknown { life: 0, lost_at: 10, answered_at: 1000 });
    }, "session was unknown"),
    ("a will is missing", |h| {
        for reader in [READER, OTHER] {
            remove(h, reader, 7);
        }
    }, "was never published"),
    ("a will of who said CLOSE", |h| {
        h.records[MAKER].lives[0].end = End::Closed;
    }, "though its client"),
    ("a will that was withdrawn", |h| {
        h.records[MAKER].wills.push(Will { life: 0, number: None, confirmed_at: Some(90) });
    }, "not in force any more"),
    ("an old message is retained", |h| {
        h.retained = Some(vec![("r".to_owned(), label(MAKER, 5))]);
    }, "came later"),
    ("nothing is retained", |h| h.retained = Some(Vec::new()), "came later"),
    ("retained and live do not agree", |h| {
        for published in &mut h.records[MAKER].published[5..7] {
            published.confirmed_at = None;
        }
        h.retained = Some(vec![("r".to_owned(), label(MAKER, 5))]);
    }, "is retained"),
    ("a client saw nonsense", |h| h.records[OTHER].wrong.push("so it is".to_owned()), "so it is"),
];

#[test]
fn the_checker_finds_what_is_broken_and_nothing_in_what_is_not() {
    assert_eq!(found(&whole()), [""; 0]);
    for (name, breaks, wanted) in CASES {
        let mut history = whole();
        breaks(&mut history);
        let found = found(&history);
        let fits = found.iter().filter(|what| what.contains(wanted)).count();
        assert!(fits > 0, "{name}: no {wanted:?} in {found:#?}");
        println!("{name}: {found:?}");
    }
}

/// What faults may cost is no breach.
#[test]
fn the_checker_allows_what_a_fault_may_cost() {
    let cases: &[(&str, Change)] = &[
        ("who was killed may have missed the end", |h| {
            (h.fate, h.retained) = (Fate::Killed, None);
            remove(h, READER, 2);
            remove(h, READER, 7);
            let life = &mut h.records[READER].lives[0];
            (life.lost_at, life.end) = (Some(300), End::Open);
        }),
        (
            "a member that broke off without a session took it along",
            |h| {
                remove(h, READER, 3);
                let life = &mut h.records[READER].lives[0];
                (life.is_session, life.lost_at, life.end) = (false, Some(300), End::Lost);
            },
        ),
        ("a member that has gone left it to another", |h| {
            h.records[OTHER]
                .delivered
                .push(delivered(label(MAKER, 3), "g", 310));
            let life = &mut h.records[READER].lives[0];
            (life.lost_at, life.end) = (Some(300), End::Lost);
        }),
        ("who asks again for what is retained gets it again", |h| {
            h.records[READER].standings[2].asked_at.push(220);
            let again = delivered(label(MAKER, 6), "r", 230);
            h.records[READER].delivered.push(again);
        }),
        ("a linger is over", |h| {
            let answered_at = LINGER + 10;
            h.records[READER].unknown.push(Unknown {
                life: 0,
                lost_at: 10,
                answered_at,
            });
        }),
    ];
    for (name, change) in cases {
        let mut history = whole();
        change(&mut history);
        assert_eq!(found(&history), [""; 0], "{name}");
    }
}
