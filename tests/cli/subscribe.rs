//! `ringmail sub` against a real server.

use crate::broker::{Broker, Cable, Tool};
use crate::run;
use std::time::Duration;

#[test]
fn messages_come_as_lines_and_the_count_ends_it() {
    let broker = Broker::start();
    let args = ["sub", "site/+/reading", "alarm/#", "--count", "3"];
    let sub = broker.tool(&args).ready();
    broker.publish("site/7/reading", "21.5\n\n");
    broker.publish("site/7/door", "not for it\n");
    broker.publish("alarm", "fire\nand more\n");
    assert_eq!(sub.end(), (0, "21.5\n\nfire\n".to_owned(), String::new()));
}

#[test]
fn a_message_that_several_filters_match_comes_once() {
    let broker = Broker::start();
    let sub = broker.tool(&["sub", "a/#", "a/+", "a/b", "end"]).ready();
    broker.publish("a/b", "one\n");
    broker.publish("end", "end\n");
    let mut sub = sub;
    assert_eq!([sub.line(), sub.line()], ["one\n", "end\n"]);
}

#[test]
fn a_line_is_there_before_the_next_message_comes() {
    let broker = Broker::start();
    let mut sub = broker.tool(&["sub", "#", "--topic"]).ready();
    for turn in 0..3 {
        let topic = format!("site/{turn}");
        broker.publish(&topic, "x\n");
        assert_eq!(sub.line(), format!("{topic} x\n"));
    }
}

#[test]
fn json_output_tells_all_about_a_message() {
    let broker = Broker::start();
    let sub = broker.tool(&["sub", "#", "--output", "json", "--count", "3"]);
    let sub = sub.ready();
    let args = [
        "pub",
        "site/7",
        "{\"c\": 21.50,\n\"b\": [1]}",
        "--codec",
        "json",
        "--key",
        "7",
        "--schema",
        "site.Reading",
        "--expires",
        "1m",
        "--header",
        "0x40=tenant",
        "--header",
        "255=x=y",
        "--header",
        "64=second",
        "--retain",
    ];
    assert_eq!(broker.run(&args), (0, String::new(), String::new()));
    broker.publish("text", "a \"b\"\n");
    let published = broker.run_with_input(&["pub", "binary", "-"], b"\xff\0\n");
    assert_eq!(published, (0, String::new(), String::new()));

    let (code, out, errors) = sub.end();
    assert_eq!((code, errors.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].ends_with(",\"payload\":{\"c\": 21.50, \"b\": [1]}}"),
        "{out}"
    );
    let records: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let wanted = serde_json::json!({
        "topic": "site/7",
        "retain": true,
        "codec": "json",
        "headers": {
            "key": "7", "schema": "site.Reading", "expires_ms": 60_000,
            "0x40": ["tenant", "second"], "0xff": "x=y",
        },
        "payload": {"c": 21.5, "b": [1]},
    });
    assert_eq!(records[0], wanted);
    let wanted = serde_json::json!({
        "topic": "text", "retain": false, "codec": "bytes", "headers": {}, "payload": "a \"b\"",
    });
    assert_eq!(records[1], wanted);
    assert_eq!(records[2]["payload_base64"], "/wAK");
}

#[test]
fn raw_output_is_payloads_and_nothing_else() {
    let broker = Broker::start();
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let sub = broker.tool(&["sub", "file", "--output", "raw", "--count", "1"]);
    let sub = sub.ready();
    let published = broker.run_with_input(&["pub", "file", "-"], &every_byte);
    assert_eq!(published, (0, String::new(), String::new()));
    let output = sub.output();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout == every_byte,
        "the payload changed on its way"
    );
}

#[test]
fn of_a_group_one_gets_each_message() {
    let broker = Broker::start();
    let args = ["sub", "jobs", "--group", "workers"];
    let members = [(); 2].map(|()| broker.tool(&args).ready());
    let alone = broker.tool(&["sub", "jobs", "--count", "200"]).ready();
    let jobs: Vec<String> = (0..200).map(|job| format!("{job}\n")).collect();
    broker.publish("jobs", &jobs.concat());
    assert_eq!(alone.end().1, jobs.concat(), "who is in no group gets all");
    let mut done: Vec<String> = Vec::new();
    for mut member in members {
        done.push(member.line()); // none of them goes without
        member.interrupt();
        let (code, out, errors) = member.end();
        assert_eq!((code, errors.as_str()), (0, ""));
        done.extend(out.lines().map(|line| format!("{line}\n")));
    }
    let mut wanted = jobs;
    wanted.sort();
    done.sort();
    assert_eq!(done, wanted);
}

#[test]
fn a_retained_message_greets_who_comes_later_until_it_is_cleared() {
    let broker = Broker::start();
    let retained = broker.run(&["pub", "config/7", "interval=5", "--retain", "--confirm"]);
    assert_eq!(retained, (0, String::new(), String::new()));
    let args = [
        "sub",
        "config/+",
        "--count",
        "1",
        "--quiet",
        "--timeout",
        "10s",
    ];
    assert_eq!(
        broker.run(&args),
        (0, "interval=5\n".to_owned(), String::new())
    );
    let cleared = broker.run(&["pub", "config/7", "", "--retain", "--confirm"]);
    assert_eq!(cleared, (0, String::new(), String::new()));
    let args = [
        "sub",
        "config/+",
        "--count",
        "1",
        "--quiet",
        "--timeout",
        "200ms",
    ];
    assert_eq!(broker.run(&args).0, 1);
}

