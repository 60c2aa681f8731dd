//! Chaos on the real binary: servers one after the other at one address, each with clients at
//! work while faults strike; each then comes to rest, drains under load or is killed. A checker
//! judges the whole history: order, loss, duplicates, answers, retained messages, wills, and
//! that everything is given back.
//!
//! Every fault is drawn from the seed; which bytes it meets is the machine's. In the tests a
//! few servers and faults, counted; by `scripts/chaos` as long as asked for.

#[path = "chaos/broken.rs"]
mod broken;
#[path = "chaos/checker/mod.rs"]
mod checker;
#[path = "chaos/client.rs"]
mod client;
#[path = "chaos/connection.rs"]
mod connection;
#[path = "chaos/crew.rs"]
mod crew;
#[path = "chaos/fault.rs"]
mod fault;
#[path = "chaos/history.rs"]
mod history;
#[path = "chaos/native.rs"]
mod native;
#[path = "chaos/network.rs"]
mod network;
#[path = "chaos/reconnect.rs"]
mod reconnect;
#[path = "chaos/trial.rs"]
pub mod trial;
#[path = "chaos/workload.rs"]
mod workload;
#[path = "chaos/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use trial::Plan;

/// Faults that each server meets.
const FAULTS: usize = 30;
/// Servers in the tests.
const SERVERS: u64 = 6;

fn asked(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn the_server_keeps_its_promises_whatever_happens_to_its_clients_and_to_itself() {
    let seconds = asked("RINGMAIL_CHAOS_SECONDS").map(Duration::from_secs);
    let seed = asked("RINGMAIL_CHAOS_SEED").unwrap_or(1);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let shards = asked("RINGMAIL_CHAOS_SHARDS").map(|count| usize::try_from(count).unwrap());
    if let Some(shards) = shards {
        assert!(shards <= cores, "{shards} shards, but only {cores} cores");
    }
    let mut ground = trial::ground();
    let began = Instant::now();
    let mut struck: BTreeMap<String, usize> = BTreeMap::new();
    let mut met: BTreeMap<&str, u64> = BTreeMap::new();
    let mut counts = [0, 0];
    let mut servers = 0;
    while seconds.map_or(servers < SERVERS, |all| began.elapsed() < all) {
        let plan = Plan::draw(seed.wrapping_add(servers), FAULTS);
        let either = [2, cores.clamp(2, 4)][usize::from(plan.seed % 2 == 1)];
        let shards = shards.unwrap_or(either);
        ground.shards = shards;
        println!("server {servers}, {shards} shards: {plan:?}");
        match trial::run(&plan, &mut ground) {
            Ok(outcome) => {
                counts[0] += outcome.counts[0];
                counts[1] += outcome.counts[1];
                for (name, count) in outcome.met {
                    *met.entry(name).or_default() += count;
                }
                ground.stale = outcome.stale;
            }
            Err(what) => panic!(
                "server {servers} of seed {seed} ({shards} shards, {:?} in): {what}\n\
                 again: scripts/chaos --seconds 1 --seed {} --shards {shards}",
                began.elapsed(),
                plan.seed
            ),
        }
        for fault in &plan.faults {
            *struck.entry(fault.name()).or_default() += 1;
        }
        *struck.entry(format!("{:?}", plan.fate)).or_default() += 1;
        servers += 1;
    }
    let [operations, came] = counts;
    println!(
        "seed {seed}: {servers} servers in {:?}, {operations} operations, {came} \
         messages and answers judged; faults: {struck:?}; met: {met:?}",
        began.elapsed()
    );
}
