//! A message server for devices and services: thread per core, io_uring, shared nothing.

#![deny(unsafe_code)]

#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod cli;
pub mod client;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod proto;
#[doc(hidden)]
pub mod ring;
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod shard;

pub use client::blocking;
pub use server::config::Config;
pub use server::{Error as ServerError, Running, Server};
pub use shard::{Answer, Deferred, Failure, Outcome, Reply, Request, Service};
