//! How a client comes and goes: it connects, begins or resumes its session, and ends its
//! connection or loses it. What the server may not refuse is written down.

use super::client::Client;
use super::connection::{Broken, Connection, Dial, credential};
use super::history::{End, Kind, Label, Life, Time, Unknown};
use super::workload::{LONG_S, MESSAGE, What, stamp};
use super::world::Command;
use crate::operation::{CLOSE, PUBLISH, code, publish};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SHUTDOWN: u16 = 0x0402;
const DRAINING: u16 = 0x0401;
const REVOKED: u16 = 0x0106;
/// How long a last word may take to be answered.
const LAST: Duration = Duration::from_secs(60);

impl Client {
    pub(super) fn credential(&self) -> (u8, String) {
        let client = self.record().client;
        let identity = self.seat.identity.load(Ordering::SeqCst);
        credential(&format!("c{client}-{identity}"), self.manner.token_s)
    }

    fn dial(&self) -> Dial {
        let client = self.record().client;
        Dial {
            address: self.world.addresses[self.manner.link],
            tls: self.world.tls.clone().filter(|_| self.manner.tls),
            checksum: self.manner.checksum,
            client_id: format!("c{client}"),
            credential: Some(self.credential()),
        }
    }

    pub(super) fn connect(&mut self) {
        let attempt = self.attempt();
        if let Err(broken) = attempt {
            self.connection = None;
            self.excuse(&broken);
            let wait = self.random.u64(1..30);
            std::thread::sleep(Duration::from_millis(wait));
        }
    }

    fn attempt(&mut self) -> Result<(), Broken> {
        let began_at = self.now();
        let mut connection = Connection::open(&self.dial())?;
        if !self.manner.session {
            self.begin(connection, began_at, None);
            return Ok(());
        }
        if let Some(key) = self.key {
            match connection.session(key, self.counted)? {
                Ok((_, true, last)) => {
                    return self.resume(connection, last);
                }
                Ok(_) => return Err(Broken::Nonsense("another session than asked for".into())),
                Err(code::SESSION_UNKNOWN) => self.forget(),
                Err(code) => return Err(Broken::Refused(code)),
            }
        }
        if let Some(key) = self.stale.take()
            && connection.session(key, 0)? != Err(code::SESSION_UNKNOWN)
        {
            let what = "the session of a server that was killed".to_owned();
            return Err(Broken::Nonsense(what));
        }
        match connection.session([0; 16], 0)? {
            Ok((key, false, _)) => {
                self.begin(connection, began_at, Some(key));
                Ok(())
            }
            other => Err(Broken::Nonsense(format!("to SESSION(new): {other:?}"))),
        }
    }

    fn take(&mut self, connection: Connection) {
        let half = self.manner.token_s * 500_000;
        self.renew_at = if self.manner.renews {
            self.now() + half
        } else {
            Time::MAX
        };
        if connection.is_draining {
            self.drain();
        }
        self.connection = Some(connection);
    }

    fn begin(&mut self, connection: Connection, began_at: Time, key: Option<[u8; 16]>) {
        self.take(connection);
        self.key = key;
        *self.seat.key.lock().unwrap() = key;
        (self.counted, self.acknowledged) = (0, 0);
        self.drop_open();
        let mut record = self.seat.record.lock().unwrap();
        let life = record.lives.len();
        record.lives.push(Life {
            is_session: key.is_some(),
            lost_at: None,
            closing_at: None,
            end: End::Open,
            is_revoked: false,
        });
        record.connections.push((began_at, life, String::new()));
        drop(record);
        self.life = Some(life);
    }

    /// Nothing of what is open will be answered.
    fn drop_open(&mut self) {
        self.pending.clear();
        self.requests.clear();
        self.to_answer.clear();
        self.unconfirmed = 0;
    }

