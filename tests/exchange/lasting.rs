//! The async client over time: what it does about a server that drains, a connection that
//! breaks, a credential that expires.

use super::{PATIENCE, Proxy, end, start};
use ringmail::auth::issue::{NewToken, issue};
use ringmail::base::clock::unix_seconds;
use ringmail::client::{Builder, Credential, Phase, Reconnect};
use ringmail::{Client, Config, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

fn quick() -> Builder<Client> {
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(5))
        .delay_max(Duration::from_millis(50));
    Client::builder()
        .request_timeout(PATIENCE)
        .reconnect(reconnect)
}

/// Waits until the status is as wanted.
async fn until(client: &Client, wanted: impl FnMut(&ringmail::client::Status) -> bool) {
    let mut status = client.watch();
    let reached = timeout(PATIENCE, status.wait_for(wanted)).await;
    reached.expect("the status").expect("the client");
}

#[tokio::test]
async fn a_drain_loses_nothing_confirmed_and_both_go_on_elsewhere() {
    let (old, new) = (start(), start());
    let proxy = Proxy::to(old.address());
    let display = quick()
        .session(true)
        .connect(&proxy.address())
        .await
        .unwrap();
    let sensor = quick()
        .session(true)
        .connect(&proxy.address())
        .await
        .unwrap();
    let mut stream = display.subscribe("t").await.unwrap();
    for i in 0..100u32 {
        sensor.publish_confirmed("t", i.to_string()).await.unwrap();
    }
    proxy.lead_to(new.address());
    old.drain();
    for i in 0..100u32 {
        let message = stream.next().await.unwrap();
        assert_eq!(message.payload, i.to_string().as_bytes());
    }
    // The new server knows no session of the old one's: that is told.
    until(&display, |now| now.phase == Phase::Open && now.lapses == 1).await;
    sensor.publish_confirmed("t", "new").await.unwrap();
    assert_eq!(stream.next().await.unwrap().payload, b"new");
    assert_eq!(display.status().connections, 2);
    display.close().await.unwrap();
    sensor.close().await.unwrap();
    old.wait().unwrap();
    end(new);
}

