//! Requests that connections answer, or do not: which requester an answer goes to, who may hold how
//! many open calls, what happens to calls when their connection ends, and what a shard that accepts
//! nothing costs the others.

use super::scene::Scene;
use crate::server::{limits, ms};
use ringmail::broker::Limits;
use ringmail::metrics::counter::Counter;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{
    Act, Answering, Command, Record, Request, SessionPlan, Traffic,
};
use ringmail::ring::sim::client::{ClientId, Ending, Reading};
use ringmail::ring::sim::{Faults, RingSize};

const MINUTES: u32 = 600_000;

fn ask(service: &str, timeout_ms: u32, bytes: usize) -> Act {
    Act::Request(Request {
        service: service.to_owned(),
        timeout_ms: Some(timeout_ms),
        bytes,
        ..Request::default()
    })
}

fn server(service: &str, answering: Answering) -> Traffic {
    Traffic {
        answering: vec![answering],
        ..Traffic::of([Act::serve(service)])
    }
}

fn scene(seed: u64, change: impl FnOnce(&mut Limits)) -> Scene {
    let mut limits = limits();
    change(&mut limits);
    Scene::with(seed, Faults::none(), RingSize::default(), limits)
}

fn shard_of(scene: &Scene, id: ClientId) -> usize {
    usize::from(scene.record(id).connections.last().unwrap().shard.unwrap())
}

/// A client on this shard; the ones that connect to other shards on the way do nothing.
fn enter_on(scene: &mut Scene, shard: usize, mut plan: Traffic) -> ClientId {
    let acts = std::mem::take(&mut plan.acts);
    for _ in 0..20 {
        let id = scene.enter(plan.clone());
        scene.run_for(ms(50));
        if shard_of(scene, id) == shard {
            scene.act(id, acts);
            scene.run_for(ms(50));
            return id;
        }
    }
    panic!("nobody comes to shard {shard}");
}

fn answered(record: &Record) -> usize {
    record.outcomes().iter().flatten().count()
}

fn failures(scene: &Scene, id: ClientId) -> Vec<Code> {
    let outcomes = scene.record(id).outcomes();
    let failed = outcomes.into_iter().flatten().filter_map(Result::err);
    failed.collect()
}

/// However often the request's slot has been reused since: 4,096 times, which is where a generation
/// of twelve bits wraps, and one time fewer and more.
#[test]
fn a_late_answer_reaches_no_requester() {
    for count in 4094..=4096 {
        let mut scene = Scene::quiet(3);
        let mut plan = server("svc", Answering::Never);
        plan.answering.splice(0..0, vec![Answering::AtOnce; count]);
        plan.answering.insert(0, Answering::After(ms(60_000)));
        let [_, first, second] = scene.enter_each([plan, Traffic::default(), Traffic::default()]);
        scene.perform(first, [ask("svc", 100, 10)]);
        assert_eq!(failures(&scene, first), [Code::RequestTimeout]);
        let one_by_one = || [Act::request("svc"), Act::AwaitAnswers];
        let mut acts: Vec<Act> = std::iter::repeat_with(one_by_one)
            .take(count)
            .flatten()
            .collect();
        acts.push(ask("svc", MINUTES, 10));
        scene.act(second, acts);
        scene.run_for(ms(100_000));
        let record = scene.record(second);
        assert_eq!(record.violation, None, "after {count}");
        assert_eq!(answered(&record), count, "the last waits still");
        assert_eq!(scene.server.count(Counter::AnswersLate), 1);
        scene.close();
        scene.rest();
    }
}

/// Four connections open all the requests they may, to a service that never answers: by default
/// 4,096 in all, as many as a shard may have open. Then the same with other limits and as many
/// connections as that takes.
#[test]
fn few_connections_do_not_stop_the_requests_of_others() {
    for (seed, requesters, each, calls_max) in [(1, 4, 1024, 4096), (2, 8, 8, 16), (3, 1, 30, 6)] {
        let mut scene = scene(seed, |limits| limits.calls_open_max = calls_max);
        let mute = enter_on(&mut scene, 0, server("mute", Answering::Never));
        enter_on(&mut scene, 0, server("good", Answering::AtOnce));
        let many = Traffic::of(vec![ask("mute", u32::MAX, 4); each]);
        let greedy: Vec<_> = (0..requesters)
            .map(|_| enter_on(&mut scene, 0, many.clone()))
            .collect();
        let honest = enter_on(&mut scene, 0, Traffic::default());
        let asks = |scene: &mut Scene, when: &str| {
            let before = answered(&scene.record(honest));
            scene.act(honest, [Act::request("good"), Act::request("worker")]);
            scene.run_for(ms(1000));
            assert_eq!(answered(&scene.record(honest)), before + 2);
            assert_eq!(failures(scene, honest), [], "seed {seed}, {when}");
        };
        let held = scene.server.calls();
        assert!(held.0 < calls_max && held.1 < calls_max, "{held:?} held");
        assert!(held.0 >= calls_max / 2, "{held:?} held");
        asks(&mut scene, "while they stand");
        for &id in &greedy {
            for code in failures(&scene, id) {
                let own = [Code::TooManyRequests, Code::Overloaded];
                assert!(own.contains(&code), "seed {seed}: {code:?}");
            }
            scene.end(id, Ending::Reset);
        }
        scene.run_for(ms(1000));
        assert_eq!(scene.server.calls(), (0, 0), "they have gone");
        asks(&mut scene, "when they have gone");
        assert!(!scene.record(mute).served.is_empty());
        scene.close();
        scene.rest();
    }
}