    /// Sends again what was not confirmed, in its order.
    fn resume(&mut self, connection: Connection, last: u32) -> Result<(), Broken> {
        let (now, life) = (self.now(), self.life.unwrap());
        self.take(connection);
        let mut record = self.seat.record.lock().unwrap();
        record.lives[life].lost_at = None;
        record.connections.push((now, life, String::new()));
        // Some clients say again what is confirmed by `last`.
        if self.random.bool() {
            self.pending.retain(|pending| {
                let What::Publish(number) = pending.what else {
                    return true;
                };
                let is_taken = last != 0 && last.wrapping_sub(pending.id) < 1 << 31;
                if is_taken {
                    record.published[number].confirmed_at = Some(now);
                }
                !is_taken
            });
        }
        drop(record);
        self.unconfirmed = 0;
        let again: Vec<_> = self
            .pending
            .iter()
            .map(|one| (one.op.clone(), one.what))
            .collect();
        for (op, what) in again {
            let sent = self.issue(&op, what);
            if let Err(broken) = sent {
                self.lose(broken);
                break;
            }
        }
        Ok(())
    }

    /// The session is not there any more.
    fn forget(&mut self) {
        let answered_at = self.now();
        let life = self.life.take().unwrap();
        self.key = None;
        let is_revoked = self.is_revoked();
        // A drain ends the sessions that are away, and so does their overflow.
        let may_end = self.world.is_tight || self.world.is_draining.load(Ordering::SeqCst);
        let mut record = self.seat.record.lock().unwrap();
        let one = &mut record.lives[life];
        one.end = End::Unknown;
        one.is_revoked = is_revoked;
        let lost_at = one.lost_at.unwrap();
        if !may_end {
            record.unknown.push(Unknown {
                life,
                lost_at,
                answered_at,
            });
        }
    }

    /// Whether its principal has been revoked: then it takes another.
    fn is_revoked(&self) -> bool {
        let client = usize::from(self.record().client);
        let identity = self.seat.identity.load(Ordering::SeqCst);
        let is_revoked = identity < self.world.revoked[client].load(Ordering::SeqCst);
        if is_revoked {
            self.seat.identity.store(identity + 1, Ordering::SeqCst);
        }
        is_revoked
    }

    /// Whether the server may refuse that now; what it may not is written down.
    fn excuse(&mut self, broken: &Broken) {
        match broken {
            Broken::Off(_) => {}
            Broken::Refused(code) => self.excuse_code(*code),
            Broken::Nonsense(what) => self.wrong(what.clone()),
        }
    }

    fn excuse_code(&mut self, code: u16) {
        let draining = self.world.is_draining.load(Ordering::SeqCst);
        match code {
            REVOKED | code::AUTH_FAILED if self.is_revoked() => {
                if let Some(life) = self.life.take() {
                    let mut record = self.seat.record.lock().unwrap();
                    let one = &mut record.lives[life];
                    one.is_revoked = true;
                    one.end = End::Told(code);
                }
                self.key = None;
            }
            // By an operator, or by the drain.
            SHUTDOWN => {}
            DRAINING if draining => {}
            code::AUTH_EXPIRED | code::AUTH_FAILED if self.manner.token_s < LONG_S => {}
            code::SLOW_CONSUMER if self.world.is_tight => {}
            code::UNAVAILABLE if self.world.is_full.load(Ordering::SeqCst) => {}
            _ => self.wrong(format!("refused with {code:#06x}")),
        }
    }

