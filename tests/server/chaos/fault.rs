//! Faults, drawn from a seed, and what each does to the server, to a client or to the network.

use super::network::{Cut, Network};
use super::world::{Command, Seat, World};
use crate::harness::Server;
use crate::peer::control_frame;
use crate::tls::authority::Authority;
use rustix::process::Resource;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// More than a server has descriptors that is short of them.
const CROWD: usize = 120;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Client(u16, Command),
    Cut(usize, Cut),
    /// In the middle of a message, so many bytes from now.
    CutAfter(usize, u64),
    /// Nothing passes for a while, then the link is cut or goes on.
    Hold(usize, Duration, bool),
    /// SIGSTOP, and after a while SIGCONT.
    Stop(Duration),
    /// A stranger that talks nonsense, of so many kinds.
    Garbage(u8, u64),
    /// So many that connect and say nothing or not enough.
    HalfOpen(u8),
    Kick(u16),
    Revoke(u16),
    Certificate,
    /// So many strangers for a while that no descriptor may be left.
    Descriptors(Duration),
    /// The state's disk is full for a while.
    Disk(Duration),
}

impl Fault {
    pub fn draw(random: &mut fastrand::Rng, clients: u16, links: usize) -> Fault {
        // The observer is left alone.
        let client = random.u16(1..clients);
        let link = random.usize(..links);
        let time = Duration::from_millis(random.u64(20..400));
        match random.u8(..100) {
            0..8 => Fault::Client(client, Command::Reset),
            8..15 => Fault::Client(client, Command::Fin),
            15..18 => Fault::Client(client, Command::Close),
            18..22 => Fault::Client(client, Command::Abandon),
            22..30 => Fault::Client(client, Command::Torn),
            30..38 => Fault::Client(client, Command::TakeOver),
            38..42 => Fault::Client(client, Command::Pause(time)),
            42..47 => Fault::Cut(link, Cut::Fin),
            47..52 => Fault::Cut(link, Cut::Reset),
            52..58 => Fault::CutAfter(link, random.u64(1..4000)),
            58..62 => Fault::Hold(link, time, random.bool()),
            62..67 => Fault::Stop(time),
            67..75 => Fault::Garbage(random.u8(..6), random.u64(..)),
            75..79 => Fault::HalfOpen(random.u8(1..30)),
            79..85 => Fault::Kick(random.u16(1..clients + 2)),
            85..90 => Fault::Revoke(client),
            90..93 => Fault::Certificate,
            93..97 => Fault::Descriptors(time),
            _ => Fault::Disk(time),
        }
    }

    /// Its name alone.
    pub fn name(&self) -> String {
        let whole = match self {
            Fault::Client(_, command) => format!("{command:?}"),
            other => format!("{other:?}"),
        };
        whole.split('(').next().unwrap().to_owned()
    }
}

/// What faults act upon.
pub struct Field<'a> {
    pub server: &'a Server,
    pub world: &'a Arc<World>,
    pub network: &'a Network,
    pub commands: &'a [Sender<Command>],
    pub seats: &'a [Arc<Seat>],
    pub authority: &'a Authority,
    /// The API key of who may change something.
    pub operator: &'a str,
    /// Strangers that are kept open.
    pub strangers: Vec<TcpStream>,
}

