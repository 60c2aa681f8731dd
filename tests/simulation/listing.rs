//! Listings of the connections, and connections ended by an operator: under churn and faults, in
//! bounded pieces, and for the right connection.

use super::chaos::any_size;
use super::seed;
use super::server::{Server, limits, ms, settings};
use ringmail::base::id::{Key, ShardId};
use ringmail::base::limits::LISTED_CONNECTIONS_MAX;
use ringmail::base::reason::Reason;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::{Ending, Order, Plan};
use ringmail::ring::sim::{Faults, RingSize, World};
use ringmail::shard::{Query, Row, Seen, Sort, State};
use std::collections::BTreeSet;
use std::time::Duration;

/// Connections that a shard looks at in one turn: a listing's share.
const SLOTS_PER_TURN: u32 = 256;

const SORTS: [Sort; 7] = [
    Sort::Queued,
    Sort::Age,
    Sort::In,
    Sort::Out,
    Sort::Oldest,
    Sort::RoundTrip,
    Sort::Id,
];

/// The merged listing of all shards.
fn all(server: &mut Server, query: &Query, shards: usize) -> Seen {
    let replies = server.list(query);
    server.run_for(ms(100));
    let mut all = Seen::default();
    let mut count = 0;
    for (_, seen) in replies.try_iter() {
        count += 1;
        all.total += seen.total;
        all.sessions_waiting += seen.sessions_waiting;
        all.rows.extend(seen.rows);
    }
    assert_eq!(count, shards, "each shard answers once");
    query.sort(&mut all.rows);
    all
}

fn everything() -> Query {
    Query {
        sort: Sort::Id,
        most: LISTED_CONNECTIONS_MAX,
        ..Query::default()
    }
}

/// Checks what must be true of any shard's answer.
fn check(query: &Query, shard: usize, seen: &Seen, slots_max: u64) {
    assert!(seen.rows.len() <= query.most);
    assert!(seen.rows.len() as u64 <= seen.total, "{seen:?}");
    assert!(seen.total + seen.sessions_waiting <= slots_max, "{seen:?}");
    let keys: BTreeSet<Key> = seen.rows.iter().map(|row| row.key).collect();
    assert_eq!(keys.len(), seen.rows.len(), "seen twice: {seen:?}");
    for row in &seen.rows {
        assert_eq!(row.shard.index(), shard);
        if query.client_id.is_some() {
            assert_eq!(row.client_id, query.client_id, "{row:?}");
        }
    }
}

fn list_amid_churn(seed: u64) {
    const CLIENTS: u64 = 60;
    let world = World::new(seed, Faults::all());
    let mut rng = fastrand::Rng::with_seed(seed);
    let size = any_size(&mut rng);
    let mut server = Server::with(&world, 2, size, &settings(), &limits());
    for index in 0..CLIENTS {
        let at = world.now() + ms(rng.u64(..300));
        let mut plan = match index % 3 {
            0 => Plan::ill_behaved(&mut rng),
            _ => Plan::well_behaved(&mut rng),
        };
        plan.client_id = Some(format!("client-{}", rng.u8(..4)));
        world.add_client(at, plan);
    }
    let mut asked = Vec::new();
    for _ in 0..20 {
        let query = Query {
            sort: SORTS[rng.usize(..SORTS.len())],
            descending: rng.bool(),
            most: rng.usize(..40),
            principal: None,
            client_id: rng.bool().then(|| format!("client-{}", rng.u8(..4)).into()),
        };
        asked.push((server.list(&query), query));
        server.run_for(ms(rng.u64(..30)));
        if rng.bool() {
            // Whichever connection it is, it ends once and for one reason.
            let slot = rng.u32(..8);
            let generation = rng.u32(..4);
            server.kick(ShardId(rng.u16(..2)), Key { slot, generation });
        }
    }
    world.set_faults(Faults::none());
    for id in world.clients() {
        world.order(id, Order::Heal);
    }
    server.run_for(Duration::from_secs(200));
    for (replies, query) in asked {
        let replies: Vec<(usize, Seen)> = replies.try_iter().collect();
        assert_eq!(replies.len(), 2, "seed {seed}: each shard answers once");
        for (shard, seen) in &replies {
            check(&query, *shard, seen, CLIENTS);
        }
    }
    server.end();
}

#[test]
fn under_churn_each_listing_is_answered_and_has_no_connection_twice() {
    let name = "under_churn_each_listing_is_answered_and_has_no_connection_twice";
    seed::each(name, 150, list_amid_churn);
}

#[test]
fn without_churn_every_sort_order_lists_each_connection_once_and_reverses() {
    let world = World::new(1, Faults::none());
    let mut server = Server::start(&world, 2, RingSize::default());
    let mut rng = fastrand::Rng::with_seed(1);
    for index in 0..100 {
        let plan = Plan {
            requests: rng.u32(..20),
            client_id: Some(format!("client-{}", index % 5)),
            ..Plan::default()
        };
        world.add_client(world.now() + ms(index), plan);
    }
    // Between the first PING of each and the next.
    server.run_for(Duration::from_secs(45));
    for sort in SORTS {
        let mut query = Query {
            sort,
            descending: true,
            ..everything()
        };
        let down = all(&mut server, &query, 2);
        assert_eq!((down.total, down.rows.len()), (100, 100), "{sort:?}");
        query.descending = false;
        let mut up = all(&mut server, &query, 2);
        up.rows.reverse();
        let keys = |seen: &Seen| -> Vec<(ShardId, Key)> {
            let rows = seen.rows.iter();
            rows.map(|row| (row.shard, row.key)).collect()
        };
        assert_eq!(keys(&up), keys(&down), "{sort:?}");
        // A short listing is the start of the full one.
        query.descending = true;
        query.most = 7;
        let few = all(&mut server, &query, 2);
        assert_eq!(keys(&few)[..7], keys(&down)[..7], "{sort:?}");
        assert_eq!(few.total, 100);
        query.client_id = Some("client-3".into());
        let some = all(&mut server, &query, 2);
        assert_eq!(some.total, 20, "{sort:?}");
    }
}

