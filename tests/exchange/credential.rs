//! Credentials that are fetched: whatever the fetching does, a connection that stood is made
//! again, and the client can be asked meanwhile.

use super::{PATIENCE, Proxy, end};
use ringmail::auth::key;
use ringmail::client::{Builder, Credential, Error, Phase, Reconnect, Secret};
use ringmail::{Client, Config, Running, Server};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ALL: &str = "publish = ['#']\nsubscribe = ['#']\n";

/// The key of a client that has the rights of a server it is [`guarded`] by.
pub fn api_key() -> String {
    format!("device.{KEY}")
}

/// A server that asks who its clients are; who has the key has these rights.
pub fn guarded(rights: &str) -> Running {
    let text = format!(
        "[server]\nlisten = '127.0.0.1:0'\nadmin = ''\nshards = [0, 1]\n\
         [auth]\nmode = 'required'\n\
         [[auth.api_key]]\nid = 'device'\nsha256 = '{}'\nprincipal = 'd'\nroles = ['some']\n\
         [roles.some]\n{rights}",
        key::hash(KEY)
    );
    let config = Config::from_toml(&text).unwrap();
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder().config(config);
    server.state_directory(state.keep()).start().unwrap()
}

fn credential() -> Result<Credential, String> {
    Ok(Credential::ApiKey(Secret::new(api_key())))
}

fn away() -> Result<Credential, String> {
    Err("the identity provider is away".to_owned())
}

fn quick(attempts_max: u32) -> Builder<Client> {
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(5))
        .delay_max(Duration::from_millis(50))
        .attempts_max(attempts_max);
    Client::builder().reconnect(reconnect)
}

/// What the second fetch, the first one for a connection made again, does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Second {
    Fails,
    Panics,
    Hangs,
    AsksTheClient,
}

/// Where it does so.
#[derive(Clone, Copy, Debug)]
enum Place {
    Blocking,
    Closure,
    Future,
}

type Fetched = Result<Credential, String>;

fn second(what: Second, client: &OnceLock<Client>) -> Fetched {
    match what {
        Second::Fails => away(),
        Second::Panics => panic!("fetching goes wrong"),
        Second::Hangs => credential(),
        Second::AsksTheClient => {
            let client = client.get().ok_or("it was connected before")?;
            let login = client.login().ok_or("it was let in before")?;
            let _ = (client.server(), client.status(), client.take_failure());
            if login.principal == "d" {
                credential()
            } else {
                away()
            }
        }
    }
}

fn fetching(
    builder: Builder<Client>,
    (place, what): (Place, Second),
    count: Arc<AtomicUsize>,
    client: Arc<OnceLock<Client>>,
) -> Builder<Client> {
    let is_second = move || count.fetch_add(1, SeqCst) == 1;
    match place {
        Place::Blocking => builder.credential_by(move || match is_second() {
            true => second(what, &client),
            false => credential(),
        }),
        Place::Closure => builder.credential_by_async(move || {
            let fetched = match is_second() {
                true => second(what, &client),
                false => credential(),
            };
            async { fetched }
        }),
        Place::Future => builder.credential_by_async(move || {
            let (is_second, client) = (is_second(), client.clone());
            async move {
                match is_second {
                    true if what == Second::Hangs => std::future::pending().await,
                    true => second(what, &client),
                    false => credential(),
                }
            }
        }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_goes_wrong_once_costs_an_attempt_and_not_the_client() {
    let server = guarded(ALL);
    let places = [Place::Blocking, Place::Closure, Place::Future];
    let kinds = [Second::Fails, Second::Panics, Second::AsksTheClient];
    let cases = places.map(|place| kinds.map(|what| (place, what)));
    let hangs = (Place::Future, Second::Hangs);
    for case in cases.into_iter().flatten().chain([hangs]) {
        for session in [false, true] {
            let proxy = Proxy::to(server.address());
            let (count, cell) = (Arc::<AtomicUsize>::default(), Arc::default());
            let builder = quick(u32::MAX)
                .session(session)
                .request_timeout(PATIENCE)
                .connect_timeout(match case.1 {
                    Second::Hangs => Duration::from_secs(1),
                    _ => PATIENCE,
                })
                .wait(PATIENCE);
            let builder = fetching(builder, case, count.clone(), Arc::clone(&cell));
            let client = builder.connect(&proxy.address()).await.unwrap();
            // It may have taken more than one attempt on a machine this busy.
            count.store(1, SeqCst);
            assert!(cell.set(client.clone()).is_ok());
            let mut stream = client.subscribe("a/#").await.unwrap();
            proxy.cut();
            let mut status = client.watch();
            let again = |status: &ringmail::client::Status| status.connections > 1;
            let again = tokio::time::timeout(PATIENCE, status.wait_for(again));
            let stood = again.await.unwrap_or_else(|_| panic!("{case:?}")).unwrap();
            assert_eq!(stood.phase, Phase::Open, "{case:?}");
            drop(stood);
            client.publish_confirmed("a/1", "x").await.unwrap();
            assert_eq!(stream.next().await.unwrap().payload, b"x", "{case:?}");
            assert!(count.load(SeqCst) > 1, "{case:?}: it was fetched anew");
            client.close().await.unwrap();
        }
    }
    end(server);
}

#[tokio::test]
async fn while_nothing_can_be_fetched_calls_say_so_and_so_does_the_end() {
    let server = guarded(ALL);
    let proxy = Proxy::to(server.address());
    for (attempts_max, phase) in [(u32::MAX, Phase::Lost), (3, Phase::Ended)] {
        let count = AtomicUsize::new(0);
        let client = quick(attempts_max)
            .request_timeout(Duration::from_millis(200))
            .credential_by(move || match count.fetch_add(1, SeqCst) {
                0 => credential(),
                _ => away(),
            })
            .connect(&proxy.address())
            .await
            .unwrap();
        proxy.cut();
        let mut status = client.watch();
        let lost = status.wait_for(|status| status.phase == phase);
        let _ = tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
        let told = async {
            loop {
                match client.publish("a/1", "").await {
                    Err(error @ Error::Credential { .. }) => break error,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let error = tokio::time::timeout(PATIENCE, told).await.unwrap();
        assert!(error.to_string().contains("provider is away"), "{error}");
        assert_eq!(client.status().phase, phase);
        let ending = client.ending();
        let is_told = matches!(ending, Some(Error::Credential { .. }));
        assert_eq!(is_told, phase == Phase::Ended, "{ending:?}");
    }
    end(server);
}
