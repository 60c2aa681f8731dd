//! What a client is like and what it asks for next, drawn from its seed; and the bytes of its
//! messages, which follow from their label, so that whoever receives one can tell that it came
//! as it was sent.

use super::history::{Asked, Kind, Label, Published, Record, Standing, Time, Will};
use crate::operation::{
    Op, PUBLISH, REQUEST, SERVE, SUBSCRIBE, TIMEOUT_MS, UNSERVE, UNSUBSCRIBE, WILL, op,
};

/// The application's headers: the label and kind of a message; the label of a request; the
/// client that answered.
pub const MESSAGE: u8 = 0x40;
pub const ASKED: u8 = 0x41;
pub const ANSWERED: u8 = 0x42;

/// What a service answers some requests with.
pub const DECLINED: u16 = 0x1001;

/// Longer than any server here lives.
pub const LONG_S: u64 = 86_400;

/// What an operation was, to be found again when it is answered: indices into the record.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Publish(usize),
    Subscribe(usize),
    Unsubscribe(usize),
    Serve(usize),
    Unserve(usize),
    Will(usize),
    Request(usize),
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Manner {
    pub session: bool,
    pub tls: bool,
    pub checksum: bool,
    /// 0: straight to the server.
    pub link: usize,
    /// Subscribes to everything before all others, and is left alone.
    pub is_observer: bool,
    /// How long its tokens live, in seconds, and whether it shows a new one in time.
    pub token_s: u64,
    pub renews: bool,
    /// Operations it begins at once, at most.
    pub pace: usize,
    publishes: bool,
    filters: usize,
    group: Option<&'static str>,
    serves: bool,
    asks: bool,
    wills: bool,
}

impl Manner {
    pub fn observer() -> Manner {
        Manner {
            session: false,
            tls: false,
            checksum: false,
            link: 0,
            is_observer: true,
            token_s: LONG_S,
            renews: false,
            pace: 1,
            publishes: false,
            filters: 0,
            group: None,
            serves: false,
            asks: false,
            wills: false,
        }
    }

    pub fn draw(random: &mut fastrand::Rng, links: usize, has_tls: bool) -> Manner {
        let session = random.bool();
        // Of a group of sessions nothing may be lost, whoever breaks off.
        let group = if session { "left" } else { "right" };
        Manner {
            session,
            tls: has_tls && random.bool(),
            checksum: random.u8(..4) == 0,
            link: random.usize(..=links),
            is_observer: false,
            token_s: [LONG_S, LONG_S, 4][random.usize(..3)],
            renews: random.bool(),
            pace: [2, 6, 30, 30][random.usize(..4)],
            publishes: random.u8(..4) > 0,
            filters: random.usize(..4),
            group: (random.u8(..4) > 0).then_some(group),
            serves: random.u8(..3) == 0,
            asks: random.bool(),
            wills: random.bool(),
        }
    }
}

/// The payload that follows from a label.
pub fn payload(label: Label, kind: Kind) -> Vec<u8> {
    if kind == Kind::Clear {
        return Vec::new();
    }
    let mixed = (label.number ^ u32::from(label.maker) << 16).wrapping_mul(0x9E37_79B1);
    let bytes = match mixed >> 24 {
        0..224 => 1 + (mixed & 0xFF),
        224..252 => 1000 + (mixed & 0x0FFF),
        _ => 20_000 + (mixed & 0x7FFF),
    };
    let first = label.number.wrapping_add(u32::from(label.maker));
    let each = (0..bytes).map(|place| place.wrapping_mul(31).wrapping_add(first).to_le_bytes()[0]);
    each.collect()
}

/// A label as a header's value.
pub fn stamp(label: Label, kind: Kind) -> [u8; 7] {
    let mut bytes = [0; 7];
    bytes[..2].copy_from_slice(&label.maker.to_be_bytes());
    bytes[2..6].copy_from_slice(&label.number.to_be_bytes());
    bytes[6] = kind as u8;
    bytes
}

