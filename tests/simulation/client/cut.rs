//! A session whose connection is cut after each of its bytes in turn, in either direction: whatever
//! the byte, all is confirmed, and delivered once and in order.

use super::super::server::{limits, ms};
use super::life::number;
use super::network::{End, Fortune, Net};
use super::stage::{Stage, play};
use ringmail::Client;
use ringmail::client::glance::Glance;
use ringmail::client::{Error, Reconnect, Subscription};
use ringmail::ring::sim::Faults;
use std::sync::Arc;
use std::time::Duration;

const COUNT: u64 = 4;

async fn numbers(stream: &mut Subscription) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < COUNT as usize {
        taken.push(number(&stream.next().await.unwrap().payload));
    }
    taken
}

/// One session's life, from its first byte to CLOSE; how many bytes its first connection carried.
async fn life(at: usize) -> usize {
    let end = if at.is_multiple_of(2) {
        End::Eof
    } else {
        End::Reset
    };
    let net = Net::new(move |dial| Fortune {
        cut: (dial == 0).then_some((at, end)),
        ..Fortune::default()
    });
    let sound = Net::sound();
    let mut stage = Stage::new(at as u64, 2, Faults::none(), &limits(), &[&net, &sound]);
    let other = Client::builder().network(Arc::new(sound.clone()));
    let builder = Client::builder()
        .network(Arc::new(net.clone()))
        .session(true)
        .reconnect(Reconnect::default().delay_max(ms(20)))
        .wait(Duration::from_secs(60));
    let glance = stage
        .run(async {
            let witness = other.connect("server:1").await.unwrap();
            let mut all = witness.subscribe("out").await.unwrap();
            let client = builder.connect("server:1").await.unwrap();
            let mut stream = client.subscribe("in").await.unwrap();
            for n in 1..=COUNT {
                client
                    .publish_confirmed("out", n.to_be_bytes())
                    .await
                    .unwrap();
                witness
                    .publish_confirmed("in", n.to_be_bytes())
                    .await
                    .unwrap();
                match client.request("$sys/echo", "x").await {
                    Ok(answer) => assert_eq!(answer.payload, b"x"),
                    Err(error) => assert!(matches!(error, Error::Io { .. }), "{at}: {error}"),
                }
            }
            let all_of_them: Vec<_> = (1..=COUNT).collect();
            assert_eq!(numbers(&mut stream).await, all_of_them, "cut at {at}");
            assert_eq!(numbers(&mut all).await, all_of_them, "cut at {at}");
            stream.end().await.unwrap();
            // Its CLOSE may be what is cut.
            let closed = client.close().await;
            let broke = net.passed_bytes(0) >= at;
            assert!(closed.is_ok() || broke, "{at}: {closed:?}");
            let glance = Glance::at(&client);
            witness.close().await.unwrap();
            glance
        })
        .await;
    stage.run_for(ms(100_000)).await;
    assert_eq!(glance.held(), None, "cut at {at}");
    assert_eq!(net.held(), 0, "cut at {at}");
    stage.server.end();
    net.passed_bytes(0)
}

#[test]
fn a_session_cut_at_any_byte_has_everything_once_and_in_order() {
    let bytes = play(0, async || life(usize::MAX).await);
    assert!(bytes > 500, "{bytes}");
    for at in 0..bytes {
        play(at as u64, async || life(at).await);
    }
}
