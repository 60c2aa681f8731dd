//! One client in a thread of its own: it draws operations, reads what comes, checks what it can
//! tell by itself, and writes everything down. How it comes and goes is in `reconnect`.

use super::connection::{Broken, Connection};
use super::history::{Delivered, Kind, Label, Record, Served, Time};
use super::workload::{
    ANSWERED, ASKED, DECLINED, MESSAGE, Manner, What, Workload, payload, read_stamp, stamp,
};
use super::world::{Command, Phase, Seat, World};
use crate::operation::{
    ACK, AUTH, AUTH_OK, CLOSE, DRAIN, ERROR, FAILED, Got, OK, Op, PONG, PUBLISH, REQUEST, RESPONSE,
    code, op,
};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, MutexGuard};

/// Unanswered at once.
const WINDOW: usize = 32;
/// How long a request may be answered, in microseconds.
const DUE: Time = 5_000_000;

pub(super) struct Pending {
    pub(super) id: u32,
    pub(super) op: Op,
    pub(super) what: What,
}

pub struct Client {
    pub(super) world: Arc<World>,
    pub(super) seat: Arc<Seat>,
    pub(super) manner: Manner,
    pub(super) random: fastrand::Rng,
    pub(super) commands: Receiver<Command>,
    pub(super) connection: Option<Connection>,
    pub(super) life: Option<usize>,
    pub(super) key: Option<[u8; 16]>,
    /// The key of a session that ended with its server.
    pub(super) stale: Option<[u8; 16]>,
    pub(super) counted: u32,
    pub(super) acknowledged: u32,
    pub(super) ids: u32,
    /// Answers come in their order.
    pub(super) pending: VecDeque<Pending>,
    pub(super) unconfirmed: usize,
    pub(super) requests: HashMap<u32, usize>,
    /// Requests to answer: when, the id, the label, which of `served`.
    pub(super) to_answer: Vec<(Time, u32, Label, usize)>,
    /// When it shows a new token.
    pub(super) renew_at: Time,
    /// DRAIN came; so many operations more, then it only listens.
    pub(super) draining: Option<u32>,
}

