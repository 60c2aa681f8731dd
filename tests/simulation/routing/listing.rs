//! Listings and sessions: connections that move to the shard of the session they resume, and what
//! remains of a session whose connection an operator ends.

use super::scene::Scene;
use crate::seed;
use crate::server::{limits, ms};
use ringmail::base::id::Key;
use ringmail::base::limits::LISTED_CONNECTIONS_MAX;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::ring::sim::client::traffic::{Act, Command, Filter, Publish, Traffic};
use ringmail::ring::sim::client::{Ending, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use ringmail::shard::{Query, Seen, Sort, State};
use std::collections::BTreeSet;

fn everything() -> Query {
    Query {
        sort: Sort::Id,
        most: LISTED_CONNECTIONS_MAX,
        ..Query::default()
    }
}

fn list(scene: &mut Scene) -> Seen {
    let replies = scene.server.list(&everything());
    scene.run_for(ms(50));
    let mut all = Seen::default();
    for (_, seen) in replies.try_iter() {
        all.total += seen.total;
        all.sessions_waiting += seen.sessions_waiting;
        all.rows.extend(seen.rows);
    }
    all
}

#[test]
fn no_listing_has_a_session_twice_while_sessions_move() {
    let name = "no_listing_has_a_session_twice_while_sessions_move";
    seed::each(name, 60, |seed| {
        let mut scene = Scene::quiet(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let clients: Vec<_> = (0..30)
            .map(|_| scene.enter(Traffic::with_session([Act::subscribe("a")])))
            .collect();
        scene.settle();
        let mut asked = Vec::new();
        for _ in 0..40 {
            let id = clients[rng.usize(..clients.len())];
            scene.end(id, [Ending::Reset, Ending::Fin][rng.usize(..2)]);
            asked.push(scene.server.list(&everything()));
            scene.run_for(ms(rng.u64(..20)));
        }
        scene.settle();
        for replies in asked {
            let replies: Vec<_> = replies.try_iter().collect();
            assert_eq!(replies.len(), 3, "seed {seed}");
            for (shard, seen) in replies {
                let keys: BTreeSet<Key> = seen.rows.iter().map(|row| row.key).collect();
                assert_eq!(keys.len(), seen.rows.len(), "seed {seed}: {shard}");
            }
        }
        let seen = list(&mut scene);
        assert_eq!((seen.total, seen.rows.len()), (30, 30), "seed {seed}");
        assert!(seen.rows.iter().all(|row| row.session), "seed {seed}");
        assert!(scene.server.count(Counter::SessionsResumed) > 0);
        scene.finish();
    });
}

#[test]
fn a_kicked_client_keeps_its_session_until_it_returns_or_the_linger_ends() {
    let mut scene = Scene::quiet(1);
    let kept = Traffic::with_session([Act::subscribe("a"), Act::Will(Publish::of("w"))]);
    let watcher = Traffic::of([Act::subscribe("w")]);
    let [kept, writer, watcher] = scene.enter_each([kept, Traffic::default(), watcher]);
    let kick = |scene: &mut Scene| {
        let seen = list(scene);
        let row = seen.rows.iter().find(|row| row.session);
        let row = row.expect("it is seen");
        let replies = scene.server.kick(row.shard, row.key);
        scene.run_for(ms(10));
        assert_eq!(replies.try_recv(), Ok(true));
    };
    // It reconnects, and has missed nothing.
    kick(&mut scene);
    scene.act(writer, [Act::publish("a"), Act::publish("a")]);
    scene.settle();
    scene.run_for(ms(5000));
    assert_eq!(scene.record(kept).connections.len(), 2);
    assert_eq!(scene.numbers(kept, writer, "a"), [0, 1]);
    assert_eq!(scene.server.count(Counter::SessionsResumed), 1);
    // It does not reconnect: its session waits, and its will is published when the session ends.
    scene.world.command(kept, Command::Reconnect(None));
    kick(&mut scene);
    scene.run_for(ms(5000));
    let seen = list(&mut scene);
    assert_eq!((seen.total, seen.sessions_waiting), (2, 1));
    assert!(scene.record(watcher).delivered.is_empty());
    scene.outlast();
    assert_eq!(scene.record(watcher).delivered.len(), 1);
    assert_eq!(list(&mut scene).sessions_waiting, 0);
    assert_eq!(scene.server.closed(Reason::Kicked), 2);
    scene.finish();
}

#[test]
fn a_client_that_reads_little_or_nothing_is_listed_and_can_be_ended() {
    let byte_by_byte = Reading::Slow {
        bytes: 1,
        every: ms(100),
    };
    for (seed, reading) in [(1, Reading::Never), (2, byte_by_byte)] {
        let mut limits = limits();
        limits.outbox_bytes_max = 20_000;
        let mut scene = Scene::with(seed, Faults::none(), RingSize::default(), limits);
        scene.world.set_pipe_bytes(4000);
        scene.terms.ample = false;
        let filter = Filter::with_policy("a", SlowPolicy::DropOldest);
        let plans = [Traffic::of([Act::Subscribe(filter)]), Traffic::default()];
        let [slow, writer] = scene.enter_each(plans);
        scene.world.command(slow, Command::Read(reading));
        let publish = Act::Publish(Publish {
            bytes: 1000,
            ..Publish::of("a")
        });
        scene.act(writer, vec![publish; 100]);
        scene.run_for(ms(2000));
        let seen = list(&mut scene);
        assert_eq!(seen.total, 2);
        let row = seen.rows.iter().max_by_key(|row| row.queued_bytes);
        let row = row.expect("it is seen");
        assert_eq!(row.state, State::Slow, "{row:?}");
        assert!(row.queued_bytes > 10_000, "{row:?}");
        assert!(row.oldest_queued >= ms(500), "{row:?}");
        let done = scene.server.kick(row.shard, row.key);
        // A second to flush, and a second to linger.
        scene.run_for(ms(2500));
        assert_eq!(done.try_recv(), Ok(true));
        assert_eq!(scene.server.closed(Reason::Kicked), 1);
        assert_eq!(scene.server.open(), 1, "{reading:?}");
        scene.world.command(slow, Command::Read(Reading::Eager));
        scene.finish();
    }
}
