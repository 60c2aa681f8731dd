//! The async client: many requests, PUBLISHes, subscriptions and services at once over one
//! connection, and what happens when some of them are slow, dropped or cancelled.

use super::{PATIENCE, end, start};
use ringmail::client::Code;
use ringmail::{Client, Running};

async fn connect(server: &Running) -> Client {
    let builder = Client::builder().request_timeout(PATIENCE);
    builder
        .connect(&server.address().to_string())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_are_answered_out_of_order_each_to_its_own() {
    const COUNT: usize = 1000;
    let server = start();
    let (service, client) = (connect(&server).await, connect(&server).await);
    let mut requests = service.requests("number").await.unwrap();
    let answering = tokio::spawn(async move {
        // None is answered before all are here, and then the last first.
        let mut open = Vec::new();
        while open.len() < COUNT {
            open.push(requests.next().await.unwrap());
        }
        for request in open.into_iter().rev() {
            let answer = [b"answer to ", &request.payload[..]].concat();
            request.respond(answer).unwrap();
        }
        requests
    });
    let asking: Vec<_> = (0..COUNT)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.request("number", number.to_string()).await })
        })
        .collect();
    for (number, asked) in asking.into_iter().enumerate() {
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.payload, format!("answer to {number}").into_bytes());
    }
    answering.await.unwrap().end().await.unwrap();
    let error = client.request("number", "").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NoService), "{error}");
    client.close().await.unwrap();
    service.close().await.unwrap();
    end(server);
}
