//! Delay, loss, duplication, reordering, one-way cuts.

use super::{Event, MS, Sim};
use drystone_env::Rng;
use drystone_proto::raft::{RaftMessage, RaftMessages};
use prost::Message;
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Network {
    /// (from, to)
    pub cuts: BTreeSet<(u64, u64)>,
    /// In percent.
    pub loss: u64,
    pub duplication: u64,
    pub slow: u64,
    /// Members whose disks are slow: what they have not synced is much.
    pub slow_disks: BTreeSet<u64>,
}

impl Network {
    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cuts.contains(&(from, to))
    }
}

impl Sim {
    pub fn post(&mut self, from: u64, to: u64, messages: Vec<RaftMessage>) {
        if self.rng.below(100) < self.network.loss {
            self.sometimes("message lost");
            return;
        }
        let twice = self.rng.below(100) < self.network.duplication;
        // Through the wire's own codec.
        let bytes = RaftMessages {
            messages,
            ..RaftMessages::default()
        }
        .encode_to_vec();
        for _ in 0..if twice { 2 } else { 1 } {
            let messages = RaftMessages::decode(bytes.as_slice())
                .expect("our own bytes")
                .messages;
            let most = if self.rng.below(100) < self.network.slow {
                400 * MS
            } else {
                3 * MS
            };
            self.soon(MS / 10, most, Event::Mail { from, to, messages });
        }
        if twice {
            self.sometimes("message doubled");
        }
    }
}
