//! The project's own client library as one of the clients, so that its sessions meet the same
//! faults. It is always in a session, publishes with confirmation, subscribes and asks; what it
//! hides (connections, repetitions) is judged by what it says and brings.

use super::connection::Dial;
use super::history::{Asked, Delivered, End, Kind, Label, Life, Published, Standing, Time};
use super::workload::{ASKED, MESSAGE, payload, read_stamp, stamp};
use super::world::{Phase, Seat, World};
use ringmail::blocking::Client;
use ringmail::client::{Error, Incoming, Publish, Reconnect, Request};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Of an answer by whom it cannot be told: the library hands out no headers of it.
pub const SOMEBODY: u16 = u16::MAX;

/// How long a call may wait, and how often the server may be away.
const CALL: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 60;

pub struct Native {
    pub world: Arc<World>,
    pub seat: Arc<Seat>,
    pub random: fastrand::Rng,
    pub client: Client,
    pub number: u16,
    pub life: usize,
}

impl Native {
    /// Connects, and goes on until all leave or the server is no more.
    pub fn live(world: Arc<World>, seat: Arc<Seat>, seed: u64, dial: &Dial, ca: Option<PathBuf>) {
        let number = seat.record.lock().unwrap().client;
        let reconnect = Reconnect::default()
            .delay_base(Duration::from_millis(2))
            .delay_max(Duration::from_millis(30))
            .attempts_max(ATTEMPTS);
        let (_, token) = dial.credential.clone().unwrap();
        let builder = Client::builder()
            .session(true)
            .reconnect(reconnect)
            .connect_timeout(CALL)
            .request_timeout(CALL)
            .wait(CALL)
            .checksum(dial.checksum)
            .client_id(&dial.client_id)
            .token(token);
        let builder = match ca {
            Some(ca) => builder.tls_ca(ca),
            None => builder,
        };
        match builder.connect(&dial.address.to_string()) {
            Ok(client) => {
                let random = fastrand::Rng::with_seed(seed);
                let native = Native {
                    world,
                    seat,
                    random,
                    client,
                    number,
                    life: 0,
                };
                native.begin();
                native.run();
            }
            Err(error) if world.phase() == Phase::Over => drop(error),
            Err(error) => seat.wrong(world.clock.now(), &error.to_string()),
        }
    }

    fn now(&self) -> Time {
        self.world.clock.now()
    }

    fn begin(&self) {
        let now = self.now();
        let mut record = self.seat.record.lock().unwrap();
        let life = record.lives.len();
        record.lives.push(Life {
            is_session: true,
            lost_at: None,
            closing_at: None,
            end: End::Open,
            is_revoked: false,
        });
        record.connections.push((now, life, String::new()));
    }

    fn run(mut self) {
        loop {
            match self.world.phase() {
                Phase::Over => break,
                Phase::Leave => return self.close(),
                phase => {
                    let went = self.turn(phase == Phase::Work);
                    if let Err(error) = went
                        && self.is_over(&error)
                    {
                        break;
                    }
                }
            }
        }
        let now = self.now();
        let mut record = self.seat.record.lock().unwrap();
        record.lives[self.life].lost_at = Some(now);
    }

    /// An error that ends the client, which the end of the server explains.
    fn is_over(&mut self, error: &Error) -> bool {
        let is_expected =
            self.world.phase() == Phase::Over || self.world.is_draining.load(Ordering::SeqCst);
        if !is_expected && !matches!(error, Error::Unconfirmed { .. }) {
            self.seat
                .wrong(self.now(), &format!("the library: {error}"));
        }
        true
    }

    fn turn(&mut self, works: bool) -> Result<(), Error> {
        if works {
            match self.random.u8(..10) {
                0 => self.subscribe()?,
                1..3 => self.request(),
                3..8 => self.publish()?,
                _ => {}
            }
        }
        while let Some(incoming) = self.client.receive_timeout(Duration::from_millis(4))? {
            self.take(incoming);
        }
        self.seat.at_rest.store(!works, Ordering::SeqCst);
        Ok(())
    }

