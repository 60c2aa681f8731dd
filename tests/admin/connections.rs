//! `GET /connections`, `DELETE /connections/ID` and `GET /topics`, with real clients on two
//! shards.

use super::{Answer, PATIENCE, api_key, configuration, get, send};
use ringmail::auth::key::{NewApiKey, generate};
use ringmail::blocking::Client;
use ringmail::client::{Publish, SlowPolicy, Subscribe};
use ringmail::server::config::{AuthMode, Role, Secret};
use ringmail::{Running, Server};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// A server that asks nobody.
fn open() -> (Running, SocketAddr) {
    let running = Server::builder().config(configuration()).start().unwrap();
    let admin = running.admin_address().unwrap();
    (running, admin)
}

fn end(running: Running) {
    running.drain();
    running.wait().unwrap();
}

fn connect_on(running: &Running, shard: u16) -> Client {
    let mut others = Vec::new();
    loop {
        let client = Client::connect(&running.address().to_string()).unwrap();
        if client.server().shard == shard {
            return client;
        }
        // Kept for now, so that the next goes elsewhere.
        others.push(client);
        assert!(others.len() < 200, "no connection to shard {shard}");
    }
}

fn page(admin: SocketAddr, parameters: &str) -> Value {
    let answer = get(admin, &format!("/connections{parameters}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn rows(page: &Value) -> &[Value] {
    page["connections"].as_array().unwrap()
}

/// Asks until the answer is as it should be.
fn until(what: &str, mut ask: impl FnMut() -> Value, met: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if met(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_pages_have_each_of_two_hundred_connections_once() {
    let (running, admin) = open();
    let address = running.address().to_string();
    let mut clients: Vec<Client> = (0..200)
        .map(|number| {
            let id = format!("client-{}", number % 4);
            let builder = Client::builder().client_id(&id);
            builder.connect(&address).unwrap()
        })
        .collect();
    for client in &mut clients {
        client.request("$sys/echo", "x").unwrap();
    }
    for (sort, order) in [("id", "asc"), ("id", "desc"), ("age", "desc")] {
        let (mut ids, mut shards) = (Vec::new(), BTreeSet::new());
        let mut offset = 0;
        while offset < 200 {
            let parameters = format!("?sort={sort}&order={order}&limit=30&offset={offset}");
            let page = page(admin, &parameters);
            assert_eq!(page["total"], 200);
            assert_eq!(page["sessions_waiting"], 0);
            for row in rows(&page) {
                ids.push(row["id"].as_str().unwrap().to_owned());
                shards.insert(row["shard"].as_u64().unwrap());
                assert_eq!(
                    (&row["messages_in"], &row["messages_out"]),
                    (&1.into(), &1.into())
                );
                assert_eq!(row["state"], "open");
                assert_eq!(row["principal"], Value::Null);
                assert_eq!(row["queued_bytes"], 0);
            }
            offset += 30;
        }
        assert_eq!(ids.len(), 200, "{sort} {order}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 200);
        assert_eq!(shards.len(), 2, "connections of both shards");
    }
    assert_eq!(rows(&page(admin, "")).len(), 50, "the default");
    assert_eq!(rows(&page(admin, "?offset=250")).len(), 0);
    let some = page(admin, "?client_id=client-1&limit=1000");
    assert_eq!((&some["total"], rows(&some).len()), (&50.into(), 50));
    assert!(rows(&some).iter().all(|row| row["client_id"] == "client-1"));
    assert_eq!(page(admin, "?principal=nobody")["total"], 0);
    // Each is where the server sees it come from.
    let seen = page(admin, "?limit=1000");
    let told: BTreeSet<_> = rows(&seen)
        .iter()
        .map(|row| row["address"].as_str())
        .collect();
    assert!(!told.contains(&None) && told.len() == 200);
    drop(clients);
    until("all gone", || page(admin, ""), |page| page["total"] == 0);
    end(running);
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_can() {
    let (running, admin) = open();
    for (wrong, remedy) in [
        ("/connections?sort=size", "round_trip"),
        ("/connections?order=up", "asc or desc"),
        ("/connections?limit=0", "from 1 to 1000"),
        ("/connections?limit=-1", "from 1 to 1000"),
        ("/connections?limit=x", "from 1 to 1000"),
        ("/connections?limit=1001", "from 1 to 1000"),
        ("/connections?offset=1000", "from 0 to 999"),
        ("/connections?offset=999&limit=2", "client_id="),
        ("/connections?sort=id&sort=age", "once"),
        ("/connections?colour=red", "offset"),
        ("/connections?%FF=%FF", "offset"),
        ("/topics?limit=0", "from 1 to 200"),
        ("/topics?limit=201", "from 1 to 200"),
        ("/topics?order=asc", "limit"),
    ] {
        let answer = get(admin, wrong);
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
        let error = answer.error();
        assert!(error.contains(remedy), "{wrong}: {error}");
    }
    for path in ["/connections", "/connections/0-0-0", "/topics"] {
        assert_eq!(send(admin, "POST", path, "", "").status, 405, "{path}");
    }
    // Without authentication nobody may end anything.
    let answer = send(admin, "DELETE", "/connections/0-0-0", "", "");
    assert_eq!(answer.status, 403);
    assert!(answer.error().contains("auth.mode"));
    end(running);
}

/// A server whose clients authenticate, with keys for an operator and a device.
struct Guarded {
    running: Running,
    admin: SocketAddr,
    operator: NewApiKey,
    device: NewApiKey,
}

impl Guarded {
    fn start(state: &Path) -> Guarded {
        let (operator, device) = (generate("operator").unwrap(), generate("device").unwrap());
        let mut config = configuration();
        config.auth.mode = AuthMode::Required;
        let secret = "an HS256 secret of more than 32 bytes, to sign with";
        config.auth.issuer.signing_secret = Secret::from(secret.to_owned());
        api_key(&mut config, "operator", "admin", &operator);
        api_key(&mut config, "device", "device", &device);
        let admin = Role {
            admin: true,
            ..Role::default()
        };
        let all = vec!["#".to_owned()];
        let device_role = Role {
            publish: all.clone(),
            subscribe: all,
            ..Role::default()
        };
        config.roles.insert("admin".to_owned(), admin);
        config.roles.insert("device".to_owned(), device_role);
        let server = Server::builder().config(config).state_directory(state);
        let running = server.start().unwrap();
        Guarded {
            admin: running.admin_address().unwrap(),
            running,
            operator,
            device,
        }
    }

    fn client(&self, id: &str) -> Client {
        // What is not received fills the inbox at once, and then the socket.
        let builder = Client::builder().client_id(id).inbox_bytes_max(1);
        let builder = builder.api_key(self.device.key.clone());
        builder
            .connect(&self.running.address().to_string())
            .unwrap()
    }

    fn kick(&self, id: &str, key: &str) -> Answer {
        let headers = format!("Authorization: Bearer {key}\r\n");
        send(
            self.admin,
            "DELETE",
            &format!("/connections/{id}"),
            &headers,
            "",
        )
    }
}

#[test]
fn the_slow_one_is_found_at_once_and_ended() {
    let state = tempfile::tempdir().unwrap();
    let server = Guarded::start(state.path());
    let admin = server.admin;
    let _idle: Vec<Client> = (0..20)
        .map(|number| server.client(&format!("idle-{number}")))
        .collect();
    let mut slow = server.client("slow");
    let flood = Subscribe::new("flood").slow_policy(SlowPolicy::DropOldest);
    slow.subscribe_with(&flood).unwrap();
    let mut writer = server.client("writer");
    let payload = vec![7; 64 << 10];
    let publish = Publish::new("flood").payload(&payload).confirm(true);
    // More than the kernel keeps for who does not read, until more than one message waits.
    let is_slow = |row: &Value| {
        row["state"] == "slow" && row["queued_bytes"].as_u64().unwrap() > 2 * payload.len() as u64
    };
    let foremost = until(
        "the slow one",
        || {
            for _ in 0..50 {
                writer.publish_queued(&publish).unwrap();
            }
            writer.wait_confirmed().unwrap();
            page(admin, "?sort=queued&limit=1")
        },
        |page| rows(page).iter().any(is_slow),
    );
    assert_eq!(foremost["total"], 22);
    let row = &rows(&foremost)[0];
    assert_eq!(row["client_id"], "slow", "{row}");
    assert_eq!(row["principal"], "device-principal");
    let waits = |page: &Value| rows(page)[0]["oldest_queued_ms"].as_f64().unwrap() > 0.0;
    let oldest = until("it waits", || page(admin, "?sort=oldest&limit=1"), waits);
    assert_eq!(rows(&oldest)[0]["client_id"], "slow");
    let out = page(admin, "?sort=out&limit=1");
    assert_eq!(rows(&out)[0]["client_id"], "slow", "{out}");
    let most_in = page(admin, "?sort=in&limit=1");
    assert_eq!(rows(&most_in)[0]["client_id"], "writer", "{most_in}");

    let id = row["id"].as_str().unwrap();
    let answer = send(admin, "DELETE", &format!("/connections/{id}"), "", "");
    assert_eq!(answer.status, 401);
    assert_eq!(server.kick(id, "operator.wrong").status, 401);
    assert_eq!(server.kick(id, &server.device.key).status, 403);
    let (shard, rest) = id.split_once('-').unwrap();
    let (slot, generation) = rest.split_once('-').unwrap();
    let later = format!("{shard}-{slot}-{}", generation.parse::<u32>().unwrap() + 1);
    for gone in [&*later, "9-0-0", "0-4000000000-0"] {
        let answer = server.kick(gone, &server.operator.key);
        assert_eq!(answer.status, 404, "{gone}");
        answer.error();
    }
    for wrong in ["slow", "0-0", "0-0-0-0", "-1-0-0", "%00"] {
        let answer = server.kick(wrong, &server.operator.key);
        assert_eq!(answer.status, 400, "{wrong}");
        answer.error();
    }
    assert_eq!(page(admin, "?client_id=slow")["total"], 1, "nobody else's");
    let answer = server.kick(id, &server.operator.key);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["id"], id);
    assert_eq!(server.kick(id, &server.operator.key).status, 404);
    until(
        "it is gone",
        || page(admin, "?client_id=slow"),
        |page| page["total"] == 0,
    );
    assert_eq!(get(admin, "/status").json()["closed"]["kicked"], 1);
    assert_eq!(page(admin, "")["total"], 21, "the others stay");
    drop((slow, writer));
    server.running.drain();
    server.running.wait().unwrap();
}

#[test]
fn the_busiest_topics_of_all_shards_are_told_in_order() {
    let (running, admin) = open();
    let none = get(admin, "/topics").json();
    assert_eq!(
        (&none["topics"], &none["messages"]),
        (&Value::Array(vec![]), &0.into())
    );
    for shard in [0, 1] {
        let mut client = connect_on(&running, shard);
        for (topic, count) in [("busy/one", 150), ("busy/two", 50), ("quiet", 1)] {
            for number in 0..count {
                let text = format!("{number}");
                let publish = Publish::new(topic).payload(text.as_bytes()).confirm(true);
                client.publish_queued(&publish).unwrap();
            }
        }
        client.wait_confirmed().unwrap();
        client.close().unwrap();
    }
    let told = get(admin, "/topics").json();
    assert_eq!(
        (&told["messages"], &told["sampled"]),
        (&402.into(), &1.into())
    );
    assert!(told["window_s"].as_f64().unwrap() > 0.0);
    let topics = serde_json::json!([
        {"topic": "busy/one", "messages": 300, "error": 0},
        {"topic": "busy/two", "messages": 100, "error": 0},
        {"topic": "quiet", "messages": 2, "error": 0},
    ]);
    assert_eq!(told["topics"], topics);
    let one = get(admin, "/topics?limit=1").json();
    assert_eq!(one["topics"], Value::Array(vec![topics[0].clone()]));
    end(running);
}
