//! See the crate's own page. One file per promise.

#![allow(clippy::unwrap_used, reason = "tests")]

mod deadlines;
mod door;
mod framing;
mod pressure;
mod probe;
mod raw;
mod reconnect;
mod seams;
mod shutdown;
mod user;