/// Once one connection's calls end, all their slots are available to the next.
#[test]
fn the_last_call_slot_is_for_a_requester_without_calls() {
    let mut scene = scene(4, |limits| limits.calls_open_max = 4);
    enter_on(&mut scene, 1, server("mute", Answering::Never));
    enter_on(&mut scene, 1, server("as/mute", Answering::Never));
    let mut holders = Vec::new();
    // Three of four slots, then one.
    for (service, asks, failed) in [
        ("mute", 4, vec![Code::TooManyRequests]),
        ("as/mute", 1, vec![]),
    ] {
        let acts = vec![ask(service, MINUTES, 4); asks];
        let id = enter_on(&mut scene, 0, Traffic::of(acts));
        assert_eq!(failures(&scene, id), failed);
        holders.push(id);
    }
    let late = enter_on(&mut scene, 0, Traffic::of([ask("mute", MINUTES, 4)]));
    assert_eq!(failures(&scene, late), [Code::Overloaded]);
    // The other shard has slots of its own, but the service has as many calls as it may.
    let elsewhere = enter_on(&mut scene, 2, Traffic::of([ask("mute", MINUTES, 4)]));
    assert_eq!(failures(&scene, elsewhere), [Code::Overloaded]);
    scene.end(holders[0], Ending::Reset);
    scene.run_for(ms(100));
    assert_eq!(scene.server.calls(), (1, 1));
    scene.act(late, [ask("mute", MINUTES, 4)]);
    scene.run_for(ms(100));
    assert_eq!(scene.server.calls(), (2, 2));
    scene.close();
    scene.rest();
}

/// On whatever shards they are; an answer that still comes is dropped as late.
#[test]
fn calls_end_with_the_connection_that_made_them() {
    for ending in [Ending::Reset, Ending::Vanish] {
        for shard in [0, 1] {
            let mut scene = Scene::quiet(5);
            let slow = server("slow", Answering::After(ms(300_000)));
            enter_on(&mut scene, 0, slow);
            let acts = vec![ask("slow", MINUTES, 4); 10];
            let requester = enter_on(&mut scene, shard, Traffic::of(acts));
            assert_eq!(scene.server.calls(), (10, 10));
            scene.end(requester, ending);
            // A vanished connection is detected by its heartbeat.
            scene.run_for(ms(100_000));
            assert_eq!(scene.server.calls(), (0, 0), "{ending:?} on {shard}");
            scene.run_for(ms(250_000));
            assert_eq!(scene.server.count(Counter::AnswersLate), 10);
            scene.close();
            scene.rest();
        }
    }
}

/// A session's calls wait with it for the client to resume it, and end when the session ends.
#[test]
fn calls_of_a_session_wait_for_its_client() {
    for comes_back in [true, false] {
        let mut scene = Scene::quiet(6);
        let slow = server("slow", Answering::After(ms(2000)));
        let mute = server("mute", Answering::Never);
        enter_on(&mut scene, 0, slow);
        enter_on(&mut scene, 0, mute);
        let plan = Traffic {
            session: Some(SessionPlan::default()),
            reconnect: comes_back.then_some(ms(1000)),
            ..Traffic::of([ask("slow", 30_000, 4), ask("mute", MINUTES, 4)])
        };
        let requester = enter_on(&mut scene, 1, plan);
        scene.end(requester, Ending::Reset);
        scene.run_for(ms(100));
        assert_eq!(scene.server.calls(), (2, 2), "the session waits");
        scene.run_for(ms(10_000));
        assert_eq!(scene.server.calls(), (1, 1));
        let answers = answered(&scene.record(requester));
        assert_eq!(answers, usize::from(comes_back));
        scene.run_for(scene.linger);
        let held = u32::from(comes_back);
        assert_eq!(scene.server.calls(), (held, held));
        scene.close();
        scene.rest();
    }
}

