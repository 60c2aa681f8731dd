//! Single rules, each under the circumstances that it is about.

use super::super::server::{limits, ms};
use super::network::{Door, End, Fortune, Net};
use super::peer::{Heard, Peer};
use super::stage::{Stage, play};
use ringmail::base::reason::Reason;
use ringmail::client::glance::Glance;
use ringmail::client::{Builder, Code, Credential, Error, Reconnect};
use ringmail::proto::envelope::Envelope;
use ringmail::proto::message::{Message, MessageType};
use ringmail::ring::sim::Faults;
use ringmail::{Answer, Client, Pool};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

const HOUR: Duration = Duration::from_secs(3600);
const INBOX_BYTES_MAX: usize = 100_000;
/// What one read may bring beyond the bound.
const ONE_READ_BYTES: usize = 1 << 20;

fn on(net: &Net) -> Builder<Client> {
    Client::builder()
        .network(Arc::new(net.clone()))
        .inbox_bytes_max(INBOX_BYTES_MAX)
}

/// Everything that this kind of message may fill, as far as the client reads.
async fn flood(peer: &mut Peer, kind: MessageType) -> usize {
    let (mut count, payload) = (0, [7; 1000]);
    while timeout(ms(200), peer.deliver(kind, 1, "a", &payload))
        .await
        .is_ok()
    {
        count += 1;
        assert!(count < 20_000, "it reads for ever");
    }
    count
}

#[test]
fn a_subscription_whose_own_messages_fill_the_inbox_fails_at_once_and_nobody_waits_for_it() {
    play(1, async || {
        let net = Net::sound();
        let serving = net.clone();
        let server = spawn_local(async move {
            let mut peer = Peer::accept(&serving, 0).await;
            let (id, _) = peer.operation(MessageType::Subscribe).await;
            for _ in 0..300 {
                let publish = MessageType::Publish;
                peer.deliver(publish, 0, "a", &[7; 1000]).await;
            }
            peer.send(&Message::Ok { id });
            peer.serve().await;
        });
        let client = on(&net).request_timeout(Duration::MAX);
        let client = client.connect("server:1").await.unwrap();
        let call = timeout(ms(1000), client.subscribe("a")).await;
        let refused = call.expect("it waits for what nobody can take");
        assert!(
            matches!(refused, Err(Error::InboxFull { .. })),
            "{refused:?}"
        );
        client.request("x", "y").await.unwrap();
        sleep(ms(100)).await;
        let held = Glance::at(&client).held().unwrap();
        assert_eq!(
            (held.inbox_bytes, held.mailboxes, held.withdrawals),
            (0, 0, 0)
        );
        client.close().await.unwrap();
        server.await.unwrap();
    });
}

#[test]
fn a_stream_that_ends_does_not_wait_for_what_nobody_takes() {
    for kind in [MessageType::Publish, MessageType::Request] {
        play(7, async || {
            let net = Net::sound();
            let serving = net.clone();
            let server = spawn_local(async move {
                let mut peer = Peer::accept(&serving, 0).await;
                let (id, _) = peer.hear_operation().await;
                peer.send(&Message::Ok { id });
                for id in 1..300 {
                    peer.deliver(kind, id, "a", &[7; 1000]).await;
                }
                peer.serve().await;
            });
            let client = on(&net).request_timeout(Duration::MAX);
            let client = client.connect("server:1").await.unwrap();
            let ended = match kind {
                MessageType::Publish => {
                    let stream = client.subscribe("a").await.unwrap();
                    sleep(ms(100)).await;
                    timeout(ms(1000), stream.end()).await
                }
                _ => {
                    let handler = async |_| Ok(Answer::from(Vec::new()));
                    let service = client.serve("a", move |request| Box::pin(handler(request)));
                    let service = service.await.unwrap();
                    timeout(ms(1000), service.end()).await
                }
            };
            ended
                .unwrap_or_else(|_| panic!("{kind:?}: it waits for ever"))
                .unwrap();
            client.close().await.unwrap();
            server.await.unwrap();
        });
    }
}

