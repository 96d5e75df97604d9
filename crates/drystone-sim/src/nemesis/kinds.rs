//! What the scenarios other than `mixed` add to the faults.

use super::Nemesis;
use super::acts::{Act, DiskFault};
use crate::cluster::Node;
use crate::run::Run;
use crate::scenario::Kind;
use drystone_env::Rng;

impl Nemesis {
    /// Adds what the scenario is about, between two moments.
    pub(super) fn add_kind(&mut self, kind: Kind, run: &Run, begin: u64, end: u64) {
        match kind {
            Kind::Mixed | Kind::Lone => {}
            Kind::Retry => self.add_lost_answers(run, begin, end),
            Kind::Rot => self.add_rot(begin, end),
            Kind::Names => self.add_depositions(run, begin, end),
            Kind::Moves => self.add_moves(begin, end),
            Kind::Space => self.add_stuck_writes(run, begin, end),
        }
    }

    /// Clients and metadata servers do not hear each other for a while: one way or both, one server or all. Leaders
    /// pause and go.
    fn add_lost_answers(&mut self, run: &Run, begin: u64, end: u64) {
        let metas = run.cluster.metas.len() as u64;
        let clients = run.clients.hosts();
        for _ in 0..20 {
            let from = begin + self.rng.below(end - begin);
            let time = [300_000, 2_000_000, 6_500_000][self.rng.below(3) as usize];
            let to = (from + time / 2 + self.rng.below(time / 2)).min(end);
            let client = clients[self.rng.below(clients.len() as u64) as usize];
            let (all, one) = (self.rng.chance(1, 2), self.rng.below(metas));
            let (there, back) = (self.rng.chance(1, 2), self.rng.chance(3, 4));
            for at in (0..metas).filter(|at| all || *at == one) {
                let meta = run.cluster.host(Node::Meta(at as usize));
                if there {
                    self.at(from, Act::CutHosts(client, meta));
                    self.at(to, Act::HealHosts(client, meta));
                }
                if back {
                    self.at(from, Act::CutHosts(meta, client));
                    self.at(to, Act::HealHosts(meta, client));
                }
            }
        }
        for _ in 0..8 {
            let from = begin + self.rng.below(end - begin);
            let client = self.rng.below(clients.len() as u64) as usize;
            let time = 3_000_000 + self.rng.below(4_000_000);
            self.at(from, Act::CutClient { client, time });
        }
        for _ in 0..5 {
            let from = begin + self.rng.below(end - begin);
            let time = 1_000_000 + self.rng.below(3_000_000);
            self.at(from, Act::CutLeader { time, still: 0 });
        }
        for _ in 0..6 {
            let from = begin + self.rng.below(end - begin);
            let time = 200_000 + self.rng.below(2_000_000);
            if self.rng.chance(1, 2) {
                self.at(from, Act::PauseLeader { time });
            } else {
                self.at(from, Act::StopLeader { power: false });
                self.at((from + time).min(end), Act::RestartMetas);
            }
        }
    }

    /// One leader after the other is cut off from the other voters and from nobody else, most of them while they stand
    /// still; leadership moves in between, so that clients stay with servers that do not lead.
    fn add_depositions(&mut self, run: &Run, begin: u64, end: u64) {
        let metas = run.cluster.metas.len() as u64;
        let mut from = begin;
        while from < end {
            let still = [0, 600_000, 1_400_000][self.rng.below(3) as usize];
            let time = still + 700_000 + self.rng.below(800_000);
            self.at(from, Act::CutLeader { time, still });
            from += time + self.rng.below(500_000);
            let to = self.rng.below(metas) as usize;
            self.at(from, Act::TransferLeader(to));
            from += 100_000 + self.rng.below(500_000);
        }
    }

    /// The one voter is copied, goes on for a moment, and comes back elsewhere as the copy, which lacks what it has
    /// acknowledged meanwhile; then it has the time to get its vote back, and mostly the leader goes.
    fn add_moves(&mut self, begin: u64, end: u64) {
        const ROUND: u64 = 6_000_000;
        let at = self.liars.1;
        let mut from = begin + self.rng.below(1_500_000);
        while from + ROUND / 2 < end {
            self.at(from, Act::CopyMeta(at));
            let moves = from + 200_000 + self.rng.below(1_000_000);
            self.at(moves, Act::MoveMeta(at));
            if self.rng.chance(2, 3) {
                // Its predecessor is taken for dead after two seconds.
                let goes = moves + 2_000_000 + self.rng.below(2_000_000);
                self.at(goes, Act::StopLeader { power: false });
                self.at((goes + 300_000).min(end), Act::RestartMetas);
            }
            from += ROUND;
        }
    }

    /// Of one chunk server after the other what its disk begins to do in a moment takes seconds, and what comes after it does not;
    /// every second time the power goes before it is done.
    fn add_stuck_writes(&mut self, run: &Run, begin: u64, end: u64) {
        let chunks = run.cluster.chunks.len() as u64;
        let mut from = begin;
        while from < end {
            let node = Node::Chunk(self.rng.below(chunks) as usize);
            let cut = self.rng.chance(1, 2);
            // Half an operation; what is written in vain is deleted after some seconds.
            let time = if cut { 500_000 } else { 1_500_000 } + self.rng.below(1_500_000);
            let moment = 2_000 + self.rng.below(60_000);
            self.at(from, Act::StallDisk { node, time });
            self.at(from + moment, Act::QuickDisk(node));
            if cut {
                let cut = from + moment + self.rng.below(time);
                let (power, aimed) = (true, false);
                self.at(cut, Act::Stop { node, power, aimed });
                self.at((cut + 100_000).min(end), Act::Restart(node));
            }
            from += moment + self.rng.below(200_000);
        }
    }

    fn add_rot(&mut self, begin: u64, end: u64) {
        let node = Node::Chunk(self.liars.0);
        for _ in 0..24 {
            let from = begin + self.rng.below(end - begin);
            let nth = 1 + self.rng.below(30);
            let how = match self.rng.below(8) {
                0 => DiskFault::Lost(nth),
                1 => DiskFault::Misdirected(nth),
                _ => DiskFault::Flip,
            };
            self.at(from, Act::FailDisk { node, how });
        }
    }
}
