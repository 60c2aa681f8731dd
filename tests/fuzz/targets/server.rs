//! The whole server on simulated drivers: clients that say anything, in any pieces, with any end,
//! beside one that plays by the rules.
//!
//! Whatever they did, the faults end, and then the good client has had each of its answers, no
//! client heard nonsense, what is charged is what is held, and nothing is left: no slot, byte,
//! buffer, descriptor, subscription or session. Often a crew is there as well, which keeps sessions,
//! breaks off and comes back: it is owed all that the judge of random loads asks for.

mod crew;

use super::{Draw, speech};
use crate::server::{Server, limits, ms, request_kinds, settings};
use crew::Crew;
use ringmail::base::reason::Reason;
use ringmail::ring::sim::client::{ClientId, Ending, Opening, Order, Plan, Reading, Writing};
use ringmail::ring::sim::{Faults, RingSize, World};
use speech::Censor;
use std::time::Duration;

const CLIENTS_MAX: usize = 6;
const STEPS_MAX: usize = 60;
/// A hostile client: its connection, whether it has CRCs, and what it must not say.
type Hostile = (ClientId, bool, Censor);

const ENDINGS: [Ending; 5] = [
    Ending::Close,
    Ending::Fin,
    Ending::Reset,
    Ending::Vanish,
    Ending::Stay,
];

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let flags = draw.byte();
    let faults = match flags & 3 {
        0 | 1 => Faults::none(),
        2 => Faults::harmless(),
        _ => Faults::all(),
    };
    let has_breaks = faults.breaks > 0.0;
    let world = World::new(u64::from(draw.byte()), faults);
    let mut limits = limits();
    limits.session_linger = ms(5000);
    if flags & 4 != 0 {
        limits.outbox_bytes_max = 4000;
        world.set_pipe_bytes(2000);
    }
    let size = match flags & 8 {
        0 => RingSize::default(),
        _ => RingSize {
            buffers: 4,
            buffer_bytes: 64,
            completions: 8,
            backlog: 8,
        },
    };
    let shards = 1 + usize::from(flags >> 4 & 1);
    let mut server = Server::with(&world, shards, size, &settings(), &limits);
    let mut good = Plan::well_behaved(&mut fastrand::Rng::with_seed(u64::from(flags)));
    good.payload_bytes_max = good.payload_bytes_max.min(300);
    if flags & 64 != 0 {
        good.request_kinds = request_kinds();
        // Numbers of the whole server may be more than a small outbox takes.
        good.request_kinds
            .retain(|kind| kind.service != "$sys/stats");
    }
    let good = world.add_client(world.now(), good);
    let mut crew = (flags & 32 != 0).then(|| Crew::new(&world, &limits));

    let mut hostile: Vec<Hostile> = Vec::new();
    for _ in 0..STEPS_MAX {
        if draw.is_empty() {
            break;
        }
        step(&mut server, &mut hostile, crew.as_mut(), &mut draw);
        server.check_ledgers();
    }
    server.run_for(ms(50));
    converge(server, good, &hostile, crew, has_breaks);
}

fn step(
    server: &mut Server,
    hostile: &mut Vec<Hostile>,
    crew: Option<&mut Crew>,
    draw: &mut Draw<'_>,
) {
    let world = server.world.clone();
    match draw.byte() & 15 {
        0 | 1 if hostile.len() < CLIENTS_MAX => {
            let mut censor = Censor::new(crew::NAME);
            let (mut plan, checksum) = plan(draw);
            if let Opening::Raw(bytes) = &plan.opening
                && !censor.admits(bytes)
            {
                plan.opening = Opening::Silent;
            }
            let id = world.add_client(world.now(), plan);
            hostile.push((id, checksum, censor));
            server.run_for(ms(20));
        }
        2 => server.run_for(ms(u64::from(draw.byte()))),
        3 => server.run_for(ms(100 * u64::from(draw.byte()))),
        4 if !hostile.is_empty() => {
            let (id, ..) = *draw.pick(hostile);
            world.order(id, Order::End(*draw.pick(&ENDINGS)));
        }
        5 => server.run_turns(1 + draw.below(8)),
        6..=8 if crew.is_some() => {
            if let Some(crew) = crew {
                crew.act(&world, draw);
            }
            server.run_for(ms(2));
        }
        _ if !hostile.is_empty() => {
            let at = draw.below(hostile.len());
            let (id, checksum, censor) = &mut hostile[at];
            let (id, checksum) = (*id, *checksum);
            let mut bytes = Vec::new();
            let count = 1 + draw.below(4);
            for _ in 0..count {
                speech::piece(draw, &[0, 1], checksum, &mut bytes);
            }
            if censor.admits(&bytes) {
                world.order(id, Order::Raw(bytes));
            }
            server.run_for(ms(5));
        }
        _ => {}
    }
}

fn plan(draw: &mut Draw<'_>) -> (Plan, bool) {
    let flags = draw.byte();
    let checksum = flags & 1 != 0;
    let mut bytes = Vec::new();
    let opening = match flags >> 1 & 7 {
        0 => Opening::Silent,
        1 => Opening::SynOnly,
        2 => {
            speech::piece(draw, &[0, 1], checksum, &mut bytes);
            Opening::Raw(bytes)
        }
        _ => Opening::Handshake,
    };
    let slowly = Duration::from_millis(1);
    let reading = match flags >> 4 & 3 {
        0 => Reading::Never,
        1 => Reading::Slow {
            bytes: 16,
            every: slowly,
        },
        _ => Reading::Eager,
    };
    let writing = match flags >> 6 {
        0 => Writing::Trickle {
            bytes: 3,
            every: slowly,
        },
        _ => Writing::Whole,
    };
    let plan = Plan {
        opening,
        checksum,
        reading,
        writing,
        ..Plan::default()
    };
    (plan, checksum)
}

/// Faults end, clients leave, and everything is back where it was.
fn converge(
    mut server: Server,
    good: ClientId,
    hostile: &[Hostile],
    crew: Option<Crew>,
    has_breaks: bool,
) {
    let world = server.world.clone();
    world.set_faults(Faults::none());
    world.order(good, Order::Heal);
    for (id, ..) in hostile {
        world.order(*id, Order::Heal);
    }
    if let Some(crew) = crew {
        crew.finish(&mut server);
    }
    server.run_for(Duration::from_secs(100));
    // One that waits for the answer to what it never said whole leaves without it.
    for (id, ..) in hostile {
        world.order(*id, Order::End(Ending::Reset));
    }
    server.run_for(Duration::from_secs(200));
    for (id, ..) in hostile {
        let report = world.report(*id);
        assert_eq!(
            report.protocol_error, None,
            "the server spoke nonsense: {report:?}"
        );
        assert!(report.ended, "{report:?}");
    }
    let report = world.report(good);
    let plan = world.plan(good);
    if let Err(wrong) = report.check(&plan) {
        panic!("{plan:?}: {wrong}");
    }
    assert!(has_breaks || !report.broken, "{report:?}");
    assert_eq!(server.closed(Reason::Internal), 0);
    server.end();
}