#[test]
fn a_publish_that_was_sent_is_never_said_to_be_undone_for_want_of_a_connection() {
    play(8, async || {
        let net = Net::new(|dial| Fortune {
            door: if dial == 0 { Door::Open } else { Door::Refused },
            ..Fortune::default()
        });
        let serving = net.clone();
        let server = spawn_local(async move {
            let mut peer = Peer::accept(&serving, 0).await;
            let mut heard = peer.hear().await;
            while !matches!(heard, Heard::Asked(MessageType::Publish, ..)) {
                if let Heard::Session { .. } = heard {
                    peer.send(&Message::SessionOk {
                        key: [1; 16],
                        resumed: false,
                        last_publish_id: 0,
                    });
                }
                heard = peer.hear().await;
            }
            peer.net.end(peer.id, End::Reset);
        });
        let client = on(&net).session(true).request_timeout(ms(2000));
        let client = client.connect("server:1").await.unwrap();
        let (sent, unsent) = (client.publish_confirmed("t", "x"), async {
            sleep(ms(200)).await;
            client.publish_confirmed("t", "x").await
        });
        let (sent, unsent) = tokio::join!(sent, unsent);
        assert!(matches!(sent, Err(Error::Io { .. })), "{sent:?}");
        assert!(matches!(unsent, Err(Error::Connect { .. })), "{unsent:?}");
        client.close().await.unwrap_err();
        server.await.unwrap();
    });
}

/// However many came before: a look that finds nothing says that all of them are handled.
#[test]
fn who_waits_for_the_next_message_has_acknowledged_the_last() {
    play(3, async || {
        let net = Net::sound();
        let serving = net.clone();
        let acknowledged = Arc::new(Mutex::new(0));
        let heard = acknowledged.clone();
        let server = spawn_local(async move {
            let mut peer = Peer::accept(&serving, 0).await;
            loop {
                match peer.hear().await {
                    Heard::Session { .. } => peer.send(&Message::SessionOk {
                        key: [1; 16],
                        resumed: false,
                        last_publish_id: 0,
                    }),
                    Heard::Asked(MessageType::Subscribe, id, ..) => peer.send(&Message::Ok { id }),
                    // Brings one more.
                    Heard::Asked(MessageType::Publish, ..) => {
                        let publish = MessageType::Publish;
                        peer.deliver(publish, 0, "a", b"x").await;
                    }
                    Heard::Ack(received) => *heard.lock().unwrap() = received,
                    Heard::Gone => return,
                    Heard::Closed => return peer.finish().await,
                    _ => {}
                }
            }
        });
        let client = on(&net).session(true).connect("server:1").await.unwrap();
        let mut messages = client.subscribe("a").await.unwrap();
        let mut count = 0;
        for some in [1, 63, 64, 65, 128, 1] {
            for _ in 0..some {
                client.publish("b", "x").await.unwrap();
            }
            for _ in 0..some {
                messages.next().await.unwrap();
            }
            // It works on the last one for a while.
            sleep(ms(5)).await;
            count += some;
            let next = timeout(ms(50), messages.next()).await;
            assert!(next.is_err());
            assert_eq!(*acknowledged.lock().unwrap(), count, "after {some}");
        }
        client.close().await.unwrap();
        server.await.unwrap();
    });
}

#[test]
fn a_connection_that_is_being_restored_brings_no_more_than_is_taken() {
    for kind in [MessageType::Publish, MessageType::Request] {
        play(2, async || {
            let net = Net::sound();
            let serving = net.clone();
            let server = spawn_local(async move {
                let mut peer = Peer::accept(&serving, 0).await;
                peer.confirm(MessageType::Subscribe).await;
                peer.net.end(peer.id, End::Reset);
                let mut peer = Peer::accept(&serving, 0).await;
                let (id, _) = peer.operation(MessageType::Subscribe).await;
                let written = flood(&mut peer, kind).await;
                sleep(ms(1000)).await;
                peer.send(&Message::Ok { id });
                peer.serve().await;
                written
            });
            let reconnect = Reconnect::default().delay_max(ms(10));
            let client = on(&net).reconnect(reconnect);
            let client = client.connect("server:1").await.unwrap();
            let mut stream = client.subscribe("a").await.unwrap();
            sleep(ms(30_000)).await;
            let held = Glance::at(&client).held().unwrap();
            let most = INBOX_BYTES_MAX + ONE_READ_BYTES;
            assert!(
                held.inbox_bytes < most && held.declined < 10_000,
                "{kind:?}: {held:?}"
            );
            let taking = spawn_local(async move { while stream.next().await.is_some() {} });
            let answer = client.request("x", "y").await;
            let held = Glance::at(&client).held();
            assert!(answer.is_ok(), "{kind:?}: {answer:?}, {held:?}");
            client.close().await.unwrap();
            taking.await.unwrap();
            let written = server.await.unwrap();
            assert!(kind == MessageType::Request || written > 50, "{written}");
        });
    }
}

