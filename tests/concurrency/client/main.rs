//! The client's handles and its task, on tasks that may be stopped at each lock: the files of
//! `src/client` that they meet in, over shuttle's schedules.
//!
//! A failure prints its schedule; `SHUTTLE=schedule` runs it again.

#![allow(
    dead_code,
    unused_imports,
    reason = "of the files that are modelled, only a part is"
)]

mod base;
mod client;
mod proto;

fn main() {
    client::handle::model::run();
}
