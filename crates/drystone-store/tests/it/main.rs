//! The store at its boundary, on simulated disks.

mod basics;
mod damage;
mod harness;
mod model;
