//! Writers of unique values and readers at any member, and what they may see.

use super::{Event, MS, SECOND, Sim};
use bytes::Bytes;
use drystone_env::Rng;
use drystone_proto::raft::{ConfChange, ConfChangeStep};
use drystone_raft::{CommittedEntry, DropReason, EntryKind, Input, Start};
use drystone_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Clients {
    pub stopped: bool,
    /// Nobody asks for another leader.
    pub keep_leader: bool,
    next: u64,
    /// Tokens under way: who was asked, and what must at least be seen by it (for a write: be below it).
    pending: BTreeMap<u64, Pending>,
    /// The index of the newest write or read that any client has seen complete.
    seen: u64,
    /// Commands that certainly do not happen.
    refused: BTreeSet<u64>,
    pub acknowledged: u64,
    pub reads: u64,
    replace_asked: u64,
}

struct Pending {
    at: u64,
    since: u64,
    floor: u64,
    read: bool,
}

impl Sim {
    pub fn client(&mut self) {
        if self.clients.stopped {
            return;
        }
        let ids: Vec<u64> = self.members.keys().copied().collect();
        let at = ids[self.rng.below(ids.len() as u64) as usize];
        let leads = self.members[&at]
            .node
            .as_ref()
            .is_some_and(|node| node.is_leader());
        let up = self.members[&at].node.is_some();
        if up && (leads || self.rng.chance(1, 4)) {
            let many = if self.rng.chance(1, 30) { 20 } else { 1 };
            for _ in 0..many {
                self.write(at);
            }
        }
        if up && self.rng.chance(1, 2) {
            self.read(at);
        }
        if self.plan.replace {
            self.replace(at);
        }
        if leads && self.rng.chance(1, 400) && !self.clients.keep_leader {
            let to = ids[self.rng.below(ids.len() as u64) as usize];
            self.sometimes("leadership handed over");
            self.input(at, Input::TransferLeader(NodeId(to)));
        }
        self.soon(MS, 12 * MS, Event::Client);
    }

    fn token(&mut self, at: u64, read: bool) -> u64 {
        self.clients.next += 1;
        let (token, floor) = (self.clients.next, self.clients.seen);
        self.clients.pending.insert(
            token,
            Pending {
                at,
                since: self.now,
                floor,
                read,
            },
        );
        token
    }

    fn write(&mut self, at: u64) {
        let token = self.token(at, false);
        let most = if self.rng.chance(1, 20) { 2000 } else { 60 };
        let length = 8 + self.rng.below(most) as usize;
        let mut data = token.to_le_bytes().to_vec();
        data.resize(length, 7);
        self.input(
            at,
            Input::Propose {
                token,
                data: data.into(),
            },
        );
    }

    fn read(&mut self, at: u64) {
        let token = self.token(at, true);
        self.input(at, Input::ReadIndex { token });
    }

    fn answer(&mut self, token: u64) -> Pending {
        let seed = self.plan.seed;
        self.clients
            .pending
            .remove(&token)
            .unwrap_or_else(|| panic!("seed {seed}: token {token} answered twice"))
    }

    pub fn accepted(&mut self, token: u64, entry: &CommittedEntry) {
        let pending = self.answer(token);
        let (seed, index) = (self.plan.seed, entry.index.0);
        assert!(!pending.read);
        if let EntryKind::Command(data) = &entry.kind {
            assert_eq!(command(data), token, "seed {seed}: index {index} is another's");
        }
        // What was complete before the write began is before it in the log.
        assert!(
            pending.floor < index,
            "seed {seed}: write at {index} began after {}",
            pending.floor
        );
        if let EntryKind::Command(_) = &entry.kind {
            self.clients.seen = self.clients.seen.max(index);
        }
        self.clients.acknowledged += 1;
        self.oracle.acknowledged(index, entry.term.0);
    }

    pub fn dropped(&mut self, token: u64, reason: DropReason) {
        let pending = self.answer(token);
        assert!(!pending.read);
        match reason {
            DropReason::Overtaken => self.sometimes("proposal overtaken"),
            DropReason::Unknown => self.sometimes("proposal unknown"),
            DropReason::Busy => self.sometimes("proposal refused as busy"),
            DropReason::Refused => self.sometimes("membership change refused"),
            DropReason::NotLeader { .. } => {}
        }
        if !reason.may_happen() {
            self.clients.refused.insert(token);
        }
    }