#[test]
fn silence_for_the_timeout_exits_1_with_what_has_come() {
    let broker = Broker::start();
    let args = ["sub", "#", "--timeout", "1500ms", "--count", "5"];
    let sub = broker.tool(&args).ready();
    broker.publish("a", "1\n2\n");
    let (code, out, errors) = sub.end();
    assert_eq!((code, out.as_str()), (1, "1\n2\n"));
    assert!(
        errors.contains("no message within 1.5s; 2 of 5"),
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn ctrl_c_ends_it_in_order() {
    let broker = Broker::start();
    for (flags, wanted) in [(&[][..], 0), (&["--count", "2"], 1), (&["--session"], 0)] {
        let mut sub = broker.tool(&[&["sub", "#"], flags].concat()).ready();
        broker.publish("a", "x\n");
        assert_eq!(sub.line(), "x\n");
        sub.interrupt();
        let (code, out, errors) = sub.end();
        assert_eq!((code, out.as_str()), (wanted, ""), "{errors}");
        assert_eq!(errors.contains("1 of 2"), wanted == 1, "{errors}");
    }
}

#[test]
fn a_reader_that_has_had_enough_ends_it_quietly() {
    let broker = Broker::start();
    let mut sub = broker.tool(&["sub", "#"]).ready();
    broker.publish("a", "x\n");
    assert_eq!(sub.line(), "x\n");
    let publisher = std::thread::spawn({
        let mut publisher = broker.tool(&["pub", "a"]);
        move || {
            // Until it notices: a write fails at the latest at the second message.
            for _ in 0..50 {
                publisher.write(b"y\n");
                std::thread::sleep(Duration::from_millis(20));
            }
            publisher.end()
        }
    });
    assert_eq!(sub.stop_reading(), (0, String::new()));
    assert_eq!(publisher.join().unwrap().0, 0);
}

#[test]
fn the_rate_is_told_on_standard_error_also_when_nothing_comes() {
    let broker = Broker::start();
    let mut sub = broker.tool(&["sub", "#", "--rate"]).ready();
    let silent = sub.note();
    assert!(
        silent.starts_with("ringmail: 0 messages/s, 0 bytes/s"),
        "{silent}"
    );
    broker.publish("a", "1\n2\n3\n");
    let told =
        std::iter::repeat_with(|| sub.note()).find(|line| line.contains("3 messages so far"));
    assert!(told.is_some());
    sub.interrupt();
    assert_eq!(sub.end().1, "1\n2\n3\n");
}

#[test]
fn a_session_survives_a_lost_connection() {
    let broker = Broker::start();
    let cable = Cable::to(&broker.address);
    let args = ["sub", "#", "--session", "--count", "300"];
    let mut sub = Tool::start(&cable.address, &args).ready();
    let lines: Vec<String> = (0..300).map(|turn| format!("{turn}\n")).collect();
    let mut got = String::new();
    for part in lines.chunks(100) {
        broker.publish("a", &part.concat());
        got.push_str(&sub.line());
        cable.cut();
    }
    let (code, rest, errors) = sub.end();
    assert_eq!(code, 0, "{errors}");
    got.push_str(&rest);
    let mut got: Vec<&str> = got.lines().collect();
    assert_eq!(got.len(), 300);
    got.dedup();
    assert_eq!(
        got,
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>()
    );
    assert!(errors.contains("reconnected"), "{errors}");
    assert!(errors.contains("nothing was lost"), "{errors}");
}

#[test]
fn a_server_that_goes_away_exits_1_with_what_has_come() {
    let broker = Broker::start();
    let cable = Cable::to(&broker.address);
    let mut sub = Tool::start(&cable.address, &["sub", "#"]).ready();
    broker.publish("a", "x\n");
    assert_eq!(sub.line(), "x\n");
    cable.cut();
    let (code, out, errors) = sub.end();
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("connection"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn every_policy_and_codec_is_taken_by_the_server() {
    let broker = Broker::start();
    let policies = ["disconnect", "drop-oldest", "drop-newest", "latest-per-key"];
    for (policy, codec) in policies.iter().zip(["bytes", "json", "protobuf", "bytes"]) {
        let args = [
            "sub",
            "a",
            "--slow-policy",
            policy,
            "--codec",
            codec,
            "--count",
            "1",
        ];
        let sub = broker.tool(&args).ready();
        broker.publish("a", "x\n");
        assert_eq!(sub.end(), (0, "x\n".to_owned(), String::new()), "{policy}");
    }
}

#[test]
fn what_cannot_be_subscribed_exits_2() {
    let broker = Broker::start();
    let long = "x".repeat(65);
    for args in [
        &["sub"][..],
        &["sub", "a/#/b"],
        &["sub", "#/a"],
        &["sub", "a", "b+"],
        &["sub", ""],
        &["sub", "a", "--group", ""],
        &["sub", "a", "--group", &long],
        &["sub", "a", "--count", "0"],
        &["sub", "a", "--timeout", "0"],
        &["sub", "a", "--slow-policy", "hope"],
        &["sub", "a", "--output", "raw", "--topic"],
        &["sub", "a", "--output", "xml"],
    ] {
        let (code, out, errors) = broker.run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {errors}");
        assert!(!errors.is_empty(), "{args:?} says nothing");
    }
    assert_eq!(run(&["sub", "a", "--address", "http://h:1"]).0, 2);
}

#[test]
fn wildcards_of_other_servers_are_pointed_out() {
    let broker = Broker::start();
    for (filter, is_foreign) in [
        ("site.>", true),
        ("*", true),
        ("a/*/b", true),
        ("a/+/b", false),
    ] {
        let mut sub = broker.tool(&["sub", filter]);
        let note = sub.note();
        assert_eq!(
            note.contains("are not wildcards here"),
            is_foreign,
            "{note}"
        );
        sub.interrupt();
        assert_eq!(sub.end().0, 0);
    }
}
