//! The log over the seeded disk: what it promises when nothing fails, when power fails, and when bytes change.
#![allow(clippy::unwrap_used)]

mod behaviour;
mod corpus;
mod crash;
mod damage;
mod fuzzed;
mod golden;
mod speed;
mod support;