pub fn read_stamp(bytes: &[u8]) -> Option<(Label, Kind)> {
    let [a, b, c, d, e, f, kind] = *bytes else {
        return None;
    };
    let label = Label {
        maker: u16::from_be_bytes([a, b]),
        number: u32::from_be_bytes([c, d, e, f]),
    };
    let kinds = [Kind::Live, Kind::Retained, Kind::Clear, Kind::Will];
    let kind = *kinds.get(usize::from(kind))?;
    Some((label, kind))
}

/// Draws what comes next; what it draws is in the record before it is sent.
pub struct Workload<'a> {
    pub manner: &'a Manner,
    pub random: &'a mut fastrand::Rng,
    pub record: &'a mut Record,
    pub life: usize,
    pub connection: usize,
    pub now: Time,
}

type Next = Option<(Op, What)>;

impl Workload<'_> {
    pub fn next(&mut self) -> Next {
        if self.manner.is_observer {
            let stands = self
                .record
                .standings
                .iter()
                .any(|one| one.life == self.life);
            return if stands {
                None
            } else {
                self.subscribe("#".to_owned(), None)
            };
        }
        let kind = self.random.u8(..100);
        match kind {
            0..5 => self.subscription(),
            5..8 => self.service(),
            8..16 if self.manner.wills => self.will(),
            16..32 if self.manner.asks => Some(self.request()),
            32.. if self.manner.publishes => Some(self.publish()),
            _ => None,
        }
    }

    fn pick(&mut self, prefix: &str, count: u8) -> String {
        format!("{prefix}/{}", self.random.u8(..count))
    }

    fn publish(&mut self) -> (Op, What) {
        let (kind, topic) = match self.random.u8(..10) {
            0 => (Kind::Retained, self.pick("r", 3)),
            1 if self.random.u8(..4) == 0 => (Kind::Clear, self.pick("r", 3)),
            // What is not retained keeps its place behind what is.
            2 => (Kind::Live, self.pick("r", 3)),
            3..5 => (Kind::Live, self.pick("g", 3) + "/x"),
            _ => {
                let level = self.pick("t", 3);
                (Kind::Live, self.pick(&level, 3))
            }
        };
        let confirm = kind != Kind::Live || self.random.u8(..5) > 0;
        let (op, number) = self.message(PUBLISH, kind, topic);
        let op = if confirm { op } else { op.id(0) };
        (op, What::Publish(number))
    }

    fn message(&mut self, operation: u8, kind: Kind, topic: String) -> (Op, usize) {
        let number = self.record.published.len();
        let label = Label {
            maker: self.record.client,
            number: u32::try_from(number).unwrap(),
        };
        let op = op(operation, &topic)
            .header(MESSAGE, stamp(label, kind))
            .payload(payload(label, kind));
        let retain = matches!(kind, Kind::Retained | Kind::Clear);
        self.record.published.push(Published {
            kind,
            topic,
            life: self.life,
            asked_at: self.now,
            sent: 0,
            is_repeated: false,
            confirmed_at: None,
            refused: None,
        });
        (if retain { op.retain() } else { op }, number)
    }

    /// Wills begin and are withdrawn.
    fn will(&mut self) -> Next {
        let topic = format!("will/{}", self.record.client);
        let (op, number) = match self.random.u8(..4) {
            0 => (op(WILL, ""), None),
            _ => {
                let (op, number) = self.message(WILL, Kind::Will, topic);
                (op, Some(u32::try_from(number).unwrap()))
            }
        };
        self.record.wills.push(Will {
            life: self.life,
            number,
            confirmed_at: None,
        });
        Some((op, What::Will(self.record.wills.len() - 1)))
    }

    fn subscription(&mut self) -> Next {
        let grouped = self.manner.group.filter(|_| self.random.bool());
        if let Some(group) = grouped {
            let filter = self.pick("g", 3) + "/+";
            return self.toggle(filter, Some(group.to_owned()));
        }
        let has = self.standing(|one| one.group.is_none()).count();
        if has < self.manner.filters {
            let filters = ["t/#", "t/+/1", "t/0/+", "t/2/2", "r/#", "r/1", "t/1/#"];
            let filter = filters[self.random.usize(..filters.len())];
            return self.subscribe(filter.to_owned(), None);
        }
        let some = self.standing(|one| one.group.is_none());
        let filters: Vec<String> = some.map(|one| one.filter.clone()).collect();
        match filters.len() {
            0 => None,
            count => {
                let filter = filters[self.random.usize(..count)].clone();
                self.toggle(filter, None)
            }
        }
    }

    fn standing(&self, suits: impl Fn(&Standing) -> bool) -> impl Iterator<Item = &Standing> {
        let standings = self.record.standings.iter();
        standings.filter(move |one| one.life == self.life && one.left_at.is_none() && suits(one))
    }

    /// Leaves it if it stands, one time in three asks for it again, else subscribes.
    fn toggle(&mut self, filter: String, group: Option<String>) -> Next {
        let mut standings = self.record.standings.iter();
        let found = standings.position(|one| {
            let is_it = one.filter == filter && one.group == group;
            is_it && one.life == self.life && one.left_at.is_none()
        });
        let again = self.random.u8(..3) < if group.is_some() { 2 } else { 1 };
        match found {
            Some(index) if !again => {
                let one = &mut self.record.standings[index];
                one.left_at = Some(self.now);
                Some((named(UNSUBSCRIBE, one), What::Unsubscribe(index)))
            }
            _ => self.subscribe(filter, group),
        }
    }

    fn subscribe(&mut self, filter: String, group: Option<String>) -> Next {
        let standings = &mut self.record.standings;
        let index = found_or_new(standings, filter, group, self.life);
        let one = &mut standings[index];
        one.asked_at.push(self.now);
        Some((named(SUBSCRIBE, one), What::Subscribe(index)))
    }

    fn service(&mut self) -> Next {
        if !self.manner.serves {
            return None;
        }
        let service = self.pick("s", 3);
        let services = &mut self.record.services;
        let index = found_or_new(services, service, None, self.life);
        let one = &mut services[index];
        if one.asked_at.is_empty() || self.random.u8(..3) > 0 {
            one.asked_at.push(self.now);
            Some((named(SERVE, one), What::Serve(index)))
        } else {
            one.left_at = Some(self.now);
            Some((named(UNSERVE, one), What::Unserve(index)))
        }
    }

    fn request(&mut self) -> (Op, What) {
        let service = self.pick("s", 3);
        let number = self.record.asked.len();
        let label = Label {
            maker: self.record.client,
            number: u32::try_from(number).unwrap(),
        };
        let timeout_ms: u32 = self.random.u32(50..3000);
        let op = op(REQUEST, &service)
            .header(TIMEOUT_MS, timeout_ms.to_be_bytes())
            .header(ASKED, stamp(label, Kind::Live))
            .payload(payload(label, Kind::Live));
        self.record.asked.push(Asked {
            service,
            life: self.life,
            connection: self.connection,
            asked_at: self.now,
            answers: Vec::new(),
        });
        (op, What::Request(number))
    }
}

fn named(operation: u8, standing: &Standing) -> Op {
    let op = op(operation, &standing.filter);
    match &standing.group {
        Some(group) => op.group(group),
        None => op,
    }
}

fn found_or_new(
    standings: &mut Vec<Standing>,
    filter: String,
    group: Option<String>,
    life: usize,
) -> usize {
    let found = standings.iter().position(|one| {
        one.life == life && one.left_at.is_none() && one.filter == filter && one.group == group
    });
    found.unwrap_or_else(|| {
        standings.push(Standing {
            life,
            filter,
            group,
            asked_at: Vec::new(),
            confirmed_at: None,
            left_at: None,
            left_confirmed_at: None,
        });
        standings.len() - 1
    })
}
