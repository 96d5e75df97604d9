//! What only a leader knows and does: loads, chunk ids in memory, orders to delete, the state of redundancy.
//!
//! All of it is soft: it belongs to one term, is dropped with it, and no promise rests on it.

pub(crate) mod chunk_server;
mod confirmed;
mod deletion_limit;
pub(crate) mod office;
pub(crate) mod orphan;
mod ranges;
mod reclaim;
pub(crate) mod reservations;
#[cfg(test)]
pub(crate) mod rig;
mod servers;
pub(crate) mod tasks;