/// A request to one of this server's own services keeps its slot while the service works on it,
/// even after the requester has ended; it does not count against the connection that gets the
/// requester's slot next.
#[test]
fn a_service_of_the_server_works_on_after_its_requester_has_ended() {
    for seed in 0..20 {
        let mut scene = Scene::quiet(seed);
        for _ in 0..4 {
            let acts = [
                vec![ask("later", 0, 4); 20],
                vec![Act::request("later"); 20],
            ]
            .concat();
            let id = scene.enter(Traffic::of(acts));
            scene.run_for(ms(3));
            scene.end(id, Ending::Reset);
        }
        scene.settle();
        scene.run_for(ms(1000));
        assert_eq!(scene.server.calls(), (0, 0), "seed {seed}");
        scene.close();
        scene.rest();
    }
}

#[test]
fn a_timeout_above_the_maximum_is_clamped() {
    let mut scene = scene(7, |limits| limits.request_timeout_max = ms(5000));
    enter_on(&mut scene, 0, server("mute", Answering::Never));
    for shard in [0, 1] {
        let plan = Traffic::of([u32::MAX, MINUTES, 4000].map(|ms| ask("mute", ms, 4)));
        let requester = enter_on(&mut scene, shard, plan);
        scene.run_for(ms(10_000));
        let took = |n: usize| {
            let asked = &scene.record(requester).requested[n];
            let answer = asked.answer.expect("timed out");
            assert_eq!(answer.failed, Some(Code::RequestTimeout));
            answer.at.since(asked.at)
        };
        assert!(took(0) < ms(5500) && took(1) < ms(5500));
        assert!(took(2) < ms(4500));
    }
    assert_eq!(scene.server.calls(), (0, 0));
    scene.close();
    scene.rest();
}

const LARGE: usize = 100_000;
/// Small enough to be copied into a batch, which is charged for it.
const COPIED: usize = 10_000;
/// What a link of the mesh may hold, and what two connections may still add to it.
const LINK_BYTES: usize = (4 << 20) + 4 * LARGE;

/// Requests, and then answers, for a shard that accepts nothing: their connections wait, and what
/// is in the mesh is charged, and released in the end.
#[test]
fn messages_a_shard_does_not_accept_hold_up_their_senders() {
    for (answers, bytes, count) in [
        (false, LARGE, 200),
        (true, LARGE, 200),
        (false, COPIED, 1000),
        (true, COPIED, 1000),
    ] {
        let mut scene = scene(8, |limits| limits.outbox_bytes_max = 1 << 26);
        let after = Answering::After(ms(if answers { 1000 } else { 0 }));
        let server = enter_on(&mut scene, 0, server("svc", after));
        let requester = enter_on(&mut scene, 1, Traffic::default());
        let timeout_ms = if answers { MINUTES } else { 1 };
        scene.act(requester, vec![ask("svc", timeout_ms, bytes); count]);
        let held_up = if answers { 1 } else { 0 };
        if answers {
            scene.run_for(ms(500));
            assert_eq!(scene.record(server).served.len(), count);
        }
        let at_rest = scene.server.lent_bytes();
        scene.world.stall(held_up, true);
        scene.run_for(ms(10_000));
        let held = scene.server.lent_bytes();
        // What a waiting connection has received before is charged, too.
        assert!(held >= at_rest + (3 << 20), "{held} bytes charged");
        assert!(
            held <= at_rest + LINK_BYTES + (1 << 20),
            "{held} bytes charged"
        );
        if !answers {
            let forwarded = scene.server.count(Counter::RequestsForwarded);
            assert!(forwarded <= (LINK_BYTES / bytes) as u64, "{forwarded}");
        }
        scene.world.stall(held_up, false);
        scene.run_for(ms(10_000));
        let record = scene.record(requester);
        assert_eq!(
            (record.violation.as_ref(), answered(&record)),
            (None, count)
        );
        let timed_out = failures(&scene, requester).len();
        assert!(if answers {
            timed_out == 0
        } else {
            timed_out > 20
        });
        scene.close();
        scene.rest();
    }
}

