//! Tests across the crate's boundary.
#![allow(missing_docs, clippy::unwrap_used)]

mod cluster;
mod damage_log;
mod damage_store;
mod grace;
mod kit;
mod leader;
mod lost;
mod membership;
mod newer;
mod processes;
mod recover;
mod remove_server;
mod slow_disks;
mod space;
mod store_reads;
mod store_restart;
mod transfer;