#[test]
fn a_client_that_reads_nothing_and_has_much_to_say_is_brought_no_more_for_that() {
    play(9, async || {
        let net = Net::sound();
        let serving = net.clone();
        let server = spawn_local(async move {
            let mut peer = Peer::accept(&serving, 0).await;
            peer.confirm(MessageType::Subscribe).await;
            let publish = Envelope {
                name: "a",
                payload: &[7; 1000],
                ..Envelope::default()
            };
            // It reads little at a time, and always has more to say.
            for _ in 0..2000 {
                while peer.push() < 128 << 10 {
                    peer.send(&Message::Envelope(MessageType::Publish, publish));
                }
                peer.net.take(peer.id, 1000);
                sleep(ms(1)).await;
            }
            peer.net.end(peer.id, End::Reset);
        });
        let client = on(&net).connect("server:1").await.unwrap();
        let _unread = client.subscribe("a").await.unwrap();
        let saying = client.clone();
        let saying =
            spawn_local(async move { while saying.publish("b", [7; 10_000]).await.is_ok() {} });
        sleep(ms(1900)).await;
        let held = Glance::at(&client).held().unwrap();
        assert!(
            held.inbox_bytes < INBOX_BYTES_MAX + ONE_READ_BYTES,
            "{held:?}"
        );
        server.await.unwrap();
        saying.await.unwrap();
    });
}

#[test]
fn a_credential_that_cannot_be_fetched_at_times_costs_attempts_only() {
    for seed in 0..8 {
        play(seed, async || {
            let mut rng = fastrand::Rng::with_seed(seed);
            let net = Net::new(move |_| Fortune {
                cut: Some((rng.usize(0..900), End::Reset)),
                ..Fortune::default()
            });
            let serving = net.clone();
            let server = spawn_local(async move {
                loop {
                    let mut peer = Peer::accept(&serving, 1).await;
                    let shown = loop {
                        match peer.hear().await {
                            Heard::Auth(token) => break Some(token),
                            Heard::Gone | Heard::Closed => break None,
                            _ => {}
                        }
                    };
                    if shown.is_none() {
                        continue;
                    }
                    assert_eq!(shown.unwrap(), "a.b.c");
                    peer.admit();
                    spawn_local(async move { peer.serve().await });
                }
            });
            let user: Arc<Mutex<Option<Client>>> = Arc::default();
            let (asking, fetches) = (user.clone(), Arc::new(AtomicUsize::new(0)));
            let fetch = move || {
                let count = fetches.fetch_add(1, Ordering::Relaxed);
                let user = asking.lock().unwrap().clone();
                async move {
                    // It may ask the client itself, and take its time.
                    let status = user.map(|user| user.status());
                    sleep(ms(count as u64 % 50)).await;
                    match count % 3 {
                        1 => Err(format!("away, {status:?}")),
                        2 => std::panic::resume_unwind(Box::new("as it should")),
                        _ => Ok(Credential::Token("a.b.c".into())),
                    }
                }
            };
            let reconnect = Reconnect::default().delay_max(ms(20));
            let client = on(&net).reconnect(reconnect).credential_by_async(fetch);
            let client = loop {
                match client.connect("server:1").await {
                    Ok(client) => break client,
                    Err(_) => sleep(ms(5)).await,
                }
            };
            *user.lock().unwrap() = Some(client.clone());
            for _ in 0..100 {
                let _ = client.request("x", "y").await;
            }
            assert!(client.status().connections > 5, "{:?}", client.status());
            net.heal();
            timeout(HOUR, client.request("x", "y"))
                .await
                .unwrap()
                .unwrap();
            *user.lock().unwrap() = None;
            client.close().await.unwrap();
            server.abort();
        });
    }
}

