//! Which faults come, how often, and what undoes each.

use super::Nemesis;
use super::acts::{Act, DiskFault};
use crate::cluster::Node;
use crate::run::Run;
use drystone_env::Rng;

impl Nemesis {
    /// One fault that begins at `from` and is over at `to`.
    pub(super) fn add(&mut self, run: &Run, from: u64, to: u64) {
        let node = self.node(run);
        let (power, aimed) = (self.rng.chance(1, 2), self.rng.chance(2, 3));
        match self.rng.below(24) {
            0..4 => {
                self.at(from, Act::Stop { node, power, aimed });
                self.at(to, Act::Restart(node));
            }
            4 => {
                self.at(from, Act::PowerCutOfAll);
                self.at(to.min(from + 3_000_000), Act::RestartAll);
            }
            5..7 => {
                self.at(from, Act::StopLeader { power });
                self.at(to, Act::RestartMetas);
            }
            7..9 => {
                self.at(from, Act::Pause(node));
                self.at(to, Act::Resume(node));
            }
            9..13 => self.add_cut(run, node, from, to),
            13 => {
                let (delay, loss) = (self.rng.below(300_000), self.rng.below(300));
                self.at(from, Act::Slow { node, delay, loss });
                self.at(to, Act::Quick(node));
            }
            14 => {
                let half = 10_000 + self.rng.below(2_000_000);
                self.at(from, Act::SlowDisk { node, half });
                self.at(to, Act::QuickDisk(node));
            }
            15 => {
                self.at(
                    from,
                    Act::StallDisk {
                        node,
                        time: to - from,
                    },
                );
                self.at(from + 20_000, Act::QuickDisk(node));
            }
            16 => {
                let free = self.rng.below(256 << 10);
                self.at(from, Act::Full(node, free));
                self.at(to, Act::Roomy(node));
            }
            17 => {
                let day = 86_400_000_000;
                let micros = self.rng.below(2 * day) as i64 - day as i64;
                self.at(from, Act::Wall { node, micros });
            }
            18 => {
                let ppm = self.rng.below(2000) as i64 - 1000;
                self.at(from, Act::Drift { node, ppm });
            }
            19..22 => {
                let client = self.rng.below(run.clients.len() as u64) as usize;
                self.at(from, Act::KillClient(client));
            }
            _ => {
                let to = self.rng.below(run.cluster.metas.len() as u64) as usize;
                self.at(from, Act::TransferLeader(to));
            }
        }
    }

    /// What the two servers that may lose or garble something do lose: nothing, or one thing each.
    pub(super) fn add_loss(&mut self, run: &Run, from: u64, end: u64) {
        let nth = 1 + self.rng.below(30);
        let chunk = Node::Chunk(self.liars.0);
        let how = match self.rng.below(10) {
            _ if run.cluster.chunks.is_empty() => None,
            0 => Some(DiskFault::Sync(nth)),
            1 => Some(DiskFault::Write(nth)),
            2 => Some(DiskFault::Read(nth)),
            3 => Some(DiskFault::Lost(nth)),
            4 => Some(DiskFault::Misdirected(nth)),
            5 => Some(DiskFault::Flip),
            6 => {
                self.at(from, Act::WipeChunk(self.liars.0));
                None
            }
            7 => {
                let running = self.rng.chance(1, 3);
                self.at(
                    from,
                    Act::CloneChunk {
                        at: self.liars.0,
                        running,
                    },
                );
                None
            }
            _ => None,
        };
        if let Some(how) = how {
            self.at(from, Act::FailDisk { node: chunk, how });
        }
        let (meta, nth) = (self.liars.1, 1 + self.rng.below(60));
        let from = from + self.rng.below(end - from);
        let node = Node::Meta(meta);
        let alone = run.cluster.metas.len() == 1;
        let how = match self.rng.below(8) {
            0..3 | 7 if alone => return,
            0 => DiskFault::Sync(nth),
            1 => DiskFault::Write(nth),
            2 => DiskFault::Read(nth),
            5..7 if alone => return,
            5 => {
                let running = self.rng.chance(1, 2);
                self.at(from, Act::CloneMeta { at: meta, running });
                return;
            }
            6 => {
                self.at(from, Act::WipeMeta(meta));
                return;
            }
            3..5 => {
                let lost = !alone && self.rng.chance(1, 2);
                self.at(from, Act::ReplaceMeta { at: meta, lost });
                return;
            }
            _ => {
                if self.rng.chance(2, 3) {
                    self.at(from, Act::CopyMeta(meta));
                }
                let from = from + self.rng.below(end - from);
                self.at(from, Act::MoveMeta(meta));
                return;
            }
        };
        self.at(from, Act::FailDisk { node, how });
    }

    /// Both ways, one way, from everybody, or between some pairs only.
    fn add_cut(&mut self, run: &Run, node: Node, from: u64, to: u64) {
        let nodes = run.cluster.nodes();
        let mut pairs = Vec::new();
        match self.rng.below(4) {
            0 => {
                let other = self.node(run);
                pairs.push((node, other));
            }
            1 => {
                let other = self.node(run);
                pairs.extend([(node, other), (other, node)]);
            }
            2 => {
                for &other in &nodes {
                    pairs.extend([(node, other), (other, node)]);
                }
            }
            _ => {
                for &a in &nodes {
                    for &b in &nodes {
                        if self.rng.chance(1, 4) {
                            pairs.push((a, b));
                        }
                    }
                }
            }
        }
        for (a, b) in pairs.into_iter().filter(|(a, b)| a != b) {
            self.at(from, Act::Cut(a, b));
            self.at(to, Act::Heal(a, b));
        }
    }
}
