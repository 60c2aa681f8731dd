//! `ringmail pub` against a real server.

use crate::broker::{Broker, Cable, Tool};

const NOTHING: (i32, String, String) = (0, String::new(), String::new());

/// What a subscriber of everything got, each line with its topic, up to a last message.
fn got(broker: &Broker, publish: impl FnOnce()) -> String {
    let mut sub = broker.tool(&["sub", "#", "--topic"]).ready();
    publish();
    broker.publish("end", "end\n");
    let mut got = String::new();
    loop {
        match sub.line().as_str() {
            "end end\n" => return got,
            "" => panic!("the subscriber ended after {got:?}"),
            line => got.push_str(line),
        }
    }
}

#[test]
fn a_message_is_the_argument_or_the_whole_input_or_each_line() {
    let broker = Broker::start();
    let got = got(&broker, || {
        assert_eq!(broker.run(&["pub", "a/b", "argument"]), NOTHING);
        assert_eq!(broker.run(&["pub", "a/b", "-3.5"]), NOTHING);
        assert_eq!(broker.run(&["pub", "a/b", ""]), NOTHING);
        let whole = broker.run_with_input(&["pub", "a/b", "-"], b"one\ntwo");
        assert_eq!(whole, NOTHING);
        let lines = broker.run_with_input(&["pub", "a/b"], b"three\n\nfour\r\nfive");
        assert_eq!(lines, NOTHING);
        assert_eq!(broker.run(&["pub", "a/b"]), NOTHING);
    });
    let wanted =
        "a/b argument\na/b -3.5\na/b \na/b one\ntwo\na/b three\na/b \na/b four\r\na/b five\n";
    assert_eq!(got, wanted);
}

#[test]
fn a_line_is_sent_before_the_next_one_comes() {
    let broker = Broker::start();
    for flags in [&[][..], &["--confirm"], &["--session"]] {
        let mut sub = broker.tool(&["sub", "log"]).ready();
        let mut publisher = broker.tool(&[&["pub", "log"], flags].concat());
        for line in ["first\n", "second\n", "\n"] {
            publisher.write(line.as_bytes());
            assert_eq!(sub.line(), line, "{flags:?}");
        }
        assert_eq!(publisher.end(), NOTHING);
    }
}

#[test]
fn topics_are_taken_from_json_lines() {
    let broker = Broker::start();
    let lines = "{\"sensor\":\"s/1\",\"c\":1.50}\n\n  \n{\"c\": 2, \"sensor\": 17}\n";
    let got = got(&broker, || {
        let args = ["pub", "--topic-from-json", "sensor"];
        assert_eq!(broker.run_with_input(&args, lines.as_bytes()), NOTHING);
        let args = [
            "pub",
            "site/7",
            "--topic-from-json",
            "meta.name",
            "--confirm",
        ];
        let line = b"{\"meta\":{\"name\":\"door\"}}";
        assert_eq!(broker.run_with_input(&args, line), NOTHING);
    });
    let wanted = "s/1 {\"sensor\":\"s/1\",\"c\":1.50}\n17 {\"c\": 2, \"sensor\": 17}\n\
        site/7/door {\"meta\":{\"name\":\"door\"}}\n";
    assert_eq!(got, wanted);
}

#[test]
fn json_lines_are_published_as_json_unless_told_otherwise() {
    let broker = Broker::start();
    for (flags, wanted) in [(&[][..], "json"), (&["--codec", "bytes"], "bytes")] {
        let sub = broker.tool(&["sub", "#", "--output", "json", "--count", "1"]);
        let sub = sub.ready();
        let args = [&["pub", "--topic-from-json", "t"], flags].concat();
        assert_eq!(broker.run_with_input(&args, b"{\"t\":\"a\"}\n"), NOTHING);
        let record: serde_json::Value = serde_json::from_str(&sub.end().1).unwrap();
        assert_eq!(record["codec"], wanted);
    }
}

const MIXED: &str = "{\"t\":\"a\",\"n\":1}\n{\"t\":\"a\"\n{\"u\":1}\n{\"t\":\"x/+\"}\n\
    {\"t\":\"a\",\"n\":2}\n";