    /// Some at once, then all confirmed.
    fn publish(&mut self) -> Result<(), Error> {
        let first = self.seat.record.lock().unwrap().published.len();
        let count = self.random.usize(1..20);
        for number in first..first + count {
            let label = Label {
                maker: self.number,
                number: u32::try_from(number).unwrap(),
            };
            let topic = match self.random.u8(..4) {
                0 => format!("g/{}/x", self.random.u8(..3)),
                _ => format!("t/{}/{}", self.random.u8(..3), self.random.u8(..3)),
            };
            let (bytes, stamp) = (payload(label, Kind::Live), stamp(label, Kind::Live));
            self.seat.record.lock().unwrap().published.push(Published {
                kind: Kind::Live,
                topic: topic.clone(),
                life: self.life,
                asked_at: self.now(),
                sent: 1,
                is_repeated: false,
                confirmed_at: None,
                refused: None,
            });
            let publish = Publish::new(&topic).payload(&bytes).header(MESSAGE, &stamp);
            self.client.publish_queued(&publish.confirm(true))?;
        }
        self.client.wait_confirmed()?;
        let now = self.now();
        let mut record = self.seat.record.lock().unwrap();
        for published in &mut record.published[first..] {
            published.confirmed_at = Some(now);
        }
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), Error> {
        let filters = ["t/0/#", "t/+/2", "r/#"];
        let place = self.seat.record.lock().unwrap().standings.len();
        let Some(filter) = filters.get(place) else {
            return Ok(());
        };
        let asked_at = vec![self.now()];
        self.seat.record.lock().unwrap().standings.push(Standing {
            life: self.life,
            filter: (*filter).to_owned(),
            group: None,
            asked_at,
            confirmed_at: None,
            left_at: None,
            left_confirmed_at: None,
        });
        self.client.subscribe(filter)?;
        let now = self.now();
        self.seat.record.lock().unwrap().standings[place].confirmed_at = Some(now);
        Ok(())
    }

    /// What fails with its connection was not answered, and is not asked again.
    fn request(&mut self) {
        let service = format!("s/{}", self.random.u8(..3));
        let mut record = self.seat.record.lock().unwrap();
        let number = record.asked.len();
        let label = Label {
            maker: self.number,
            number: u32::try_from(number).unwrap(),
        };
        record.asked.push(Asked {
            service: service.clone(),
            life: self.life,
            connection: usize::MAX - 1,
            asked_at: self.now(),
            answers: Vec::new(),
        });
        drop(record);
        let (bytes, stamp) = (payload(label, Kind::Live), stamp(label, Kind::Live));
        let request = Request::new(&service)
            .payload(&bytes)
            .header(ASKED, &stamp)
            .timeout(Duration::from_millis(self.random.u64(50..1500)));
        let answer = match self.client.request_with(&request) {
            Ok(response) => {
                if response.payload != bytes {
                    let what = format!("to {label:?} the answer to another");
                    self.seat.wrong(self.now(), &what);
                }
                Ok(SOMEBODY)
            }
            Err(Error::Failed { code, .. }) => Err(code.to_wire()),
            Err(_) => return,
        };
        let now = self.now();
        self.seat.record.lock().unwrap().asked[number]
            .answers
            .push((now, answer));
    }

    fn take(&mut self, incoming: Incoming) {
        let at = self.now();
        self.world.progress.fetch_add(1, Ordering::Relaxed);
        match incoming {
            Incoming::Message(message) => {
                let stamped = message.headers().find(MESSAGE).and_then(read_stamp);
                let is_right =
                    |(label, kind): &(Label, Kind)| message.payload == payload(*label, *kind);
                match stamped.filter(is_right) {
                    Some((label, _)) => {
                        let topic = message.topic;
                        self.seat.record.lock().unwrap().delivered.push(Delivered {
                            label,
                            topic,
                            life: self.life,
                            at,
                        });
                    }
                    None => self
                        .seat
                        .wrong(at, &format!("nobody published {message:?}")),
                }
            }
            Incoming::Reconnected { resumed: true } => {
                let mut record = self.seat.record.lock().unwrap();
                record.connections.push((at, self.life, String::new()));
            }
            Incoming::Reconnected { resumed: false }
                if self.world.is_draining.load(Ordering::SeqCst) =>
            {
                self.lapse(at);
            }
            other => self
                .seat
                .wrong(at, &format!("the library brings {other:?}")),
        }
    }

    /// The session has ended with a drain; the library has begun another by itself.
    fn lapse(&mut self, at: Time) {
        let mut record = self.seat.record.lock().unwrap();
        let life = &mut record.lives[self.life];
        (life.lost_at, life.end) = (Some(at), End::Unknown);
        for published in &mut record.published {
            published.is_repeated = true;
        }
        let mut again = record.standings.clone();
        again.retain(|one| one.life == self.life);
        for one in &mut again {
            (one.life, one.confirmed_at) = (self.life + 1, None);
        }
        record.standings.extend(again);
        drop(record);
        self.life += 1;
        self.begin();
    }

    fn close(self) {
        let now = self.now();
        self.seat.record.lock().unwrap().lives[self.life].closing_at = Some(now);
        let closed = self.client.close();
        let mut record = self.seat.record.lock().unwrap();
        let life = &mut record.lives[self.life];
        life.lost_at = Some(now);
        life.end = match closed {
            Ok(()) => End::Closed,
            Err(_) => End::Lost,
        };
    }
}
