//! Tests across the crate's boundary.
#![allow(missing_docs)]

mod cluster;
mod damage_store;
mod kit;
mod leader;
mod membership;
