//! Crashes, cuts and bad networks.

use super::{Event, MS, Sim};
use drystone_env::{Disk, Rng};

impl Sim {
    pub fn fault(&mut self) {
        if self.now >= self.plan.faults_until {
            return;
        }
        let ids: Vec<u64> = self.members.keys().copied().collect();
        let one = ids[self.rng.below(ids.len() as u64) as usize];
        let other = ids[self.rng.below(ids.len() as u64) as usize];
        if self.disk_faults && self.rng.chance(1, 2) {
            self.break_disk(one);
        }
        match self.rng.below(14) {
            0..=2 => self.crash(one, true),
            3 => self.crash(one, false),
            4 => {
                for id in ids {
                    self.crash(id, true);
                }
                self.sometimes("power lost everywhere");
            }
            5 => {
                self.network.cuts.insert((one, other));
                self.sometimes("one-way cut");
            }
            6 => {
                for id in ids {
                    self.network.cuts.extend([(one, id), (id, one)]);
                }
                self.sometimes("member cut off");
            }
            7 => {
                // A state that was never synced: behind a purged log this is a member without its state.
                self.lose_state(one);
            }
            8..=9 => self.network.cuts.clear(),
            10 => {
                self.network.slow_disks.insert(one);
                self.sometimes("slow disk");
            }
            11 => self.network.slow_disks.clear(),
            _ => {
                self.network.loss = self.rng.below(20);
                self.network.duplication = self.rng.below(20);
                self.network.slow = self.rng.below(10);
            }
        }
        self.soon(50 * MS, 600 * MS, Event::Fault);
    }

    // One of the next operations on this disk fails.
    fn break_disk(&mut self, id: u64) {
        let (kind, nth) = (self.rng.below(3), 1 + self.rng.below(8));
        let room = self.rng.below(200 << 10);
        let member = self.member(id);
        if member.node.is_none() || member.broken {
            return;
        }
        member.broken = true;
        let disk = &member.disk;
        match kind {
            0 => disk.fail_write(nth),
            1 => disk.fail_sync(nth),
            _ => {
                let used = disk.space().map_or(0, |space| space.total - space.free);
                disk.set_capacity(used + room);
            }
        }
    }

    fn crash(&mut self, id: u64, power: bool) {
        self.stop(id, power);
        self.sometimes(if power { "power lost" } else { "process killed" });
        self.soon(10 * MS, 900 * MS, Event::Start { to: id });
    }

    // The state machine is found broken at the next start and begins empty; never on two members at once.
    fn lose_state(&mut self, id: u64) {
        let lacking = |member: &super::Member| {
            member.synced == super::State::EMPTY
                || member
                    .node
                    .as_ref()
                    .is_none_or(|node| node.status().needs_snapshot)
        };
        let others = self
            .members
            .iter()
            .filter(|(other, member)| **other != id && lacking(member))
            .count();
        if others == 0 {
            self.stop(id, true);
            self.member(id).synced = super::State::EMPTY;
            self.sometimes("state lost");
            self.soon(10 * MS, 300 * MS, Event::Start { to: id });
        }
    }

    pub fn heal(&mut self) {
        self.network = Default::default();
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in ids {
            self.start(id);
            // What was armed and did not come to pass.
            let member = self.member(id);
            member.disk.disarm();
            member.disk.set_capacity(1 << 40);
        }
    }
}