impl Client {
    pub fn new(
        world: Arc<World>,
        seat: Arc<Seat>,
        manner: Manner,
        seed: u64,
        commands: Receiver<Command>,
        stale: Option<[u8; 16]>,
    ) -> Client {
        let mut random = fastrand::Rng::with_seed(seed);
        // Some ids pass the end of their numbers.
        let ids = [0, u32::MAX - random.u32(..200)][random.usize(..2)];
        Client {
            world,
            seat,
            manner,
            random,
            commands,
            connection: None,
            life: None,
            key: None,
            stale,
            counted: 0,
            acknowledged: 0,
            ids,
            pending: VecDeque::new(),
            unconfirmed: 0,
            requests: HashMap::new(),
            to_answer: Vec::new(),
            renew_at: Time::MAX,
            draining: None,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.world.clock.now()
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.seat.record.lock().unwrap()
    }

    pub(super) fn wrong(&self, what: String) {
        self.seat.wrong(self.now(), &what);
    }

    pub fn run(mut self) {
        loop {
            let phase = self.world.phase();
            if phase == Phase::Over || (phase == Phase::Leave && self.connection.is_none()) {
                return;
            }
            if phase == Phase::Leave {
                return self.close();
            }
            if let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            if self.connection.is_none() {
                if self.world.is_draining.load(Ordering::SeqCst) {
                    return;
                }
                self.connect();
                continue;
            }
            let turn = self.turn(phase == Phase::Work);
            if let Err(broken) = turn {
                self.lose(broken);
            }
            let is_open = !self.pending.is_empty() || !self.to_answer.is_empty() || {
                let here = self.record().connections.len().wrapping_sub(1);
                let record = self.record();
                let mut open = self.requests.values();
                open.any(|&number| record.asked[number].connection == here)
            };
            let at_rest = phase == Phase::Rest && self.connection.is_some() && !is_open;
            self.seat.at_rest.store(at_rest, Ordering::SeqCst);
        }
    }

    /// Some operations, and what comes meanwhile.
    fn turn(&mut self, works: bool) -> Result<(), Broken> {
        if works && self.draining.is_none_or(|left| left > 0) {
            for _ in 0..self.random.usize(..=self.manner.pace) {
                self.draw()?;
            }
        }
        self.answer_due()?;
        if self.renew_at <= self.now() {
            self.renew_at += self.manner.token_s * 500_000;
            let (method, token) = self.credential();
            self.send(AUTH, &[&[method], token.as_bytes()].concat())?;
        }
        for _ in 0..64 {
            let connection = self.connection.as_mut().unwrap();
            let Some(got) = connection.poll()? else {
                break;
            };
            self.handle(got)?;
            if self.connection.is_none() {
                return Ok(());
            }
        }
        let unacknowledged = self.counted.wrapping_sub(self.acknowledged);
        if self.key.is_some() && unacknowledged > self.random.u32(..20) {
            self.acknowledged = self.counted;
            self.send(ACK, &self.counted.to_be_bytes())?;
        }
        Ok(())
    }

    pub(super) fn send(&mut self, kind: u8, body: &[u8]) -> Result<(), Broken> {
        self.connection.as_mut().unwrap().send(kind, body)
    }

    fn next_id(&mut self) -> u32 {
        self.ids = self.ids.wrapping_add(1).max(1);
        self.ids
    }

    fn draw(&mut self) -> Result<(), Broken> {
        let now = self.now();
        let mut record = self.seat.record.lock().unwrap();
        // What was asked on a connection before may be answered yet, or never.
        let is_due = |number: &&usize| record.asked[**number].asked_at + DUE > now;
        let asked = self.requests.values().filter(is_due).count();
        if self.pending.len() >= WINDOW || self.unconfirmed >= WINDOW || asked > 8 {
            return Ok(());
        }
        let connection = record.connections.len() - 1;
        let next = Workload {
            manner: &self.manner,
            random: &mut self.random,
            record: &mut record,
            life: self.life.unwrap(),
            connection,
            now,
        }
        .next();
        drop(record);
        let Some((op, what)) = next else {
            return Ok(());
        };
        if let Some(left) = &mut self.draining {
            *left = left.saturating_sub(1);
        }
        let id = op.id.unwrap_or_else(|| self.next_id());
        let op = op.id(id);
        match what {
            What::Request(number) => {
                self.requests.insert(id, number);
            }
            _ if id == 0 => self.unconfirmed += 1,
            _ => self.pending.push_back(Pending {
                id,
                op: op.clone(),
                what,
            }),
        }
        self.issue(&op, what)
    }

    pub(super) fn issue(&mut self, op: &Op, what: What) -> Result<(), Broken> {
        if let What::Publish(number) = what {
            self.record().published[number].sent += 1;
        }
        self.send(op.kind, &op.body())
    }

    // ---- what comes ----

    pub(super) fn handle(&mut self, got: Got) -> Result<(), Broken> {
        if got.kind >= 0x10 && self.key.is_some() {
            self.counted = self.counted.wrapping_add(1);
        }
        self.world.progress.fetch_add(1, Ordering::Relaxed);
        match got.kind {
            OK => self.answered(got.u32(0), None),
            ERROR => self.answered(got.u32(2), Some(got.u16(0))),
            PUBLISH => self.delivered(&got),
            REQUEST => self.asked(&got),
            RESPONSE => self.responded(&got),
            PONG | AUTH_OK => {}
            DRAIN => self.drain(),
            CLOSE => {
                let _ = self.send(CLOSE, &[0, 0]);
                return Err(Broken::Refused(got.u16(0)));
            }
            _ => return Err(Broken::Nonsense(format!("{got:?}"))),
        }
        Ok(())
    }

    pub(super) fn drain(&mut self) {
        self.draining = Some(self.random.u32(..60));
        if !self.world.is_draining.load(Ordering::SeqCst) {
            self.wrong("DRAIN, though nobody sent SIGTERM".to_owned());
        }
    }

    fn answered(&mut self, id: u32, refused: Option<u16>) {
        if id == 0 && refused.is_some() {
            return self.wrong(format!("a PUBLISH without id was refused: {refused:?}"));
        }
        let front = self.pending.pop_front();
        let Some(pending) = front.filter(|front| front.id == id) else {
            return self.wrong(format!("an answer out of order: {id:#x}, {refused:?}"));
        };
        let now = self.now();
        let mut record = self.seat.record.lock().unwrap();
        let mut is_right = refused.is_none();
        match pending.what {
            What::Publish(number) => {
                let published = &mut record.published[number];
                published.refused = refused;
                if is_right {
                    published.confirmed_at = Some(now);
                    self.unconfirmed = 0;
                }
            }
            What::Subscribe(index) if is_right => {
                record.standings[index].confirmed_at.get_or_insert(now);
            }
            What::Serve(index) if is_right => {
                record.services[index].confirmed_at.get_or_insert(now);
            }
            What::Will(index) if is_right => record.wills[index].confirmed_at = Some(now),
            // Sent again after a resumption, it may have been done before.
            What::Unsubscribe(index) => {
                record.standings[index].left_confirmed_at = Some(now);
                is_right |= refused == Some(code::NOT_SUBSCRIBED);
            }
            What::Unserve(index) => {
                record.services[index].left_confirmed_at = Some(now);
                is_right |= refused == Some(code::NOT_SUBSCRIBED);
            }
            _ => {}
        }
        drop(record);
        if !is_right {
            self.wrong(format!("{:?} was refused: {refused:#x?}", pending.what));
        }
    }

    fn delivered(&mut self, got: &Got) {
        let at = self.now();
        let stamped = got.header(MESSAGE).and_then(read_stamp);
        let Some((label, kind)) = stamped else {
            return self.wrong(format!("nobody published {got:?}"));
        };
        if got.payload() != payload(label, kind) {
            self.wrong(format!("{label:?} is not as it was published: {got:?}"));
        }
        let (topic, life) = (got.name().to_owned(), self.life.unwrap());
        self.record().delivered.push(Delivered {
            label,
            topic,
            life,
            at,
        });
    }

    fn asked(&mut self, got: &Got) {
        let at = self.now();
        let stamped = got.header(ASKED).and_then(read_stamp);
        let Some((label, kind)) = stamped else {
            return self.wrong(format!("nobody asked {got:?}"));
        };
        if got.payload() != payload(label, kind) {
            self.wrong(format!("{label:?} is not as it was asked: {got:?}"));
        }
        let mut record = self.seat.record.lock().unwrap();
        let served = record.served.len();
        record.served.push(Served {
            label,
            answered: None,
        });
        drop(record);
        let due = match self.random.u8(..20) {
            0 => return, // never
            1..5 => at + self.random.u64(..200_000),
            _ => at,
        };
        self.to_answer.push((due, got.id(), label, served));
    }

    fn answer_due(&mut self) -> Result<(), Broken> {
        let now = self.now();
        while let Some(place) = self.to_answer.iter().position(|one| one.0 <= now) {
            let (_, id, label, served) = self.to_answer.swap_remove(place);
            let declined = self.random.u8(..10) == 0;
            let answer = op(RESPONSE, "")
                .id(id)
                .header(ASKED, stamp(label, Kind::Live));
            let answer = answer.header(ANSWERED, self.record().client.to_be_bytes());
            let answer = match declined {
                true => answer.flag(FAILED).payload(DECLINED.to_be_bytes()),
                false => answer.payload(payload(label, Kind::Live)),
            };
            let result = if declined { Err(DECLINED) } else { Ok(()) };
            self.record().served[served].answered = Some(result);
            self.send(RESPONSE, &answer.body())?;
        }
        Ok(())
    }

    fn responded(&mut self, got: &Got) {
        let at = self.now();
        let Some(number) = self.requests.remove(&got.id()) else {
            return self.wrong(format!("an answer to nothing that is open: {got:?}"));
        };
        let label = Label {
            maker: self.record().client,
            number: u32::try_from(number).unwrap(),
        };
        let is_right = |got: &Got| {
            let stamped = got.header(ASKED).and_then(read_stamp);
            stamped.is_some_and(|(found, _)| found == label)
        };
        let answer = match got.result() {
            Ok(bytes) => {
                if !is_right(got) || bytes != payload(label, Kind::Live) {
                    self.wrong(format!("to {label:?} the answer to another: {got:?}"));
                }
                let by = got.header(ANSWERED).unwrap_or(&[0xFF, 0xFF]);
                Ok(u16::from_be_bytes(by.try_into().unwrap()))
            }
            Err(code) => {
                if code == DECLINED && !is_right(got) {
                    self.wrong(format!("to {label:?} the answer to another: {got:?}"));
                }
                Err(code)
            }
        };
        self.record().asked[number].answers.push((at, answer));
    }
}