impl Field<'_> {
    pub fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Client(client, command) => {
                let _ = self.commands[usize::from(client)].send(command);
            }
            Fault::Cut(link, cut) => self.network.links[link].cut(cut),
            Fault::CutAfter(link, bytes) => self.network.links[link].cut_after(bytes),
            Fault::Hold(link, time, then_cut) => {
                let link = &self.network.links[link];
                link.hold(true);
                std::thread::sleep(time);
                if then_cut {
                    link.cut(Cut::Reset);
                }
                link.hold(false);
            }
            Fault::Stop(time) => {
                self.server.signal(libc::SIGSTOP);
                std::thread::sleep(time);
                self.server.signal(libc::SIGCONT);
            }
            Fault::Garbage(kind, seed) => self.garbage(kind, seed),
            Fault::HalfOpen(count) => self.half_open(count),
            Fault::Kick(client) => self.kick(client),
            Fault::Revoke(client) => self.revoke(client),
            Fault::Certificate => self.authority.put(&self.authority.issue("the server")),
            Fault::Descriptors(time) => {
                let strangers = (0..CROWD).filter_map(|_| connect(self.server.address));
                let strangers: Vec<TcpStream> = strangers.collect();
                std::thread::sleep(time);
                drop(strangers);
            }
            Fault::Disk(time) => {
                self.world.is_full.store(true, Ordering::SeqCst);
                self.server.limit(Resource::Fsize, Some(0));
                // Something to write.
                let _ = self.admin("POST", "/revocations", r#"{"jti":"nobody's"}"#);
                std::thread::sleep(time);
                self.server.limit(Resource::Fsize, None);
                self.world.is_full.store(false, Ordering::SeqCst);
            }
        }
    }

    fn garbage(&mut self, kind: u8, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes: Vec<u8> = (0..random.usize(1..2000)).map(|_| random.u8(..)).collect();
        let syn = control_frame(1, 7, &[]);
        match kind {
            0 => {}
            // After a SYN; a TLS record; half a SYN; a message where none may be.
            1 => bytes.splice(..0, syn).for_each(drop),
            2 => bytes.splice(..0, *b"\x16\x03\x01\x02\x00").for_each(drop),
            3 => bytes = syn[..random.usize(1..13)].to_vec(),
            4 => bytes
                .splice(..0, *b"MC\x01\x10\xFF\xFF\xFF\xFF")
                .for_each(drop),
            _ => bytes.splice(..0, *b"GET / HTTP/1.1\r\n").for_each(drop),
        }
        let Some(mut stranger) = connect(self.server.address) else {
            return;
        };
        let _ = stranger.write_all(&bytes);
        let _ = stranger.read(&mut [0; 256]);
        if random.bool() {
            let socket = socket2::SockRef::from(&stranger);
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    fn half_open(&mut self, count: u8) {
        self.strangers.clear();
        let syn = control_frame(1, 7, &[]);
        for number in 0..count {
            let Some(mut stranger) = connect(self.server.address) else {
                continue;
            };
            let part = usize::from(number) % (syn.len() + 1);
            let _ = stranger.write_all(&syn[..part]);
            self.strangers.push(stranger);
        }
    }

    /// As an operator does: find the connection, end it.
    fn kick(&self, client: u16) {
        let path = format!("/connections?client_id=c{client}");
        let found = self.admin("GET", &path, "");
        let json: Option<serde_json::Value> =
            found.and_then(|(_, body)| serde_json::from_str(&body).ok());
        let id = json.and_then(|json| Some(json["connections"][0]["id"].as_str()?.to_owned()));
        if let Some(id) = id {
            self.admin("DELETE", &format!("/connections/{id}"), "");
        }
    }

    fn revoke(&self, client: u16) {
        const FOR_EVER: u64 = 4_000_000_000;
        let identity = self.seats[usize::from(client)]
            .identity
            .load(Ordering::SeqCst);
        let revoked = &self.world.revoked[usize::from(client)];
        revoked.store(identity + 1, Ordering::SeqCst);
        let body = format!(r#"{{"sub":"c{client}-{identity}","before":{FOR_EVER}}}"#);
        self.admin("POST", "/revocations", &body);
    }

    /// Status and body, if there was an answer.
    fn admin(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = connect(self.server.admin())?;
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .ok()?;
        let (key, length) = (self.operator, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }
}

/// A stranger's connection; it waits for nothing long.
fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    let moment = Some(Duration::from_millis(20));
    stream.set_read_timeout(moment).ok()?;
    stream.set_write_timeout(moment).ok()?;
    Some(stream)
}