#[test]
fn an_invalid_line_stops_it_with_its_number_and_what_came_before_is_sent() {
    let broker = Broker::start();
    let got = got(&broker, || {
        let args = ["pub", "--topic-from-json", "t"];
        let (code, out, errors) = broker.run_with_input(&args, MIXED.as_bytes());
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(
            errors.starts_with("ringmail: line 2: it is not JSON"),
            "{errors}"
        );
        assert!(errors.contains("--skip-invalid"), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    });
    assert_eq!(got, "a {\"t\":\"a\",\"n\":1}\n");
}

#[test]
fn invalid_lines_are_passed_over_and_told_if_asked() {
    let broker = Broker::start();
    let got = got(&broker, || {
        let args = [
            "pub",
            "--topic-from-json",
            "t",
            "--skip-invalid",
            "--confirm",
        ];
        let many = [MIXED, &"broken\n".repeat(20)].concat();
        let (code, out, errors) = broker.run_with_input(&args, many.as_bytes());
        assert_eq!((code, out.as_str()), (0, ""));
        for problem in [
            "line 2: it is not JSON",
            "line 3: it has no field t",
            "line 4: topic",
        ] {
            assert!(errors.contains(problem), "{problem} is not in {errors}");
        }
        assert_eq!(errors.lines().count(), 11, "{errors}");
        assert!(errors.contains("23 of 25 lines were skipped"), "{errors}");
    });
    assert_eq!(got, "a {\"t\":\"a\",\"n\":1}\na {\"t\":\"a\",\"n\":2}\n");
}

#[test]
fn what_the_server_forbids_exits_77_also_unconfirmed() {
    let broker = Broker::start();
    for flags in [&[][..], &["--confirm"], &["--session"]] {
        let args = [&["pub", "$sys/secret", "x"], flags].concat();
        let (code, out, errors) = broker.run(&args);
        assert_eq!((code, out.as_str()), (77, ""), "{args:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let args = ["pub", "--topic-from-json", "t", "--confirm"];
    let lines = b"{\"t\":\"a\"}\n{\"t\":\"$sys/a\"}\n{\"t\":\"a\"}\n";
    let (code, _, errors) = broker.run_with_input(&args, lines);
    assert_eq!(code, 77);
    assert!(errors.contains("line 2: "), "{errors}");
}

#[test]
fn a_line_larger_than_the_server_takes_is_named() {
    let broker = Broker::with(&["limits.message_bytes_max=2000"]);
    for bytes in [2000, 200_000] {
        let lines = format!("short\n{}\nshort\n", "x".repeat(bytes));
        let (code, _, errors) = broker.run_with_input(&["pub", "a"], lines.as_bytes());
        assert_eq!(code, 1, "{errors}");
        assert!(errors.starts_with("ringmail: line 2: "), "{errors}");
        assert!(errors.contains("2000"), "{errors}");
    }
    let args = ["pub", "a", &"x".repeat(2000)];
    assert_eq!(broker.run(&args).0, 2);
}

#[test]
fn a_session_publishes_each_line_once_across_lost_connections() {
    let broker = Broker::start();
    let cable = Cable::to(&broker.address);
    let mut sub = broker.tool(&["sub", "a"]).ready();
    let mut publisher = Tool::start(&cable.address, &["pub", "a", "--session"]);
    let lines: Vec<String> = (0..300).map(|turn| format!("{turn}\n")).collect();
    let mut got = Vec::new();
    for part in lines.chunks(100) {
        publisher.write(part.concat().as_bytes());
        got.push(sub.line());
        cable.cut();
    }
    let (code, _, errors) = publisher.end();
    assert_eq!(code, 0, "{errors}");
    broker.publish("a", "end\n");
    got.extend(std::iter::repeat_with(|| sub.line()).take_while(|line| line != "end\n"));
    assert_eq!(got, lines);
}

#[test]
fn a_server_that_goes_away_exits_1() {
    let broker = Broker::start();
    let cable = Cable::to(&broker.address);
    let mut sub = broker.tool(&["sub", "a"]).ready();
    let mut publisher = Tool::start(&cable.address, &["pub", "a"]);
    publisher.write(b"x\n");
    assert_eq!(sub.line(), "x\n");
    cable.cut();
    let (code, out, errors) = publisher.end();
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("connection"), "{errors}");
}

#[test]
fn ctrl_c_ends_it_in_order() {
    let broker = Broker::start();
    let mut sub = broker.tool(&["sub", "a"]).ready();
    let mut publisher = broker.tool(&["pub", "a", "--confirm"]);
    publisher.write(b"x\n");
    assert_eq!(sub.line(), "x\n");
    publisher.interrupt();
    // It has ended by itself, before its input does.
    assert_eq!(publisher.note(), "");
    assert_eq!(publisher.end(), NOTHING);
}

#[test]
fn what_cannot_be_published_exits_2() {
    let broker = Broker::start();
    for args in [
        &["pub"][..],
        &["pub", "a/#", "x"],
        &["pub", "a/+", "x"],
        &["pub", "", "x"],
        &["pub", "a", "x", "y"],
        &["pub", "a", "x", "--topic-from-json", "t"],
        &["pub", "a", "--topic-from-json", "t..u"],
        &["pub", "a", "--skip-invalid"],
        &["pub", "a", "x", "--header", "0x3f=x"],
        &["pub", "a", "x", "--header", "tenant=x"],
        &["pub", "a", "x", "--codec", "xml"],
        &["pub", "a", "x", "--expires", "soon"],
    ] {
        let (code, out, errors) = broker.run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {errors}");
        assert!(!errors.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn a_publisher_with_a_session_says_when_a_crash_of_the_server_took_it() {
    let broker = Broker::start();
    let mut subscriber = broker.tool(&["sub", "log", "--count", "1"]).ready();
    let mut publisher = broker.tool(&["pub", "log", "--session"]);
    publisher.write(b"before\n");
    assert_eq!(subscriber.line(), "before\n");
    assert_eq!(subscriber.end().0, 0);
    let broker = Broker::in_place_of(broker);
    let note = publisher.note();
    assert!(
        note.contains("the session is gone")
            && note.contains("and with it what had been confirmed"),
        "{note}"
    );
    let mut subscriber = broker.tool(&["sub", "log", "--count", "1"]).ready();
    publisher.write(b"after\n");
    assert_eq!(subscriber.line(), "after\n");
    assert_eq!(publisher.end().0, 0);
}
