//! A message server for devices and services: thread per core, io_uring, shared nothing.

#![deny(unsafe_code)]

#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod server;
