//! Groups and services: one of several, on whatever shard it stands.

use super::scene::Scene;
use crate::server::ms;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Answering, Filter, Request, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending};

fn member() -> Traffic {
    Traffic::of([Act::Subscribe(Filter::in_group("g/#", "one"))])
}

fn publish(count: usize) -> Vec<Act> {
    (0..count).map(|_| Act::publish("g/x")).collect()
}

/// How many of a writer's messages each of these has, and that each was had once.
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
fn one_member_has_each_message_and_all_have_a_share() {
    let mut scene = Scene::quiet(1);
    let members = scene.enter_each([member(), member(), member(), member(), member()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    scene.perform(writer, publish(500));
    let shares = shares(&scene, writer, &members);
    assert!(shares.iter().all(|&share| share > 30), "{shares:?}");
    scene.finish();
}

#[test]
fn another_group_and_a_plain_subscriber_have_it_as_well() {
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
fn who_leaves_a_group_has_no_more_of_it_and_the_rest_have_all() {
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
fn members_that_leave_while_messages_come_lose_none() {
    // The last one stays.
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
fn a_request_nobody_serves_fails_at_once_and_one_nobody_answers_in_time() {
    let mut scene = Scene::quiet(5);
    let timed = Act::Request(Request {
        service: "svc".to_owned(),
        timeout_ms: Some(300),
        bytes: 10,
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
fn a_server_that_ends_or_fails_is_told_of_and_a_late_or_second_answer_is_dropped() {
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
fn an_asker_that_leaves_takes_its_requests_with_it() {
    let mut scene = Scene::quiet(8);
    let slow = server(Answering::After(ms(200)));
    let [_, asker] = scene.enter_each([slow, Traffic::default()]);
    scene.act(asker, ask(20));
    scene.run_for(ms(50));
    scene.end(asker, Ending::Reset);
    scene.run_for(ms(1000));
    scene.finish();
}
