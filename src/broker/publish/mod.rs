//! PUBLISH: from one connection to many.

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