#[test]
fn any_time_but_zero_is_a_time() {
    const TIMES: [Duration; 4] = [Duration::from_nanos(1), ms(1), ms(3000), Duration::MAX];
    for (index, [a, b, c]) in (0..64)
        .map(|n| [n, n / 4, n / 16].map(|at| TIMES[at % 4]))
        .enumerate()
    {
        play(index as u64, async || {
            let net = Net::new(|dial| Fortune {
                door: if dial % 5 == 1 {
                    Door::Refused
                } else {
                    Door::Open
                },
                cut: (dial % 5 == 0).then_some((150, End::Eof)),
                ..Fortune::default()
            });
            let serving = net.clone();
            let server = spawn_local(async move {
                loop {
                    let id = Peer::try_accept(&serving, 0).await;
                    spawn_local(async move {
                        if let Some(mut peer) = id {
                            peer.serve().await;
                        }
                    });
                }
            });
            let reconnect = Reconnect::default().delay_base(a).delay_max(b.min(HOUR));
            let builder = on(&net)
                .connect_timeout(b)
                .request_timeout(c)
                .wait(a.min(HOUR));
            let client = builder.clone().reconnect(reconnect).heartbeat(a);
            if let Ok(Ok(client)) = timeout(HOUR, client.connect("server:1")).await {
                for _ in 0..20 {
                    let _ = timeout(HOUR, client.request("x", "y")).await;
                }
                let _ = timeout(HOUR, client.close()).await.expect("close ends");
            }
            let pool = Pool::builder()
                .client(builder)
                .idle_timeout(a)
                .lifetime_max(b)
                .acquire_timeout(c)
                .check_after(a)
                .check_timeout(b)
                .open("server:1")
                .unwrap();
            for _ in 0..20 {
                if let Ok(Ok(client)) = timeout(ms(10_000), pool.acquire()).await {
                    let _ = timeout(HOUR, client.request("x", "y")).await;
                }
            }
            assert!(
                net.dials() < 2000,
                "{} dials, by {a:?}, {b:?}, {c:?}",
                net.dials()
            );
            timeout(HOUR, pool.close()).await.expect("the pool closes");
            server.abort();
        });
    }
}

#[test]
fn a_pool_does_not_lend_a_silent_connection_again() {
    play(5, async || {
        let net = Net::new(|dial| Fortune {
            stall: (dial == 0).then_some((300, HOUR)),
            ..Fortune::default()
        });
        let serving = net.clone();
        let server = spawn_local(async move {
            loop {
                let mut peer = Peer::accept(&serving, 0).await;
                spawn_local(async move { peer.serve().await });
            }
        });
        let client = on(&net).request_timeout(ms(100));
        let pool = Pool::builder().client(client).connections_max(2);
        let pool = pool.check_timeout(ms(200)).open("server:1").unwrap();
        let (mut failures, begun) = (0, Instant::now());
        for _ in 0..500 {
            let client = pool.acquire().await.unwrap();
            failures += usize::from(client.request("x", "y").await.is_err());
        }
        assert_eq!(failures, 1, "in {:?}", begun.elapsed());
        pool.close().await;
        server.abort();
    });
}

#[test]
fn refusals_to_many_do_not_end_the_connection_they_share() {
    play(6, async || {
        let (net, mut limits) = (Net::sound(), limits());
        limits.subscriptions_max = 4;
        let mut stage = Stage::new(6, 2, Faults::none(), &limits, &[&net]);
        let client = on(&net).request_timeout(ms(60_000));
        let client = stage.run(client.connect("server:1")).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..60 {
            let client = client.clone();
            calls.spawn_local(async move { client.subscribe(&format!("a/{number}")).await });
        }
        let results = stage.run(calls.join_all()).await;
        let refused = |result: &&Result<_, Error>| match result {
            Ok(_) => false,
            Err(Error::Failed { code, .. }) => *code == Code::TooManySubscriptions,
            Err(_) => false,
        };
        let (count, refused) = (results.len(), results.iter().filter(refused).count());
        assert_eq!((count, refused), (60, 56));
        assert_eq!(stage.server.closed(Reason::TooManyErrors), 0);
        assert_eq!(client.status().connections, 1);
        drop(results);
        stage.run(client.close()).await.unwrap();
        drop(client);
        stage.run_for(ms(1000)).await;
        stage.server.end();
    });
}
