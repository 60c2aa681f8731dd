//! Groups and services: one member of several gets each message, on whatever shard it is.

use super::scene::Scene;
use crate::server::{limits, ms};
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{
    Act, Answering, Command, Filter, Publish, Request, SessionPlan, Traffic,
};
use ringmail::ring::sim::client::{ClientId, Ending, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use std::collections::BTreeSet;

fn member() -> Traffic {
    Traffic::of([Act::Subscribe(Filter::in_group("g/#", "one"))])
}

fn publish(count: usize) -> Vec<Act> {
    (0..count).map(|_| Act::publish("g/x")).collect()
}

/// How many of a writer's messages each member has; checks that each message was delivered once.
fn shares(scene: &Scene, writer: ClientId, members: &[ClientId]) -> Vec<usize> {
    let mut all = Vec::new();
    let mut shares = Vec::new();
    for &member in members {
        let numbers = scene.numbers(member, writer, "g/x");
        shares.push(numbers.len());
        all.extend(numbers);
    }
    all.sort_unstable();
    let published = scene.record(writer).published.len() as u32;
    assert_eq!(all, (0..published).collect::<Vec<_>>());
    shares
}

#[test]
fn one_member_gets_each_message_and_all_get_a_share() {
    let mut scene = Scene::quiet(1);
    let members = scene.enter_each([member(), member(), member(), member(), member()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    scene.perform(writer, publish(500));
    let shares = shares(&scene, writer, &members);
    assert!(shares.iter().all(|&share| share > 30), "{shares:?}");
    scene.finish();
}

#[test]
fn another_group_and_a_plain_subscriber_get_it_as_well() {
    let mut scene = Scene::quiet(2);
    let other = Traffic::of([Act::Subscribe(Filter::in_group("g/#", "two"))]);
    let plans = [
        member(),
        member(),
        other,
        Traffic::of([Act::subscribe("g/x")]),
    ];
    let [one, two, other, plain] = scene.enter_each(plans);
    let [writer] = scene.enter_each([Traffic::default()]);
    scene.perform(writer, publish(50));
    shares(&scene, writer, &[one, two]);
    shares(&scene, writer, &[other]);
    shares(&scene, writer, &[plain]);
    scene.finish();
}

#[test]
fn a_member_that_leaves_gets_nothing_more_and_the_others_get_everything() {
    let mut scene = Scene::quiet(3);
    let members = scene.enter_each([member(), member(), member()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    scene.perform(writer, publish(30));
    let leave = Act::Unsubscribe(Filter::in_group("g/#", "one"));
    scene.perform(members[0], [leave]);
    let before = scene.numbers(members[0], writer, "g/x").len();
    scene.perform(writer, publish(30));
    assert_eq!(scene.numbers(members[0], writer, "g/x").len(), before);
    shares(&scene, writer, &members);
    scene.end(members[1], Ending::Reset);
    scene.run_for(ms(100));
    scene.perform(writer, publish(30));
    shares(&scene, writer, &members);
    scene.finish();
}

#[test]
fn members_that_leave_during_publications_lose_none() {
    // The last member stays.
    for seed in 0..40 {
        let mut scene = Scene::quiet(seed);
        let members = scene.enter_each([member(), member(), member(), member()]);
        let [writer] = scene.enter_each([Traffic::default()]);
        scene.act(writer, publish(200));
        for &member in &members[..3] {
            let leave = Act::Unsubscribe(Filter::in_group("g/#", "one"));
            let wait = std::time::Duration::from_micros(seed * 17 % 900);
            scene.act(member, [Act::Pause(wait), leave]);
        }
        scene.settle();
        shares(&scene, writer, &members);
        scene.finish();
    }
}

/// A member that the server has just ended, and whose shard has not told the groups yet.
#[test]
fn what_is_chosen_for_a_member_that_is_ending_goes_to_another() {
    for seed in 0..8 {
        let mut scene = Scene::quiet(seed);
        let members = scene.enter_each([member(), member(), member()]);
        let writers = scene.enter_each([(); 3].map(|()| Traffic::default()));
        // Its end and the publications are read in one turn.
        scene.world.stall(0, true);
        let of_first = |&&id: &&ClientId| scene.record(id).connections[0].shard == Some(0);
        let gone = *members.iter().find(of_first).expect("one on each shard");
        let writer = *writers.iter().find(of_first).expect("one on each shard");
        scene.act(gone, [Act::Raw(vec![0; 64])]);
        scene.run_for(ms(5));
        scene.act(writer, publish(30));
        scene.run_for(ms(5));
        scene.world.stall(0, false);
        scene.run_for(ms(1000));
        assert!(scene.record(gone).ended, "seed {seed}");
        shares(&scene, writer, &members);
        scene.close();
        scene.rest();
    }
}

/// A member that acknowledges nothing and does not reconnect.
fn debtor() -> Traffic {
    Traffic {
        session: Some(SessionPlan {
            ack_every: 0,
            ..SessionPlan::default()
        }),
        ..member()
    }
}

#[test]
fn unacknowledged_messages_go_to_another_member_when_a_session_ends() {
    for (seed, ending) in [Ending::Close, Ending::Reset, Ending::Fin, Ending::Vanish]
        .into_iter()
        .enumerate()
    {
        let mut scene = Scene::quiet(seed as u64);
        let members = scene.enter_each([debtor(), member(), debtor()]);
        let [writer] = scene.enter_each([Traffic::default()]);
        scene.perform(writer, publish(90));
        shares(&scene, writer, &members);
        // Its messages go to one member that acknowledges them and to one that acknowledges none.
        scene.end(members[0], ending);
        scene.outlast();
        scene.end(members[2], ending);
        scene.outlast();
        let had: BTreeSet<u32> = scene
            .numbers(members[1], writer, "g/x")
            .into_iter()
            .collect();
        assert_eq!(had.len(), 90, "{ending:?}");
        assert!(scene.server.count(Counter::GroupHandedOn) > 0);
        assert_eq!(scene.server.count(Counter::GroupLost), 0);
        scene.finish();
    }
}

#[test]
fn messages_that_have_expired_are_not_handed_on() {
    let mut scene = Scene::quiet(4);
    let [gone, writer] = scene.enter_each([debtor(), Traffic::default()]);
    let message = |expires_ms| {
        Act::Publish(Publish {
            expires_ms,
            ..Publish::of("g/x")
        })
    };
    scene.perform(writer, [Some(500), None, Some(500), None].map(message));
    assert_eq!(scene.numbers(gone, writer, "g/x"), [0, 1, 2, 3]);
    scene.end(gone, Ending::Reset);
    let [heir] = scene.enter_each([member()]);
    scene.outlast();
    assert_eq!(scene.numbers(heir, writer, "g/x"), [1, 3]);
    assert_eq!(scene.server.count(Counter::GroupHandedOn), 2);
    assert_eq!(scene.server.count(Counter::DeliveriesExpired), 2);
    scene.finish();
}

#[test]
fn messages_published_while_all_members_are_away_go_to_the_one_that_returns() {
    let mut scene = Scene::quiet(5);
    let members = scene.enter_each([debtor(), debtor(), debtor()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    for &member in &members {
        scene.end(member, Ending::Reset);
    }
    scene.run_for(ms(100));
    scene.act(writer, publish(90));
    scene.run_for(ms(1000));
    let key = scene.record(members[0]).memberships[0].key;
    let back = scene.enter(Traffic {
        session: Some(SessionPlan {
            resumes: Some((key.expect("a session"), 0)),
            ..SessionPlan::default()
        }),
        ..Traffic::default()
    });
    scene.settle();
    let had = scene.numbers(back, writer, "g/x").len();
    assert!((1..90).contains(&had), "a share of {had}");
    scene.outlast();
    shares(&scene, writer, &[back]);
    // Not judged: the judge does not know that this client took over another's subscription.
    scene.close();
    scene.rest();
}

#[test]
fn messages_waiting_for_a_member_that_does_not_read_go_to_another_when_it_ends() {
    let policies = [SlowPolicy::Disconnect, SlowPolicy::DropOldest];
    for (seed, policy) in policies.into_iter().cycle().take(8).enumerate() {
        let mut limits = limits();
        // Room for what one publisher has in flight.
        limits.outbox_bytes_max = [100_000, 2_000_000][seed / 2 % 2];
        let size = RingSize::default();
        let mut scene = Scene::with(seed as u64, Faults::none(), size, limits);
        scene.terms.ample = false;
        let slow = || {
            let filter = Filter {
                policy: Some(policy),
                ..Filter::in_group("g/#", "one")
            };
            Traffic::of([Act::Subscribe(filter)])
        };
        let [hung, member] = scene.enter_each([slow(), member()]);
        let [writer] = scene.enter_each([Traffic::default()]);
        scene.world.command(hung, Command::Read(Reading::Never));
        let large = Act::Publish(Publish {
            bytes: [700, 20_000][seed / 2 % 2],
            ..Publish::of("g/x")
        });
        scene.perform(writer, vec![large; 600]);
        scene.end(hung, [Ending::Reset, Ending::Vanish][seed / 4]);
        scene.outlast();
        let numbers = scene.numbers(member, writer, "g/x");
        let had: BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(had.len(), numbers.len(), "seed {seed}: twice");
        // What its own machine has received (half a pipe) cannot be given to another member.
        let message_bytes = [720, 20_020][seed / 2 % 2];
        // Nor can what a policy has dropped while both were behind.
        let dropped = scene.server.count(Counter::SlowDroppedOldest) as usize;
        let lost = 600 - had.len() - dropped;
        assert!(
            lost * message_bytes <= 65_536 + 20_020,
            "seed {seed}: {lost} lost"
        );
        assert!(
            scene.server.count(Counter::GroupHandedOn) > 0,
            "seed {seed}"
        );
        scene.close();
        scene.rest();
    }
}

#[test]
fn what_is_handed_on_waits_for_a_member_that_keeps_up() {
    let mut limits = limits();
    limits.outbox_bytes_max = 20_000;
    let mut scene = Scene::with(7, Faults::none(), RingSize::default(), limits);
    scene.world.set_pipe_bytes(4000);
    scene.terms.ample = false;
    let [gone, writer] = scene.enter_each([debtor(), Traffic::default()]);
    let large = Act::Publish(Publish {
        bytes: 1000,
        ..Publish::of("g/x")
    });
    scene.perform(writer, vec![large.clone(); 60]);
    // It gets a share until it counts as stalled; the rest goes to the other.
    let [late] = scene.enter_each([member()]);
    scene.world.command(late, Command::Read(Reading::Never));
    scene.perform(writer, vec![large; 60]);
    scene.end(gone, Ending::Reset);
    scene.run_for(scene.linger + ms(1000));
    assert_eq!(scene.server.sessions(), 0);
    assert_eq!(scene.server.closed(Reason::SlowConsumer), 0, "not for that");
    scene.world.command(late, Command::Read(Reading::Eager));
    scene.outlast();
    let had: BTreeSet<u32> = scene.numbers(late, writer, "g/x").into_iter().collect();
    assert!(had.is_superset(&(0..60).collect()), "{had:?}");
    scene.close();
    scene.rest();
}

#[test]
fn a_member_for_whom_the_kernel_holds_much_counts_as_stalled() {
    let mut scene = Scene::quiet(6);
    // The pipe has room for everything sent to a client that does not read.
    scene.world.set_pipe_bytes(4 << 20);
    let [hung, other] = scene.enter_each([member(), member()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    scene.world.command(hung, Command::Read(Reading::Never));
    let message = Act::Publish(Publish {
        bytes: 1000,
        ..Publish::of("g/x")
    });
    scene.perform(writer, vec![message; 6000]);
    let had = scene.numbers(other, writer, "g/x").len();
    // Its machine receives two megabytes of them; only what exceeds that counts.
    let most = (2 << 20) / 1000 + 2 * 131_072 / 1000;
    assert!(had >= 6000 - most, "{had} of 6000, {most} may wait");
    scene.world.command(hung, Command::Read(Reading::Eager));
    scene.run_for(ms(1000));
    shares(&scene, writer, &[hung, other]);
    scene.perform(writer, publish(200));
    let share = shares(&scene, writer, &[hung, other])[0];
    assert!(share > 30, "it reads again: {share}");
    scene.finish();
}

/// So many filters of one connection that a message which matches them is delivered in slices.
fn crowd() -> impl Iterator<Item = Act> {
    (0..300).map(|bits: u32| {
        let level = |n: u32| if bits >> n & 1 == 1 { "+" } else { "x" };
        let levels: Vec<&str> = (0..9).map(level).collect();
        Act::subscribe(&levels.join("/"))
    })
}

#[test]
fn a_plain_subscriber_that_is_a_member_as_well_gets_each_message_once() {
    let topic = ["x"; 9].join("/");
    for seed in 0..3 {
        let mut scene = Scene::quiet(seed);
        let group = Act::Subscribe(Filter::in_group("x/#", "one"));
        let both = [Act::subscribe("x/#"), group.clone()];
        let many: Vec<Act> = crowd().chain([group]).collect();
        let readers = scene.enter_each([
            Traffic::of(many),
            Traffic::of(both.clone()),
            Traffic::of(both),
        ]);
        let writers = scene.enter_each([Traffic::default(), Traffic::default()]);
        for &writer in &writers {
            scene.act(writer, vec![Act::publish(&topic); 40]);
        }
        scene.settle();
        for reader in readers {
            for writer in writers {
                let all: Vec<u32> = (0..40).collect();
                assert_eq!(scene.numbers(reader, writer, &topic), all, "seed {seed}");
            }
        }
        scene.finish();
    }
}

#[test]
fn a_plain_subscriber_does_not_get_a_message_again_when_a_member_elsewhere_leaves() {
    for seed in 0..20 {
        let mut scene = Scene::quiet(seed);
        let group = || Act::Subscribe(Filter::in_group("g/#", "one"));
        let leave = Act::Unsubscribe(Filter::in_group("g/#", "one"));
        let both = || Traffic::of([Act::subscribe("g/#"), group()]);
        let plans = [both(), both(), Traffic::default()];
        let [one, two, guest] = scene.enter_each(plans);
        let [writer] = scene.enter_each([Traffic::default()]);
        scene.act(writer, publish(300));
        let turns = (0..100).flat_map(|_| [group(), leave.clone()]);
        scene.act(guest, turns.collect::<Vec<_>>());
        scene.settle();
        let all: Vec<u32> = (0..300).collect();
        for reader in [one, two] {
            assert_eq!(scene.numbers(reader, writer, "g/x"), all, "seed {seed}");
        }
        scene.finish();
    }
}

fn server(answering: Answering) -> Traffic {
    Traffic {
        answering: vec![answering],
        ..Traffic::of([Act::serve("svc")])
    }
}

fn ask(count: usize) -> Vec<Act> {
    (0..count).map(|_| Act::request("svc")).collect()
}

#[test]
fn a_request_goes_to_one_server_of_any_shard_and_its_answer_comes_back() {
    let mut scene = Scene::quiet(4);
    let all = || server(Answering::AtOnce);
    let servers = scene.enter_each([all(), all(), all(), all()]);
    let [asker] = scene.enter_each([Traffic::of(ask(200))]);
    let record = scene.record(asker);
    for &server in &servers {
        let by = |outcome: &&Option<Result<u32, Code>>| **outcome == Some(Ok(server.0));
        let share = record.outcomes().iter().filter(by).count();
        assert_eq!(share, scene.record(server).served.len());
        assert!(share > 20, "{share} of 200");
    }
    assert!(
        record
            .outcomes()
            .iter()
            .all(|one| matches!(one, Some(Ok(_))))
    );
    scene.finish();
}

#[test]
fn a_request_without_a_server_fails_at_once_and_an_unanswered_one_times_out() {
    let mut scene = Scene::quiet(5);
    let timed = Act::Request(Request {
        service: "svc".to_owned(),
        timeout_ms: Some(300),
        bytes: 10,
        ..Request::default()
    });
    let [asker] = scene.enter_each([Traffic::of(ask(3))]);
    let none = vec![Some(Err(Code::NoService)); 3];
    assert_eq!(scene.record(asker).outcomes(), none);
    scene.enter_each([server(Answering::Never)]);
    scene.act(asker, [timed, Act::request("svc")]);
    scene.run_for(ms(250));
    assert_eq!(scene.record(asker).outcomes()[3..], [None, None]);
    scene.run_for(ms(100));
    let timeout = Some(Err(Code::RequestTimeout));
    assert_eq!(scene.record(asker).outcomes()[3..], [timeout, None]);
    scene.run_for(ms(10_000));
    assert_eq!(scene.record(asker).outcomes()[3..], [timeout, timeout]);
    scene.finish();
}

#[test]
fn a_servers_end_or_failure_is_reported_and_a_late_or_second_answer_is_dropped() {
    for ending in [Ending::Close, Ending::Reset, Ending::Fin] {
        let mut scene = Scene::quiet(6);
        let [mortal, asker] = scene.enter_each([server(Answering::Never), Traffic::default()]);
        scene.act(asker, ask(5));
        scene.run_for(ms(50));
        scene.end(mortal, ending);
        scene.run_for(ms(50));
        let gone = vec![Some(Err(Code::ServiceGone)); 5];
        assert_eq!(scene.record(asker).outcomes(), gone, "{ending:?}");
        scene.finish();
    }
    let mut scene = Scene::quiet(7);
    let late = Traffic {
        answering: vec![
            Answering::After(ms(500)),
            Answering::Twice,
            Answering::Fails(0x1001),
        ],
        ..Traffic::of([Act::serve("svc")])
    };
    let [late, asker] = scene.enter_each([late, Traffic::default()]);
    let timed = Act::Request(Request {
        service: "svc".to_owned(),
        timeout_ms: Some(300),
        bytes: 10,
        ..Request::default()
    });
    scene.perform(asker, [timed, Act::request("svc"), Act::request("svc")]);
    scene.run_for(ms(1000));
    let wanted = [
        Err(Code::RequestTimeout),
        Ok(late.0),
        Err(Code::Application(0x1001)),
    ];
    assert_eq!(scene.record(asker).outcomes(), wanted.map(Some));
    scene.finish();
}

#[test]
fn requests_end_with_their_requester() {
    let mut scene = Scene::quiet(8);
    let slow = server(Answering::After(ms(200)));
    let [_, asker] = scene.enter_each([slow, Traffic::default()]);
    scene.act(asker, ask(20));
    scene.run_for(ms(50));
    scene.end(asker, Ending::Reset);
    scene.run_for(ms(1000));
    scene.finish();
}
