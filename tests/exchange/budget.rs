//! What one task of a shared client does that the server refuses is its own concern: it does
//! not end the connection for the others.

use super::credential::{api_key, guarded};
use super::{PATIENCE, Proxy, end};
use ringmail::Client;
use ringmail::client::{Code, Error, Phase, Publish, Reconnect};
use std::time::Duration;

/// More than a server takes in a second.
const MANY: usize = 14;

async fn connect(address: &str) -> Client {
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(5))
        .delay_max(Duration::from_millis(50));
    let builder = Client::builder()
        .request_timeout(PATIENCE)
        .api_key(api_key())
        .reconnect(reconnect);
    builder.connect(address).await.unwrap()
}

/// One thing that is refused, as a task does it.
async fn offend(client: &Client, kind: usize) -> Result<(), Error> {
    match kind {
        0 => client.publish("secret", "").await,
        1 => client.publish_confirmed("secret", "").await,
        2 => client.subscribe("secret/#").await.map(drop),
        3 => client.requests("secret").await.map(drop),
        _ => client.will(&Publish::new("secret")).await,
    }
}

#[tokio::test]
async fn refusals_of_one_task_do_not_end_the_connection_of_all() {
    let server = guarded("publish = ['ok/#']\nsubscribe = ['ok/#']\n");
    let address = server.address().to_string();
    for kind in 0..5 {
        let client = connect(&address).await;
        let mut stream = client.subscribe("ok/#").await.unwrap();
        for at_once in [false, true] {
            let offended = match at_once {
                false => {
                    let mut offended = Vec::new();
                    for _ in 0..MANY {
                        offended.push(offend(&client, kind).await);
                    }
                    offended
                }
                true => {
                    let offences = (0..MANY).map(|_| offend(&client, kind));
                    futures_util::future::join_all(offences).await
                }
            };
            for outcome in offended {
                let code = outcome.as_ref().err().and_then(Error::code);
                let expected = (kind > 0).then_some(Code::Forbidden);
                assert_eq!(code, expected, "{kind}: {outcome:?}");
            }
            client.publish_confirmed("ok/1", "it").await.unwrap();
            assert_eq!(stream.next().await.unwrap().payload, b"it");
        }
        let status = client.status();
        assert_eq!(
            (status.phase, status.connections),
            (Phase::Open, 1),
            "{kind}"
        );
        if kind == 0 {
            let told = std::iter::from_fn(|| client.take_failure());
            assert_eq!(told.count(), 2 * MANY);
        }
        client.close().await.unwrap();
    }
    end(server);
}

#[tokio::test]
async fn what_is_refused_when_it_is_asked_for_again_does_not_end_the_connection() {
    let before = guarded("publish = ['#']\nsubscribe = ['#']\n");
    let after = guarded("publish = ['ok/#']\nsubscribe = ['ok/#']\n");
    let proxy = Proxy::to(before.address());
    let client = connect(&proxy.address()).await;
    let mut streams = Vec::new();
    for number in 0..MANY {
        let filter = format!("secret/{number}");
        streams.push(client.subscribe(&filter).await.unwrap());
    }
    let mut stream = client.subscribe("ok/#").await.unwrap();
    proxy.lead_to(after.address());
    proxy.cut();
    let mut status = client.watch();
    let again = status.wait_for(|status| status.connections > 1);
    let again = tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(again.unwrap().connections, 2, "the first one again stands");
    client.publish_confirmed("ok/1", "it").await.unwrap();
    assert_eq!(stream.next().await.unwrap().payload, b"it");
    // They do not stand: dropping them says nothing that would be refused, too.
    drop(streams);
    client.publish_confirmed("ok/1", "again").await.unwrap();
    assert_eq!(stream.next().await.unwrap().payload, b"again");
    assert_eq!(client.status().connections, 2);
    client.close().await.unwrap();
    end(before);
    end(after);
}

#[tokio::test]
async fn a_thousand_new_topics_and_subscriptions_pass() {
    let server = guarded("publish = ['#']\nsubscribe = ['#']\n");
    let client = connect(&server.address().to_string()).await;
    let mut all = client.subscribe("#").await.unwrap();
    let publishes = (0..1000).map(|number| {
        let client = client.clone();
        async move {
            let topic = format!("t/{number}");
            match number % 2 {
                0 => client.publish(&topic, "").await,
                _ => client.publish_confirmed(&topic, "").await,
            }
        }
    });
    for published in futures_util::future::join_all(publishes).await {
        published.unwrap();
    }
    for _ in 0..1000 {
        all.next().await.unwrap();
    }
    let filters: Vec<String> = (0..1000).map(|number| format!("f/{number}")).collect();
    let subscribed = filters.iter().map(|filter| client.subscribe(filter));
    for stream in futures_util::future::join_all(subscribed).await {
        drop(stream.unwrap());
    }
    client.publish_confirmed("f/1", "").await.unwrap();
    assert_eq!(client.take_failure().map(|error| error.to_string()), None);
    client.close().await.unwrap();
    end(server);
}
