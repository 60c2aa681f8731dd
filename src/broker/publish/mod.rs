//! PUBLISH: from one connection to many.
//!
//! | file | idea |
//! |---|---|
//! | `route` | the path of a publication: checked, matched, delivered or sent on |
//! | `publication`, `parcel` | a publication, and a message's bytes on their way, as values |
//! | `deliver` | one message to one subscriber |
//! | `pending` | messages waiting for a slow subscriber, and which of them are dropped |
//! | `fanout`, `fanout_queue`, `audience` | a publication to many, in slices; finding its receivers |
//! | `backlog` | replays and legacies that later turns continue |
//! | `group`, `trail` | a group's message: which member gets it, and whether it has arrived |
//! | `legacy` | wills, and messages that a departed member did not receive |
//! | `retain`, `home`, `replay` | each topic's last message; their one order; many of them to one subscriber, in slices |
//! | `schema`, `conform`, `check`, `finding` | payloads by schema: refused or translated; long ones by a worker |

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
