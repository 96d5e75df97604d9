//! Logs of every kind of record: of a lone voter, of a follower whose entries were overwritten, of one that got a
//! snapshot.

use super::member::{ME, Member, Told};
use bytes::Bytes;
use drystone_env::sim::SimDisk;
use drystone_proto::raft::{RaftConfState, RaftEntry, RaftMessage};
use drystone_raft::{Input, SnapshotMeta, Start};
use drystone_types::{LogIndex, NodeId, Term};
use std::collections::BTreeSet;

/// A log, and what is in it.
pub struct Image {
    pub disk: SimDisk,
    /// What the state machine has applied.
    pub applied: u64,
    pub purged: u64,
    pub last: u64,
    pub term: u64,
    /// Whom it voted for in that term.
    pub vote: Option<u64>,
    /// Damage to the last batch is known as such.
    pub marked: bool,
    /// Every entry that was ever written.
    pub written: BTreeSet<(u64, Told)>,
}

pub const APPEND: u32 = 3;
pub const REQUEST_VOTE: u32 = 5;
const HEARTBEAT: u32 = 8;
/// A change that adds learner 4, as it stands in the log.
const ADD_LEARNER: &[u8] = &[0x12, 4, 0x08, 2, 0x10, 4];

pub fn voters() -> Start {
    Start::FirstBoot {
        voters: vec![NodeId(1), NodeId(2), NodeId(3)],
    }
}

/// Content that tells the entry.
fn content(term: u64, index: u64) -> Bytes {
    let stamp = [term.to_le_bytes(), index.to_le_bytes()].concat();
    let length = 16 + (index.wrapping_mul(1373) % 4000) as usize;
    stamp.into_iter().cycle().take(length).collect()
}

pub fn entry(term: u64, index: u64) -> RaftEntry {
    RaftEntry {
        kind: 0,
        term,
        index,
        data: content(term, index),
        context: Bytes::new(),
    }
}

struct Maker {
    member: Member,
    written: BTreeSet<(u64, Told)>,
}

impl Maker {
    fn new(start: Start) -> Self {
        let (member, _) = Member::open(&SimDisk::new(5), start, 0).expect("an empty disk");
        Self {
            member,
            written: BTreeSet::new(),
        }
    }

    /// A leader's entries behind `index` of term `log_term`.
    fn append(&mut self, from: u64, (log_term, index): (u64, u64), entries: Vec<RaftEntry>, commit: u64) {
        let term = entries.last().map_or(log_term, |entry| entry.term);
        for entry in &entries {
            let command = (entry.kind == 0).then(|| entry.data.clone());
            self.written.insert((entry.index, (entry.term, command)));
        }
        let kind = if entries.is_empty() { HEARTBEAT } else { APPEND };
        self.member.give(Input::Messages(vec![RaftMessage {
            kind,
            to: ME.0,
            from,
            term,
            log_term,
            index,
            entries,
            commit,
            ..RaftMessage::default()
        }]));
    }

    fn image(mut self, marked: bool, applied: u64, vote: Option<u64>) -> Image {
        if marked {
            self.member.tick(3);
        }
        assert!(!self.member.failed);
        let status = self.member.node.status();
        let committed = (self.member.delivered.iter()).map(|(index, told)| (*index, told.clone()));
        self.written.extend(committed);
        self.member.disk.kill();
        Image {
            disk: self.member.disk,
            applied,
            purged: status.purged.0,
            last: status.last.0,
            term: status.term.0,
            vote,
            marked,
            written: self.written,
        }
    }
}

/// Its only voter, with a purge in the middle.
pub fn lone(marked: bool) -> Image {
    let mut maker = Maker::new(Start::FirstBoot { voters: vec![ME] });
    maker.member.give(Input::Campaign);
    for token in 2..30 {
        let data = content(2, token + 1);
        maker.member.give(Input::Propose { token, data });
        if token == 20 {
            maker.member.give(Input::Purge { below: LogIndex(12) });
        }
    }
    maker.image(marked, 11, None)
}

/// Entries of a leader, a change of the membership, the entries of another leader in their place, a vote.
pub fn follower(marked: bool) -> Image {
    let mut maker = Maker::new(voters());
    let mut first: Vec<RaftEntry> = (2..=20).map(|index| entry(3, index)).collect();
    first[10].kind = 1;
    first[10].data = Bytes::from_static(ADD_LEARNER);
    maker.append(2, (1, 1), first, 12);
    maker.append(3, (3, 17), (18..=25).map(|index| entry(5, index)).collect(), 20);
    maker.member.give(Input::Purge { below: LogIndex(8) });
    // It takes part in an election only when it has not heard of a leader for a while.
    maker.member.tick(13);
    maker.member.give(vote(7, 2, (5, 25)));
    maker.image(marked, 7, Some(2))
}

/// A log that a snapshot replaced, and entries behind it.
pub fn restored(marked: bool) -> Image {
    let mut maker = Maker::new(voters());
    maker.append(2, (1, 1), (2..=6).map(|index| entry(3, index)).collect(), 4);
    maker.member.give(Input::SnapshotReceived {
        from: NodeId(2),
        term: Term(5),
        meta: SnapshotMeta {
            index: LogIndex(100),
            term: Term(4),
            conf: RaftConfState {
                voters: vec![1, 2, 3],
                ..RaftConfState::default()
            },
            data: "id".into(),
        },
    });
    maker.append(
        2,
        (4, 100),
        (101..=110).map(|index| entry(5, index)).collect(),
        105,
    );
    maker.image(marked, 100, None)
}

/// Somebody asks for this member's vote.
pub fn vote(term: u64, from: u64, (log_term, index): (u64, u64)) -> Input {
    Input::Messages(vec![RaftMessage {
        kind: REQUEST_VOTE,
        to: ME.0,
        from,
        term,
        log_term,
        index,
        ..RaftMessage::default()
    }])
}

/// True if what a member says of an entry was written once.
pub fn was_written(image: &Image, index: u64, told: &Told) -> bool {
    image.written.contains(&(index, told.clone()))
}

/// As [`told`], of a rescued entry.
pub fn rescued(entry: &drystone_raft::RescuedEntry) -> Told {
    (entry.term.0, entry.command.clone())
}
