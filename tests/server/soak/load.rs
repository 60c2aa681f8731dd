//! Who is at work: each role of the cast does its part again and again, at a rate of its own,
//! and says what went wrong. Together they take a small share of a core.

use super::link::{Link, echo};
use hdrhistogram::Histogram;
use ringmail::client::{Builder, Client, Publish, Reconnect, Subscribe};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How long a call may take: on a busy machine, far longer than usual.
const CALL: Duration = Duration::from_secs(60);
/// What publishers publish on, each on a topic of its own.
const LIVE: &str = "soak/t/#";
/// Topics with a retained message, now and then.
const KEPT: u64 = 500;
/// Of these only the first are told.
const FAILURES_MAX: usize = 20;

#[derive(Clone, Copy, Debug)]
enum Role {
    /// Publishes a hundred messages a second, every fiftieth confirmed.
    Publisher,
    /// Takes all of them, for a while.
    Reader,
    /// Shares them with the others of its group, for a while.
    Member,
    /// Fifty requests a second to a client that serves, and as many to the server itself, which
    /// are timed.
    Requester,
    /// As many bare round trips beside the server.
    Floor,
    /// Comes, serves, asks, subscribes, retains, and leaves, under names that nobody has used.
    Guest,
    /// Publishes and receives through links that break, in a session; some never come back.
    Nomad,
    /// Sets and clears retained messages.
    Keeper,
    /// Takes the retained messages there are, and leaves.
    Collector,
}

const CAST: &[(Role, u64)] = &[
    (Role::Publisher, 4),
    (Role::Reader, 8),
    (Role::Member, 3),
    (Role::Requester, 4),
    (Role::Floor, 4),
    (Role::Guest, 4),
    (Role::Nomad, 6),
    (Role::Keeper, 1),
    (Role::Collector, 1),
];

/// What came of it, so far.
#[derive(Default)]
pub struct Tally {
    pub messages: AtomicU64,
    pub answers: AtomicU64,
    pub guests: AtomicU64,
    pub nomads: AtomicU64,
    pub breaks: Arc<AtomicU64>,
    /// Of the requesters and of the floor since somebody has taken them, in nanoseconds.
    pub round_trips: Mutex<Vec<u64>>,
    pub floor_trips: Mutex<Vec<u64>>,
}

pub struct World {
    pub server: SocketAddr,
    pub key: String,
    pub authority: PathBuf,
    pub is_over: AtomicBool,
    pub tally: Tally,
    pub failures: Mutex<Vec<String>>,
    /// Counts whoever needs names of its own.
    visits: AtomicU64,
}

/// The quantiles of what has been taken, in microseconds; none of nothing.
pub fn quantiles(trips: &Mutex<Vec<u64>>) -> [f64; 2] {
    let taken = std::mem::take(&mut *trips.lock().unwrap());
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    taken.iter().for_each(|&nanoseconds| {
        histogram.record(nanoseconds).unwrap();
    });
    [0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0)
}

impl Tally {
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("messages", &self.messages),
            ("answers", &self.answers),
            ("guests", &self.guests),
            ("nomads", &self.nomads),
            ("breaks", &self.breaks),
        ]
        .map(|(name, count)| (name, count.load(Relaxed)))
    }
}