#[tokio::test]
async fn what_is_dropped_while_there_is_no_connection_is_gone_when_there_is_one_again() {
    let server = start();
    let proxy = Proxy::to(server.address());
    let address = proxy.address();
    let client = quick().session(true).connect(&address).await.unwrap();
    let direct = Client::connect(&server.address().to_string())
        .await
        .unwrap();
    let dropped = client.subscribe("dropped").await.unwrap();
    let service = client.requests("svc").await.unwrap();
    let mut kept = client.subscribe("kept").await.unwrap();
    // Nobody at the other end for a while.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.lead_to(nobody.local_addr().unwrap());
    drop(nobody);
    proxy.cut();
    until(&client, |now| now.phase == Phase::Lost).await;
    drop((dropped, service));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish_confirmed("kept", "from the outage").await }
    });
    direct.publish_confirmed("kept", "meanwhile").await.unwrap();
    proxy.lead_to(server.address());
    waiting.await.unwrap().unwrap();
    let mut came = [kept.next().await.unwrap(), kept.next().await.unwrap()].map(|it| it.payload);
    came.sort();
    assert_eq!(came, [&b"from the outage"[..], b"meanwhile"]);
    let status = client.status();
    assert_eq!(
        (status.phase, status.connections, status.lapses),
        (Phase::Open, 2, 0)
    );
    // Behind an OK of its own all that was said before has been done.
    client
        .subscribe("other")
        .await
        .unwrap()
        .end()
        .await
        .unwrap();
    let error = direct.request("svc", "").await.unwrap_err();
    assert_eq!(
        error.code(),
        Some(ringmail::client::Code::NoService),
        "{error}"
    );
    client.close().await.unwrap();
    direct.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_nothing_notices() {
    const SECRET: &str = "of-32-bytes-and-more-0123456789abcdef";
    let text = format!(
        "server = {{ listen = '127.0.0.1:0', admin = '', shards = [0, 1] }}\n\
         [auth]\nmode = 'required'\n[auth.issuer]\nsigning_secret = '{SECRET}'\n\
         [roles]\ndevice.publish = ['t']\ndevice.subscribe = ['t']\n"
    );
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .config(Config::from_toml(&text).unwrap())
        .state_directory(state.path())
        .start()
        .unwrap();
    let fetched = Arc::new(AtomicU32::new(0));
    let fetch = {
        let fetched = fetched.clone();
        move || {
            fetched.fetch_add(1, Ordering::SeqCst);
            async {
                let now = unix_seconds();
                let token = NewToken {
                    subject: "pump-7",
                    roles: &["device".into()],
                    issued_at: now,
                    expires: now + 3,
                    ..NewToken::default()
                };
                let issued = issue(SECRET.as_bytes(), token).map_err(|error| error.to_string())?;
                Ok(Credential::Token(issued.token.into()))
            }
        }
    };
    let builder = Client::builder().credential_by_async(fetch);
    let client = builder
        .connect(&server.address().to_string())
        .await
        .unwrap();
    assert_eq!(client.login().unwrap().principal, "pump-7");
    let mut stream = client.subscribe("t").await.unwrap();
    let renewed = timeout(PATIENCE, async {
        while fetched.load(Ordering::SeqCst) < 3 {
            client.publish_confirmed("t", "x").await.unwrap();
            assert_eq!(stream.next().await.unwrap().payload, b"x");
            sleep(Duration::from_millis(20)).await;
        }
    });
    renewed.await.expect("two renewals");
    client.publish_confirmed("t", "x").await.unwrap();
    assert_eq!(client.status().connections, 1);
    client.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn who_says_nothing_lives_and_so_does_who_reads_nothing() {
    let text = "[server]\nlisten = '127.0.0.1:0'\nadmin = ''\nshards = [0, 1]\n\
         [heartbeat]\ninterval_ms = 200\ntimeout_ms = 1500\n";
    let config = Config::from_toml(text).unwrap();
    let server = Server::builder().config(config).start().unwrap();
    let address = server.address().to_string();
    let idle = Client::connect(&address).await.unwrap();
    // A thread of its own keeps this one, inside of another runtime too.
    let mut blocking = ringmail::blocking::Client::connect(&address).unwrap();
    let builder = Client::builder().inbox_bytes_max(1);
    let full = builder.connect(&address).await.unwrap();
    let mut stream = full.subscribe("t").await.unwrap();
    for number in 0..3u8 {
        idle.publish_confirmed("t", [number]).await.unwrap();
    }
    sleep(Duration::from_secs(4)).await;
    for client in [&idle, &full] {
        assert_eq!(client.status().phase, Phase::Open, "{:?}", client.ending());
    }
    blocking.keep_alive().unwrap();
    blocking.request("$sys/echo", "here").unwrap();
    for number in 0..3u8 {
        assert_eq!(stream.next().await.unwrap().payload, [number]);
    }
    full.request("$sys/echo", "here").await.unwrap();
    idle.request("$sys/echo", "here").await.unwrap();
    blocking.close().unwrap();
    full.close().await.unwrap();
    idle.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn a_client_whose_runtime_ends_tells_who_waits() {
    let server = start();
    let address = server.address().to_string();
    let (send, connected) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let other = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(&address).await.unwrap();
            send.send(client).unwrap();
            stopped.await.unwrap();
        });
    });
    let client = connected.await.unwrap();
    let mut requests = client.requests("nobody answers").await.unwrap();
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.request("nobody answers", "").await }
    });
    let request = requests.next().await.unwrap();
    stop.send(()).unwrap();
    let error = asking.await.unwrap().unwrap_err();
    assert!(
        matches!(error, ringmail::client::Error::Io { .. }),
        "{error}"
    );
    assert!(requests.next().await.is_none());
    assert!(request.respond("too late").is_err());
    assert_eq!(client.status().phase, Phase::Ended);
    assert!(client.close().await.is_err());
    other.join().unwrap();
    end(server);
}