#[test]
fn a_listing_shows_what_a_connection_did() {
    let world = World::new(2, Faults::none());
    let mut server = Server::start(&world, 1, RingSize::default());
    let plan = Plan {
        requests: 10,
        client_id: Some("ten".to_owned()),
        ..Plan::default()
    };
    world.add_client(world.now(), plan);
    world.add_client(world.now(), Plan::default());
    server.run_for(Duration::from_secs(10));
    let row = |server: &mut Server, client_id: &str| -> Row {
        let query = Query {
            client_id: Some(client_id.into()),
            ..everything()
        };
        let mut seen = all(server, &query, 1);
        assert_eq!(seen.total, 1);
        seen.rows.remove(0)
    };
    let ten = row(&mut server, "ten");
    assert_eq!((ten.messages_in, ten.messages_out), (10, 10));
    // Ten echoes in each direction, and the handshake: three frames, two of them its own.
    assert!(ten.bytes_in > 150 && ten.bytes_out > 150, "{ten:?}");
    assert_eq!(ten.state, State::Open);
    assert_eq!((ten.queued_bytes, ten.session), (0, false));
    assert_eq!(ten.oldest_queued, Duration::ZERO);
    assert_eq!(ten.round_trip, None, "nobody has been asked yet");
    assert!(ten.address.is_some());
    let age = ten.age.as_secs_f64();
    assert!((9.0..=11.0).contains(&age), "{age}");
    server.run_for(Duration::from_secs(40));
    let ten = row(&mut server, "ten");
    assert_eq!((ten.messages_in, ten.messages_out), (11, 11), "its PONG");
    assert!(ten.round_trip.is_some_and(|took| took < ms(100)), "{ten:?}");
}

#[test]
fn a_full_shard_is_listed_some_hundreds_of_slots_a_turn() {
    const CLIENTS: u32 = 3000;
    let world = World::new(3, Faults::none());
    let mut server = Server::start(&world, 1, RingSize::default());
    for _ in 0..CLIENTS {
        world.add_client(world.now(), Plan::default());
    }
    server.run_for(Duration::from_secs(5));
    let query = everything();
    let replies = server.list(&query);
    let walk = CLIENTS.div_ceil(SLOTS_PER_TURN);
    let look = (query.most as u32).div_ceil(SLOTS_PER_TURN);
    server.run_turns((walk + look) as usize - 1);
    assert!(replies.is_empty(), "all was done in fewer turns");
    server.run_turns(2);
    let (_, seen) = replies.try_recv().expect("as many turns as it takes");
    assert_eq!(seen.total, u64::from(CLIENTS));
    assert_eq!(seen.rows.len(), LISTED_CONNECTIONS_MAX);
    // No listing is longer than that, whatever the query asks for.
    let query = Query {
        most: usize::MAX,
        ..query
    };
    let replies = server.list(&query);
    server.run_for(ms(100));
    let (_, seen) = replies.try_recv().expect("a reply");
    assert_eq!(seen.rows.len(), LISTED_CONNECTIONS_MAX);
    // After the listing the shard sleeps again.
    let before = server.turns().0;
    server.run_for(ms(1000));
    let turns = server.turns().0 - before;
    assert!(turns < 100, "{turns} turns for nothing");
}

fn kick(server: &mut Server, row: &Row) -> bool {
    let replies = server.kick(row.shard, row.key);
    server.run_for(ms(50));
    replies.try_recv().expect("a reply")
}

#[test]
fn a_kick_ends_its_connection_in_order_and_never_the_next_in_its_slot() {
    let world = World::new(4, Faults::none());
    let mut server = Server::start(&world, 1, RingSize::default());
    let first = world.add_client(world.now(), Plan::default());
    server.run_for(ms(100));
    let row = all(&mut server, &everything(), 1).rows.remove(0);
    assert!(kick(&mut server, &row));
    assert!(!kick(&mut server, &row), "it has ended");
    server.run_for(ms(3000));
    let report = world.report(first);
    assert_eq!(report.close_received, Some(Code::Shutdown), "{report:?}");
    assert!(report.ended && !report.reset, "{report:?}");
    assert_eq!(server.closed(Reason::Kicked), 1);
    let second = world.add_client(world.now(), Plan::default());
    server.run_for(ms(100));
    let next = all(&mut server, &everything(), 1).rows.remove(0);
    assert_eq!(next.key.slot, row.key.slot, "the slot is another's now");
    assert!(!kick(&mut server, &row));
    assert!(!world.report(second).ended);
    // A connection that has not completed the handshake is refused.
    let plan = Plan {
        opening: ringmail::ring::sim::client::Opening::Silent,
        ..Plan::default()
    };
    let silent = world.add_client(world.now(), plan);
    server.run_for(ms(100));
    let seen = all(&mut server, &everything(), 1);
    let handshake = |row: &&Row| row.state == State::Handshake;
    let row = seen
        .rows
        .iter()
        .find(handshake)
        .expect("it is seen")
        .clone();
    assert!(kick(&mut server, &row));
    server.run_for(ms(3000));
    assert!(world.report(silent).ended || world.report(silent).eof);
    assert_eq!(server.closed(Reason::Kicked), 2);
    for id in world.clients() {
        world.order(id, Order::End(Ending::Close));
    }
    server.run_for(Duration::from_secs(10));
    server.end();
}
