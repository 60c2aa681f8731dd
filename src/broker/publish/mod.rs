//! PUBLISH: from one connection to many.
//!
//! | file | idea |
//! |---|---|
//! | `route` | the way of a publication: checked, matched, delivered or sent on |
//! | `publication`, `parcel` | a publication, and a message's bytes on their way, as values |
//! | `deliver` | one message to one subscriber |
//! | `pending` | what waits for a slow subscriber, and what is dropped then |
//! | `fanout`, `fanout_queue`, `audience` | a publication to many, in slices; who they are |
//! | `backlog` | fan-outs, replays and what the gone have left, as later turns go on with them |
//! | `group`, `trail` | a group's message: to which member, and whether that has got it |
//! | `legacy` | wills, and what a gone member had not got |
//! | `retain`, `home`, `replay` | each topic's last message; one order of them; much of that to one, in slices |
//! | `schema`, `conform`, `check`, `finding` | payloads by schema: refused, translated; long ones by a worker |

pub(crate) mod audience;
pub(crate) mod backlog;
pub(crate) mod check;
pub(crate) mod conform;
pub(crate) mod deliver;
pub(crate) mod fanout;
pub(crate) mod fanout_queue;
pub(crate) mod finding;
pub(crate) mod group;
pub(crate) mod home;
pub(crate) mod legacy;
pub(crate) mod parcel;
pub(crate) mod pending;
pub(crate) mod publication;
pub(crate) mod replay;
pub(crate) mod retain;
pub(crate) mod route;
pub(crate) mod schema;
pub(crate) mod trail;
