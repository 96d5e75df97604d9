//! The store at its boundary, on simulated disks.

#![allow(clippy::unwrap_used)]

mod basics;
mod damage;
mod harness;
mod model;