    pub(super) fn lose(&mut self, broken: Broken) {
        let now = self.now();
        self.connection = None;
        let Some(life) = self.life else {
            return;
        };
        let mut record = self.seat.record.lock().unwrap();
        if let Some(last) = record.connections.last_mut() {
            last.2 = format!("{now}: {broken:?}");
        }
        let one = &mut record.lives[life];
        one.lost_at.get_or_insert(now);
        let is_over = self.draining.is_some() || self.key.is_none();
        if is_over {
            one.end = match broken {
                Broken::Refused(SHUTDOWN) if self.draining.is_some() => End::Drained,
                Broken::Refused(code) => End::Told(code),
                _ => End::Lost,
            };
        }
        drop(record);
        self.excuse(&broken);
        if is_over {
            self.life = None;
            self.drop_open();
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        if self.connection.is_none() {
            return;
        }
        let (now, life) = (self.now(), self.life.unwrap());
        match command {
            Command::Pause(time) => std::thread::sleep(time),
            Command::Close => self.close(),
            Command::TakeOver => self.take_over(),
            Command::Reset | Command::Torn | Command::Fin | Command::Abandon => {
                self.record().lives[life].lost_at = Some(now);
                let mut connection = self.connection.take().unwrap();
                if matches!(command, Command::Torn) {
                    let label = Label {
                        maker: u16::MAX,
                        number: u32::MAX,
                    };
                    let op = publish("t/0/0", [7; 300]).header(MESSAGE, stamp(label, Kind::Live));
                    let whole = connection.framed(PUBLISH, &op.body());
                    let _ = connection.write(&whole[..self.random.usize(1..whole.len())]);
                }
                if matches!(command, Command::Fin) {
                    connection.shut();
                    self.connection = Some(connection);
                    return self.read_out();
                }
                connection.reset();
                if matches!(command, Command::Abandon) {
                    self.key = None;
                }
                self.lose(Broken::Off(format!("{command:?}")));
            }
        }
    }

    fn take_over(&mut self) {
        let Some(key) = self.key else {
            return;
        };
        let took = Connection::open(&self.dial()).and_then(|mut connection| {
            let answer = connection.session(key, self.counted)?;
            Ok((connection, answer))
        });
        match took {
            Ok((connection, Ok((_, true, last)))) => {
                self.connection = None;
                self.note_end("taken over");
                let _ = self.resume(connection, last);
            }
            Ok((_, answer)) => {
                // Or the server has lost the session, and says so again.
                self.lose(Broken::Off(format!("not taken over: {answer:?}")));
            }
            // Who has the session now is not known: it is asked for again.
            Err(broken) => self.lose(broken),
        }
    }

    fn note_end(&self, how: &str) {
        let now = self.now();
        if let Some(last) = self.record().connections.last_mut() {
            last.2 = format!("{now}: {how}");
        }
    }

    /// CLOSE, and all that comes before its answer.
    pub(super) fn close(&mut self) {
        let (now, life) = (self.now(), self.life.unwrap());
        self.record().lives[life].closing_at = Some(now);
        let mut end_of_life = End::Lost;
        let said = self.send(CLOSE, &[0, 0]);
        if said.is_ok() {
            let end = Instant::now() + LAST;
            while let Some(connection) = self.connection.as_mut() {
                match connection.poll() {
                    Ok(Some(got)) if got.kind == CLOSE => {
                        // Or the server had begun to end it, and the two have crossed.
                        end_of_life = match got.u16(0) {
                            SHUTDOWN => End::Told(SHUTDOWN),
                            _ => End::Closed,
                        };
                        break;
                    }
                    Ok(Some(got)) => drop(self.handle(got)),
                    Ok(None) if Instant::now() < end => {}
                    Ok(None) => {
                        self.wrong("CLOSE was not answered".to_owned());
                        break;
                    }
                    Err(broken) => {
                        self.note_end(&format!("{broken:?} after CLOSE"));
                        break;
                    }
                }
            }
        }
        self.connection = None;
        let lost_at = self.now();
        let mut record = self.seat.record.lock().unwrap();
        let one = &mut record.lives[life];
        one.end = end_of_life;
        one.lost_at = Some(lost_at);
        drop(record);
        (self.life, self.key) = (None, None);
        self.drop_open();
    }

    /// Reads what still comes up to the server's end.
    fn read_out(&mut self) {
        let end = Instant::now() + LAST;
        loop {
            let read = self.connection.as_mut().unwrap().poll();
            match read {
                Ok(Some(got)) => {
                    if let Err(broken) = self.handle(got) {
                        return self.lose(broken);
                    }
                }
                Ok(None) if Instant::now() < end => {}
                Ok(None) => {
                    self.wrong("the server did not end its side after our FIN".to_owned());
                    return self.lose(Broken::Off("FIN without end".to_owned()));
                }
                Err(broken) => return self.lose(broken),
            }
        }
    }
}
