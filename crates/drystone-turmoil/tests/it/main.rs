//! See the crate's own page. One file per promise.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;
mod deadlines;
mod determinism;
mod door;
mod framing;
mod members;
mod pressure;
mod probe;
mod raw;
mod reconnect;
mod rest;
mod seams;
mod shutdown;
mod user;
mod weather;