impl World {
    pub fn new(server: SocketAddr, key: &str, authority: PathBuf) -> Arc<World> {
        Arc::new(World {
            server,
            key: key.to_owned(),
            authority,
            is_over: AtomicBool::new(false),
            tally: Tally::default(),
            failures: Mutex::default(),
            visits: AtomicU64::new(0),
        })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    fn builder(&self) -> Builder<Client> {
        Client::builder()
            .connect_timeout(CALL)
            .request_timeout(CALL)
            .api_key(self.key.as_str())
    }

    /// Over TLS if asked to.
    async fn connect(&self, is_secure: bool) -> Result<Client, ringmail::client::Error> {
        let builder = match is_secure {
            true => self.builder().tls_ca(&self.authority),
            false => self.builder(),
        };
        builder.connect(&self.server.to_string()).await
    }

    fn fail(&self, what: String) {
        let mut failures = self.failures.lock().unwrap();
        if failures.len() < FAILURES_MAX {
            failures.push(what);
        }
    }

    /// A number that nobody has had.
    fn visit(&self) -> u64 {
        self.visits.fetch_add(1, Relaxed)
    }
}

/// All begin; they are over some time after the world is.
pub async fn begin(world: &Arc<World>) -> JoinSet<()> {
    let floor = echo().await.unwrap();
    let service = world.connect(false).await.unwrap();
    let echoes = service.serve(
        "soak/echo",
        |request| async move { Ok(request.payload.into()) },
    );
    let echoes = echoes.await.unwrap();
    let mut cast = JoinSet::new();
    for &(role, count) in CAST {
        for number in 0..count {
            cast.spawn(play(world.clone(), role, number, floor));
        }
    }
    // Who serves leaves last: else there would be requests that fail.
    let mut all = JoinSet::new();
    all.spawn(async move {
        while let Some(played) = cast.join_next().await {
            played.unwrap();
        }
        echoes.end().await.unwrap();
        service.close().await.unwrap();
    });
    all
}

async fn play(world: Arc<World>, role: Role, number: u64, floor: SocketAddr) {
    while !world.is_over() {
        let act = async {
            match role {
                Role::Publisher => publish(&world, number).await,
                Role::Reader => read(&world, Subscribe::new(LIVE), 20).await,
                Role::Member => read(&world, Subscribe::new(LIVE).group("members"), 20).await,
                Role::Requester => request(&world, number).await,
                Role::Floor => measure_floor(&world, floor).await,
                Role::Guest => visit(&world).await,
                Role::Nomad => wander(&world).await,
                Role::Keeper => keep(&world).await,
                Role::Collector => read(&world, Subscribe::new("soak/kept/#"), 3).await,
            }
        };
        if let Err(error) = act.await {
            world.fail(format!("{role:?} {number}: {error}"));
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What a busy machine has no time for is left out, not made up for.
fn each(milliseconds: u64) -> Interval {
    let mut pace = interval(Duration::from_millis(milliseconds));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

async fn publish(world: &World, number: u64) -> Done {
    let client = world.connect(false).await?;
    let topic = format!("soak/t/{number}");
    let mut pace = each(10);
    let mut count = 0_u64;
    while !world.is_over() {
        pace.tick().await;
        count += 1;
        let publish = Publish::new(&topic).payload(&[7; 128]);
        client
            .publish_with(&publish.confirm(count.is_multiple_of(50)))
            .await?;
    }
    Ok(client.close().await?)
}

/// Takes what comes, up to so many seconds.
async fn read(world: &World, subscribe: Subscribe<'_>, seconds_max: u64) -> Done {
    let client = world.connect(fastrand::bool()).await?;
    let mut messages = client.subscribe_with(&subscribe).await?;
    let end = Instant::now() + Duration::from_millis(fastrand::u64(..1000 * seconds_max));
    while !world.is_over() && Instant::now() < end {
        match timeout(Duration::from_millis(100), messages.next()).await {
            Ok(Some(_)) => world.tally.messages.fetch_add(1, Relaxed),
            Ok(None) => return Err(format!("it ended: {:?}", client.ending()).into()),
            Err(_) => 0,
        };
    }
    messages.end().await?;
    Ok(client.close().await?)
}

async fn request(world: &World, number: u64) -> Done {
    let client = world.connect(number % 2 == 1).await?;
    let mut pace = each(10);
    while !world.is_over() {
        pace.tick().await;
        let passed_on = client.request("soak/echo", [7; 128]).await?;
        pace.tick().await;
        let began = Instant::now();
        let response = client.request("$sys/echo", [7; 128]).await?;
        let took = began.elapsed().as_nanos() as u64;
        if [passed_on.payload, response.payload] != [[7; 128]; 2] {
            return Err("another answer".into());
        }
        world.tally.answers.fetch_add(1, Relaxed);
        world.tally.round_trips.lock().unwrap().push(took);
    }
    Ok(client.close().await?)
}

async fn measure_floor(world: &World, echo: SocketAddr) -> Done {
    let mut stream = TcpStream::connect(echo).await?;
    stream.set_nodelay(true)?;
    let mut pace = each(20);
    let mut bytes = [7; 128];
    while !world.is_over() {
        pace.tick().await;
        let began = Instant::now();
        stream.write_all(&bytes).await?;
        stream.read_exact(&mut bytes).await?;
        let took = began.elapsed().as_nanos() as u64;
        world.tally.floor_trips.lock().unwrap().push(took);
    }
    Ok(())
}

async fn visit(world: &World) -> Done {
    let visit = world.visit();
    let own = format!("soak/guest/{visit}");
    let client = world.connect(visit % 2 == 1).await?;
    let (will, kept) = (format!("{own}/will"), format!("{own}/kept"));
    client.will(&Publish::new(&will).payload(b"gone")).await?;
    let echo = client.serve(&own, |request| async move { Ok(request.payload.into()) });
    let echo = echo.await?;
    let response = client.request(&own, &own).await?;
    let retain = Publish::new(&kept).retain(true).confirm(true);
    client
        .publish_with(&retain.clone().payload(b"here"))
        .await?;
    let mut messages = client.subscribe(&format!("{own}/#")).await?;
    let message = timeout(CALL, messages.next()).await?;
    if response.payload != own.as_bytes() || message.is_none_or(|one| one.payload != b"here") {
        return Err("not what it asked for, or has retained".into());
    }
    client.publish_with(&retain).await?;
    world.tally.guests.fetch_add(1, Relaxed);
    sleep(Duration::from_millis(fastrand::u64(200..500))).await;
    match visit % 3 {
        0 => {
            messages.end().await?;
            echo.end().await?;
            client.close().await?;
        }
        1 => client.close().await?,
        _ => drop((messages, echo, client)),
    }
    Ok(())
}

async fn wander(world: &World) -> Done {
    const MESSAGES: u64 = 60;
    let visit = world.visit();
    let link = Link::to(world.server, world.tally.breaks.clone()).await?;
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(2))
        .delay_max(Duration::from_millis(30));
    let builder = world
        .builder()
        .session(true)
        .reconnect(reconnect)
        .wait(CALL);
    let client = builder.connect(&link.address.to_string()).await?;
    let topic = format!("soak/nomad/{visit}");
    client
        .will(&Publish::new("soak/will").payload(topic.as_bytes()))
        .await?;
    // Others' messages wait for it too while it is away, and nobody takes them.
    let others = client.subscribe("soak/t/0").await?;
    let mut messages = client.subscribe(&topic).await?;
    let mut pace = each(50);
    let came = async {
        for number in 0..MESSAGES {
            let message = timeout(CALL, messages.next()).await?;
            if message.is_none_or(|one| one.payload != number.to_be_bytes()) {
                return Err(format!("message {number} did not come in its turn").into());
            }
        }
        Done::Ok(())
    };
    let went = async {
        for number in 0..MESSAGES {
            pace.tick().await;
            client
                .publish_confirmed(&topic, number.to_be_bytes())
                .await?;
        }
        Done::Ok(())
    };
    tokio::try_join!(came, went)?;
    world.tally.nomads.fetch_add(1, Relaxed);
    if visit.is_multiple_of(3) {
        // Never comes back, nor says so: its session waits until it has waited long enough.
        drop(link);
        return Ok(());
    }
    drop((messages, others));
    // The link may break meanwhile: then nobody knows, and the session waits as above.
    let _ = client.close().await;
    Ok(())
}

async fn keep(world: &World) -> Done {
    let client = world.connect(false).await?;
    let mut pace = each(50);
    while !world.is_over() {
        pace.tick().await;
        let topic = format!("soak/kept/{}", fastrand::u64(..KEPT));
        let bytes = vec![7; [0, fastrand::usize(1..400)][usize::from(fastrand::u8(..4) > 0)]];
        let publish = Publish::new(&topic).payload(&bytes);
        client.publish_with(&publish.retain(true)).await?;
    }
    for number in 0..KEPT {
        let topic = format!("soak/kept/{number}");
        client
            .publish_with(&Publish::new(&topic).retain(true))
            .await?;
    }
    Ok(client.close().await?)
}
