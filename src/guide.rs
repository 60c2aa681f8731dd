//! Four complete programs: a device, a service, a gateway, and a server with a service.
//!
//! Each of them runs as a test, against a server that it starts itself. Outside of a test, the
//! server is `ringmail serve`, and its address `127.0.0.1:7411`.
//!
//! | program | uses |
//! |---|---|
//! | [a device that reports](#a-device-that-reports-readings) | [`Client`](crate::Client) with a session, a will, JSON by serde |
//! | [a service that answers](#a-service-that-answers) | [`Client::serve`](crate::Client::serve), its own failures |
//! | [a gateway](#a-gateway-that-reads-json-lines) | [`blocking::Client`](crate::blocking::Client), PUBLISHes confirmed in bulk |
//! | [a server](#a-server-with-a-service-of-its-own) | [`Server`](crate::Server), [`Pool`](crate::Pool), statistics in protobuf |
//!
//! # A device that reports readings
//!
//! It keeps a session: if the connection breaks before a reading is confirmed, the client
//! repeats the reading, and the server delivers it once. When the device vanishes, its will says
//! so, to current subscribers and, because it is retained, to later ones.
//!
//! ```
//! use ringmail::Client;
//! use ringmail::client::Publish;
//! use serde::Serialize;
//!
//! #[derive(Serialize)]
//! struct Reading {
//!     celsius: f32,
//!     battery: f32,
//! }
//!
//! const STATE: &str = "site/7/thermostat/state";
//!
//! async fn device(address: &str) -> Result<(), ringmail::client::Error> {
//!     let client = Client::builder()
//!         .client_id("thermostat-17")
//!         .session(true)
//!         .connect(address)
//!         .await?;
//!     let state = Publish::new(STATE).retain(true).confirm(true);
//!     client.will(&state.clone().payload(b"lost")).await?;
//!     client.publish_with(&state.clone().payload(b"here")).await?;
//!
//!     for celsius in [21.5, 21.25] {
//!         let reading = Reading { celsius, battery: 3.7 };
//!         // Waits while there is no connection, up to the builder's request_timeout.
//!         client.publish_confirmed_json("site/7/thermostat/reading", &reading).await?;
//!         // tokio::time::sleep(Duration::from_secs(60)).await;
//!     }
//!
//!     client.publish_with(&state.payload(b"off")).await?;
//!     client.close().await // CLOSE discards the will
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
//! # let server = ringmail::Server::builder().config(config).start()?;
//! # let address = server.address().to_string();
//! let display = Client::connect(&address).await?;
//! let mut readings = display.subscribe("site/+/thermostat/reading").await?;
//! device(&address).await?;
//! for celsius in [21.5, 21.25] {
//!     let message = readings.next().await.ok_or("the connection has ended")?;
//!     let reading: serde_json::Value = serde_json::from_slice(&message.payload)?;
//!     assert_eq!(reading["celsius"], celsius);
//! }
//! let mut states = display.subscribe(STATE).await?;
//! let last = states.next().await.ok_or("the connection has ended")?;
//! assert_eq!((&last.payload[..], last.retain), (&b"off"[..], true));
//! # display.close().await?;
//! # server.drain();
//! # server.wait()?;
//! # Ok(()) }
//! ```
//!
//! # A service that answers
//!
//! This connection answers requests to `site/7/thermostat/set`, whichever shard either side is
//! connected to. Several connections that serve one name share its requests. Codes from 0x1000
//! on are the service's own.
//!
//! ```
//! use ringmail::client::{Code, Error};
//! use ringmail::{Answer, Client, Codec, Failure};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Target {
//!     celsius: f32,
//! }
//!
//! const NOT_UNDERSTOOD: u16 = 0x1000;
//! const OUT_OF_RANGE: u16 = 0x1001;
//!
//! fn set(payload: &[u8]) -> Result<Answer, Failure> {
//!     let wanted: Target = serde_json::from_slice(payload)
//!         .map_err(|error| Failure::new(NOT_UNDERSTOOD, error.to_string()))?;
//!     if !(5.0..=30.0).contains(&wanted.celsius) {
//!         return Err(Failure::new(OUT_OF_RANGE, "between 5 and 30 degrees"));
//!     }
//!     let set = serde_json::to_vec(&wanted)
//!         .map_err(|error| Failure::new(NOT_UNDERSTOOD, error.to_string()))?;
//!     Ok(Answer { payload: set.into(), codec: Some(Codec::Json) })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
//! # let server = ringmail::Server::builder().config(config).start()?;
//! # let address = server.address().to_string();
//! let thermostat = Client::connect(&address).await?;
//! let service = thermostat
//!     .serve("site/7/thermostat/set", |request| async move { set(&request.payload) })
//!     .await?;
//!
//! // Elsewhere:
//! let app = Client::connect(&address).await?;
//! let answer: Target = app
//!     .request_json("site/7/thermostat/set", &Target { celsius: 19.5 })
//!     .await?;
//! assert_eq!(answer.celsius, 19.5);
//!
//! let asked: Result<Target, Error> = app
//!     .request_json("site/7/thermostat/set", &Target { celsius: 50.0 })
//!     .await;
//! match asked {
//!     Err(Error::Failed { code: Code::Application(OUT_OF_RANGE), text }) => {
//!         assert_eq!(text, "between 5 and 30 degrees");
//!     }
//!     _ => panic!("50 degrees are too many"),
//! }
//! # app.close().await?;
//! service.end().await?; // answers the requests it has taken first
//! # thermostat.close().await?;
//! # server.drain();
//! # server.wait()?;
//! # Ok(()) }
//! ```
//!
//! # A gateway that reads JSON lines
//!
//! Lines come from a serial port, a file or another program; each names its sensor, and is
//! published unchanged on that sensor's topic. The program does not wait for each confirmation:
//! up to 16,384 may be outstanding, and at the end it waits for all of them.
//!
//! ```
//! use ringmail::blocking::Client;
//! use ringmail::client::{Codec, Publish};
//! use serde::Deserialize;
//! use std::error::Error;
//! use std::io::BufRead;
//!
//! #[derive(Deserialize)]
//! struct Line<'a> {
//!     sensor: &'a str,
//! }
//!
//! fn gateway(lines: impl BufRead, address: &str) -> Result<usize, Box<dyn Error>> {
//!     let mut client = Client::builder().session(true).connect(address)?;
//!     let mut count = 0;
//!     for line in lines.lines() {
//!         let line = line?;
//!         let sensor = match serde_json::from_str::<Line<'_>>(&line) {
//!             Ok(line) => line.sensor,
//!             Err(error) => {
//!                 eprintln!("left out: {error}: {line}");
//!                 continue;
//!             }
//!         };
//!         let topic = format!("site/7/{sensor}");
//!         let publish = Publish::new(&topic).payload(line.as_bytes()).codec(Codec::Json);
//!         client.publish_queued(&publish.confirm(true))?;
//!         count += 1;
//!     }
//!     client.wait_confirmed()?;
//!     client.close()?;
//!     Ok(count)
//! }
//!
//! # fn main() -> Result<(), Box<dyn Error>> {
//! # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
//! # let server = ringmail::Server::builder().config(config).start()?;
//! # let address = server.address().to_string();
//! # let mut display = Client::connect(&address)?;
//! # display.subscribe("site/7/door")?;
//! let lines = r#"{"sensor": "door", "open": true}
//! half a li
//! {"sensor": "window", "open": false}
//! {"sensor": "door", "open": false}
//! "#;
//! assert_eq!(gateway(lines.as_bytes(), &address)?, 3);
//! # for line in [0, 3] {
//! #     let message = display.receive()?.into_message().ok_or("a message")?;
//! #     assert_eq!(message.payload, lines.lines().nth(line).unwrap_or_default().as_bytes());
//! #     assert_eq!(message.codec, Codec::Json);
//! # }
//! # display.close()?;
//! # server.drain();
//! # server.wait()?;
//! # Ok(()) }
//! ```
//!
//! # A server with a service of its own
//!
//! The factory makes one service on each shard, which keeps its state to itself and needs no
//! lock. Long computations would go to a worker ([`Reply::offload`](crate::Reply::offload)).
//! Here, many tasks call it through a pool of four connections; then the client reads the
//! server's statistics in protobuf, as [`sys`](crate::sys) defines them.
//!
//! ```
//! use ringmail::sys::Stats;
//! use ringmail::{Config, Pool, Reply, Request, Server, ShardId};
//!
//! /// Counts words, and the requests that this shard has answered.
//! struct Words {
//!     shard: ShardId,
//!     answered: u64,
//! }
//!
//! impl ringmail::Service for Words {
//!     fn call(&mut self, request: Request<'_>, reply: Reply<'_>) {
//!         self.answered += 1;
//!         let words = request.payload().split(u8::is_ascii_whitespace);
//!         let count = words.filter(|word| !word.is_empty()).count();
//!         let (shard, answered) = (self.shard.0, self.answered);
//!         reply.send(format!("{count} (shard {shard}, answer {answered})").as_bytes());
//!     }
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
//!     let server = Server::builder()
//!         .config(config)
//!         .service("text/words", |shard| Words { shard, answered: 0 })
//!         .start()?;
//!
//!     let pool = Pool::builder()
//!         .connections_max(4)
//!         .open(&server.address().to_string())?;
//!     let ask = |text: String| {
//!         let pool = pool.clone();
//!         async move {
//!             let client = pool.acquire().await?;
//!             client.request("text/words", text).await
//!         }
//!     };
//!     let asking: Vec<_> = (1..=20).map(|n| tokio::spawn(ask("word ".repeat(n)))).collect();
//!     for (task, count) in asking.into_iter().zip(1..) {
//!         let answer = task.await??;
//!         let text = String::from_utf8(answer.payload)?;
//!         assert!(text.starts_with(&format!("{count} (shard 0, answer ")), "{text}");
//!     }
//!
//!     let client = pool.acquire().await?;
//!     let stats: Stats = client.request_proto("$sys/stats", &()).await?;
//!     assert!(stats.total["requests"] >= 20);
//!     assert!((1..=4).contains(&stats.connections));
//!     drop(client);
//!
//!     pool.close().await;
//!     server.drain();
//!     server.wait()?;
//!     Ok(())
//! }
//! ```