/// The requester has ended, and its call's slot is another's, when the answer comes from the
/// service's shard.
#[test]
fn an_answer_on_its_way_to_a_requester_that_has_ended_reaches_no_other() {
    let mut scene = Scene::quiet(11);
    enter_on(&mut scene, 0, server("svc", Answering::After(ms(20))));
    let [first, second] = [(); 2].map(|()| enter_on(&mut scene, 1, Traffic::default()));
    scene.act(first, [ask("svc", MINUTES, 4)]);
    scene.run_for(ms(10));
    // The answer waits for the service's shard until the end of the first has been handled.
    scene.world.stall(0, true);
    scene.run_for(ms(20));
    scene.end(first, Ending::Reset);
    scene.run_for(ms(10));
    assert_eq!(scene.server.calls(), (0, 1));
    // Then the requesters' shard reads the second's request before what the other has said.
    scene.world.stall(1, true);
    scene.world.stall(0, false);
    scene.act(second, [ask("svc", MINUTES, 4)]);
    scene.run_for(ms(10));
    scene.world.stall(1, false);
    scene.run_for(ms(100));
    let record = scene.record(second);
    assert_eq!((record.violation.as_ref(), answered(&record)), (None, 1));
    assert_eq!(scene.server.count(Counter::AnswersLate), 1);
    scene.close();
    scene.rest();
}

/// The service has ended, and the requester's shard does not know it yet.
#[test]
fn a_request_on_its_way_to_a_service_that_has_just_ended_fails() {
    let mut scene = Scene::quiet(9);
    let server = enter_on(&mut scene, 0, server("svc", Answering::AtOnce));
    let requester = enter_on(&mut scene, 1, Traffic::default());
    scene.world.stall(1, true);
    scene.act(requester, [Act::request("svc")]);
    scene.end(server, Ending::Reset);
    scene.run_for(ms(100));
    scene.world.stall(1, false);
    scene.settle();
    assert_eq!(failures(&scene, requester), [Code::ServiceGone]);
    assert_eq!(scene.server.count(Counter::RequestsForwarded), 1);
    assert!(scene.record(server).served.is_empty());
    scene.close();
    scene.rest();
}

/// Its requester has been told, or is about to be, and what the service would do is in vain.
#[test]
fn a_request_whose_time_is_over_when_it_arrives_is_not_given_to_the_service() {
    let mut scene = Scene::quiet(12);
    let server = enter_on(&mut scene, 0, server("svc", Answering::AtOnce));
    let requester = enter_on(&mut scene, 1, Traffic::default());
    scene.world.stall(0, true);
    scene.act(requester, [ask("svc", 100, 4), ask("svc", MINUTES, 4)]);
    scene.run_for(ms(200));
    scene.world.stall(0, false);
    scene.settle();
    assert_eq!(failures(&scene, requester), [Code::RequestTimeout]);
    assert_eq!(scene.record(server).served.len(), 1);
    scene.close();
    scene.rest();
}

#[test]
fn a_service_that_does_not_read_gets_no_more_requests() {
    for shard in [0, 1] {
        let mut scene = scene(10, |limits| limits.outbox_bytes_max = 1 << 20);
        scene.world.set_pipe_bytes(4000);
        let server = enter_on(&mut scene, 0, server("svc", Answering::AtOnce));
        let requester = enter_on(&mut scene, shard, Traffic::default());
        scene.world.command(server, Command::Read(Reading::Never));
        scene.act(requester, vec![ask("svc", MINUTES, LARGE); 30]);
        scene.run_for(ms(60_000));
        let refused = failures(&scene, requester);
        assert!(refused.iter().all(|&code| code == Code::Overloaded));
        // A mebibyte, and the request that exceeds it.
        assert!((18..=19).contains(&refused.len()), "{}", refused.len());
        scene.world.command(server, Command::Read(Reading::Eager));
        scene.settle();
        assert_eq!(answered(&scene.record(requester)), 30);
        assert_eq!(failures(&scene, requester).len(), refused.len());
        scene.close();
        scene.rest();
    }
}

/// A request that has timed out while its service was disconnected is not delivered when that
/// resumes.
#[test]
fn a_request_that_has_timed_out_is_not_resumed() {
    let mut scene = Scene::quiet(11);
    let plan = Traffic {
        reconnect: Some(ms(5000)),
        ..Traffic::with_session([Act::serve("svc")])
    };
    let server = enter_on(&mut scene, 0, plan);
    let requester = enter_on(&mut scene, 1, Traffic::default());
    scene.end(server, Ending::Reset);
    scene.run_for(ms(10));
    scene.act(requester, [ask("svc", 1, 4), ask("svc", 20_000, 4)]);
    scene.settle();
    scene.run_for(ms(10_000));
    assert_eq!(failures(&scene, requester), [Code::RequestTimeout]);
    let served = scene.record(server).served;
    assert_eq!(served.len(), 1, "the other only");
    assert_eq!(scene.server.count(Counter::AnswersLate), 0);
    scene.close();
    scene.rest();
}
