//! Routing on three shards: what PROTOCOL.md promises in Operations, Topics and Sessions, judged
//! over whole random runs, and rule by rule.

#[path = "routing/absence.rs"]
mod absence;
#[path = "routing/cost.rs"]
mod cost;
#[path = "routing/credential.rs"]
mod credential;
#[path = "routing/fanout.rs"]
mod fanout;
#[path = "routing/group.rs"]
mod group;
#[path = "routing/judge/mod.rs"]
pub(crate) mod judge;
#[path = "routing/lane.rs"]
mod lane;
#[path = "routing/listing.rs"]
mod listing;
#[path = "routing/liveness.rs"]
mod liveness;
#[path = "routing/load.rs"]
mod load;
#[path = "routing/matching.rs"]
mod matching;
#[path = "routing/memory.rs"]
mod memory;
#[path = "routing/random.rs"]
pub(crate) mod random;
#[path = "routing/request.rs"]
mod request;
#[path = "routing/room.rs"]
mod room;
#[path = "routing/scene.rs"]
mod scene;
#[path = "routing/schema.rs"]
mod schema;
#[path = "routing/session.rs"]
mod session;
#[path = "routing/shrink.rs"]
mod shrink;
#[path = "routing/slow.rs"]
mod slow;
#[path = "routing/swarm.rs"]
mod swarm;
#[path = "routing/topic.rs"]
mod topic;
#[path = "routing/trace.rs"]
mod trace;
