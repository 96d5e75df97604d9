//! Chunk servers over real sockets and directories, with a fake metadata service.

#![allow(clippy::unwrap_used, reason = "tests")]

mod append;
mod cluster;
mod faults;
mod hang;
mod member;
mod memory;
