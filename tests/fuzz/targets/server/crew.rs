//! Clients that play by the rules on topics of their own, with sessions and without, and break off
//! and come back. Nobody else names these topics, so that each message is accounted for.

use super::Draw;
use crate::routing::judge::{Evidence, Terms};
use crate::server::{Server, ms};
use ringmail::broker::Limits;
use ringmail::ring::sim::World;
use ringmail::ring::sim::client::traffic::{Act, Command, Filter, Publish, SessionPlan, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Reading};
use std::time::Duration;

/// What nobody else says.
pub const NAME: &[u8] = b"watch";
const TOPICS: &[&str] = &["watch/a", "watch/b"];
const FILTERS: &[&str] = &["watch/a", "watch/b", "watch/+", "watch/#"];
const CUTS: &[Ending] = &[Ending::Reset, Ending::Vanish, Ending::Fin];
const BYTES: &[usize] = &[0, 10, 100, 1000];

pub struct Crew {
    clients: [ClientId; 3],
    linger: Duration,
    terms: Terms,
}

impl Crew {
    pub fn new(world: &World, limits: &Limits) -> Crew {
        let member = |ack_every, checksum| Traffic {
            checksum,
            session: (ack_every > 0).then_some(SessionPlan {
                ack_every,
                ..SessionPlan::default()
            }),
            ..Traffic::with_session([Act::subscribe("watch/#")])
        };
        let plans = [member(1, true), member(4, false), member(0, false)];
        let terms = Terms {
            ample: limits.outbox_bytes_max > 1 << 16,
            timeout: limits.request_timeout,
            timeout_max: limits.request_timeout_max,
            ..Terms::default()
        };
        Crew {
            clients: plans.map(|plan| world.add_traffic(world.now(), plan)),
            linger: limits.session_linger,
            terms,
        }
    }

    pub fn act(&mut self, world: &World, draw: &mut Draw<'_>) {
        let (choice, id) = (draw.byte(), *draw.pick(&self.clients));
        let filter = |draw: &mut Draw<'_>| Filter {
            group: draw.bool().then(|| "g".to_owned()),
            ..Filter::of(draw.word(FILTERS))
        };
        let act = match choice & 15 {
            0..=5 => {
                let one = Act::Publish(Publish {
                    confirmed: choice & 16 == 0,
                    retain: choice & 32 != 0,
                    bytes: *draw.pick(BYTES),
                    ..Publish::of(draw.word(TOPICS))
                });
                let acts = vec![one; 1 + usize::from(choice >> 6)];
                return world.command(id, Command::Act(acts));
            }
            6 => Act::Subscribe(filter(draw)),
            7 => Act::Unsubscribe(filter(draw)),
            8 => Act::Will(Publish::of(draw.word(TOPICS))),
            9 => Act::WithdrawWill,
            10 => Act::AwaitAnswers,
            11 => Act::Read(Reading::Slow {
                bytes: 16,
                every: ms(1),
            }),
            12 => Act::Read(Reading::Eager),
            13 => Act::AckAll,
            _ => return world.command(id, Command::End(*draw.pick(CUTS))),
        };
        world.command(id, Command::Act(vec![act]));
    }

    /// All heal, finish and leave; then they are asked what they have seen.
    pub fn finish(self, server: &mut Server) {
        let world = server.world.clone();
        let all = |command: &Command| {
            for id in self.clients {
                world.command(id, command.clone());
            }
        };
        all(&Command::Heal);
        let is_idle = || self.clients.iter().all(|id| world.is_idle(*id));
        for _ in 0..600 {
            server.run_for(ms(100));
            if is_idle() {
                break;
            }
        }
        assert!(is_idle(), "the crew waits");
        // Longer than a session and a vanished connection last.
        server.run_for(self.linger + Duration::from_secs(100));
        all(&Command::End(Ending::Close));
        server.run_for(Duration::from_secs(5));
        let evidence = Evidence::gather(&world, &self.clients, self.linger, self.terms);
        let has_left = |id: &ClientId| world.record(*id).ended;
        assert!(self.clients.iter().all(has_left), "the crew stays");
        evidence.judge();
    }
}