    pub fn read_failed(&mut self, token: u64) {
        let pending = self.answer(token);
        assert!(pending.read);
        self.sometimes("read failed");
    }

    pub fn serve_reads(&mut self, id: u64) {
        let member = self.member(id);
        let applied = member.state.applied;
        let written_at = member.state.written_at;
        let (ready, wait): (Vec<_>, Vec<_>) =
            member.reads.drain(..).partition(|(_, index)| *index <= applied);
        member.reads = wait;
        for (token, index) in ready {
            let pending = self.answer(token);
            let seed = self.plan.seed;
            assert!(pending.read && index <= applied);
            assert!(
                written_at >= pending.floor,
                "seed {seed}: read at {id} saw {written_at}, but {} was complete before it began",
                pending.floor
            );
            self.clients.seen = self.clients.seen.max(written_at);
            self.clients.reads += 1;
            if !self.members[&id]
                .node
                .as_ref()
                .is_some_and(|node| node.is_leader())
            {
                self.sometimes("read at a follower");
            }
        }
    }

    /// A member has died with everything that it was asked.
    pub fn lose_tokens(&mut self, id: u64) {
        self.clients.pending.retain(|_, pending| pending.at != id);
    }

    pub fn check_clients(&mut self) {
        let seed = self.plan.seed;
        for (index, (_, kind)) in &self.oracle.log {
            if let EntryKind::Command(data) = kind {
                let token = command(data);
                assert!(
                    !self.clients.refused.contains(&token),
                    "seed {seed}: {token} at {index} was refused"
                );
            }
        }
        let voters = self.voters_now();
        for (token, pending) in self
            .clients
            .pending
            .iter()
            .filter(|(_, pending)| voters.contains(&pending.at))
        {
            // Only a proposal of a deposed leader may still be open.
            let late = pending.read || self.now > pending.since + 20 * SECOND;
            assert!(!late, "seed {seed}: token {token} is stuck");
        }
        assert!(
            self.clients.acknowledged > 0 && self.clients.reads > 0,
            "seed {seed}: nothing happened"
        );
    }

    pub fn voters_now(&self) -> Vec<u64> {
        let statuses = self
            .members
            .values()
            .filter_map(|member| member.node.as_ref())
            .map(|node| node.status());
        let newest = statuses
            .max_by_key(|status| status.applied)
            .expect("somebody is up");
        newest.conf.voters
    }

    // Voter 2 is replaced by a new member, which is the plan's last one.
    fn replace(&mut self, at: u64) {
        const OLD: u64 = 2;
        let new = self.plan.voters + 1;
        if self.now < SECOND || self.now < self.clients.replace_asked + 150 * MS {
            return;
        }
        if !self.members.contains_key(&new) {
            self.add_member(new, Start::Join);
        }
        let Some(node) = self.members[&at].node.as_ref().filter(|node| node.leads_surely()) else {
            return;
        };
        let status = node.status();
        let step = |kind, node| ConfChangeStep { kind, node };
        let steps = if status.conf.voters.contains(&new) {
            return;
        } else if status.conf.learners.contains(&new) {
            vec![step(0, new), step(1, OLD)]
        } else {
            vec![step(2, new)]
        };
        self.clients.replace_asked = self.now;
        let token = self.token(at, false);
        let change = ConfChange {
            steps,
            context: Bytes::new(),
            transition: 0,
        };
        self.input(at, Input::ProposeConf { token, change });
    }

    pub fn finish_replacement(&mut self) {
        if !self.plan.replace {
            return;
        }
        let new = self.plan.voters + 1;
        let want: Vec<u64> = (1..=new).filter(|id| *id != 2).collect();
        for _ in 0..20 {
            if self.voters_now() == want {
                self.sometimes("voter replaced");
                return;
            }
            let end = self.now + SECOND;
            self.run_until(end);
        }
        let statuses: Vec<_> = self
            .members
            .values()
            .filter_map(|member| member.node.as_ref())
            .map(|node| node.status())
            .collect();
        panic!(
            "seed {}: the replacement does not end: {statuses:#?}",
            self.plan.seed
        );
    }
}

fn command(data: &[u8]) -> u64 {
    u64::from_le_bytes(data[..8].try_into().expect("our own command"))
}
