//! Whatever other members say.

use super::image::{APPEND, entry, voters};
use super::member::{ME, Member};
use drystone_env::sim::SimDisk;
use drystone_proto::Message;
use drystone_proto::raft::{ConfChange, ConfChangeStep, RaftConfState, RaftEntry, RaftMessage};
use drystone_raft::{Input, SnapshotMeta, Start, Status};
use drystone_types::{LogIndex, NodeId, Term};
use std::collections::BTreeMap;

/// More than any state that a member can be in needs.
const MOST_STEPS: usize = 48;
const VOTE_ANSWER: u32 = 6;
/// The kinds of messages, the ones that travel first.
const KINDS: [u32; 16] = [3, 4, 5, 6, 8, 9, 14, 15, 16, 17, 18, 3, 4, 7, 2, 99];

struct Run<'a> {
    script: &'a [u8],
    member: Member,
    /// Whom it voted for, by term.
    votes: BTreeMap<u64, u64>,
    /// The highest term that it has told.
    told: u64,
}

/// A script: a byte that chooses what happens, and the bytes that it takes. Numbers are told by their distance from
/// what the member knows, so that most of them mean something. The member never panics, whatever it is told: it drops
/// what makes no sense, or stops. It delivers in order, gives one vote in a term, and forgets no term that it has told.
pub fn messages(script: &[u8]) {
    let disk = SimDisk::new(1);
    let (member, _) = Member::open(&disk, voters(), 0).expect("an empty disk");
    let mut run = Run {
        script,
        member,
        votes: BTreeMap::new(),
        told: 0,
    };
    if run.byte() % 2 == 1 {
        run.elect();
    }
    for _ in 0..MOST_STEPS {
        if run.script.is_empty() {
            break;
        }
        run.step();
        run.check();
        if run.member.failed {
            return;
        }
    }
}

impl Run<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.script.split_first().unwrap_or((&0, &[]));
        self.script = rest;
        *first
    }

    /// A number not far from `base`, or an extreme one.
    fn near(&mut self, base: u64) -> u64 {
        match self.byte() {
            250 => u64::MAX,
            251 => u64::MAX - 1,
            252 => 0,
            253 => 1 << 63,
            254 => u64::from(u32::MAX),
            255 => 1,
            byte => base.wrapping_add_signed(i64::from(byte as i8)),
        }
    }

    /// It wins an election and commits.
    fn elect(&mut self) {
        self.member.give(Input::Campaign);
        for kind in [18, 6] {
            let term = self.member.node.status().term.0;
            let answer = |from| RaftMessage {
                kind,
                to: ME.0,
                from,
                // A pre-vote is about the next term.
                term: if kind == 18 { term + 1 } else { term },
                ..RaftMessage::default()
            };
            self.member.give(Input::Messages(vec![answer(2), answer(3)]));
        }
        let status = self.member.node.status();
        let ack = RaftMessage {
            kind: 4,
            to: ME.0,
            from: 2,
            term: status.term.0,
            index: status.last.0,
            ..RaftMessage::default()
        };
        self.member.give(Input::Messages(vec![ack]));
        assert!(self.member.node.leads_surely());
    }

    fn step(&mut self) {
        match self.byte() % 16 {
            0..=6 => {
                let message = self.message();
                self.member.give(Input::Messages(vec![message]));
            }
            7 => {
                let count = usize::from(self.byte()).min(self.script.len());
                let (body, rest) = self.script.split_at(count);
                self.script = rest;
                if let Ok(message) = RaftMessage::decode(body) {
                    self.member.give(Input::Messages(vec![message]));
                }
            }
            8 => {
                let ticks = u32::from(self.byte() % 30);
                self.member.tick(ticks);
            }
            9 => {
                let data = vec![1; usize::from(self.byte()) * 16 + 1].into();
                self.member.give(Input::Propose { token: 1, data });
            }
            10 => self.change(),
            11 => self.snapshot(),
            12 => self.local(),
            13 => self.reopen(true),
            _ => self.reopen(false),
        }
    }

    fn message(&mut self) -> RaftMessage {
        let status = self.member.node.status();
        let kind = KINDS[usize::from(self.byte() % 16)];
        let from = [2, 3, 2, 3, 2, 4, 1, 0][usize::from(self.byte() % 8)];
        let term = self.near(status.term.0);
        let index = self.near(status.last.0);
        let log_term = self.near(status.term.0);
        let commit = self.near(status.commit.0);
        let flags = self.byte();
        let count = if kind == APPEND { flags & 3 } else { flags & 1 };
        let mut entries = Vec::new();
        for n in 1..=u64::from(count) {
            entries.push(self.entry(log_term, index.wrapping_add(n)));
        }
        RaftMessage {
            kind,
            to: if flags & 128 == 0 { ME.0 } else { 2 },
            from,
            term,
            log_term,
            index,
            entries,
            commit,
            commit_term: if flags & 16 == 0 {
                0
            } else {
                self.near(status.term.0)
            },
            snapshot: None,
            request_snapshot: if flags & 4 == 0 {
                0
            } else {
                self.near(status.commit.0)
            },
            reject: flags & 8 != 0,
            reject_hint: if flags & 32 == 0 {
                0
            } else {
                self.near(status.last.0)
            },
            context: if flags & 64 == 0 {
                "".into()
            } else {
                "context".into()
            },
            priority: i64::from(flags & 16),
            kept_after: u64::from(flags & 3),
        }
    }

    fn entry(&mut self, term: u64, index: u64) -> RaftEntry {
        let byte = self.byte();
        let mut made = entry(term.wrapping_add(u64::from(byte >> 6)), index);
        if byte & 32 != 0 {
            made.index = self.near(index);
        }
        match byte & 3 {
            // A change of the membership: of any steps.
            1 => {
                made.kind = 1;
                let count = usize::from(byte >> 2 & 7).min(self.script.len());
                let (data, rest) = self.script.split_at(count);
                made.data = data.to_vec().into();
                self.script = rest;
            }
            2 => made.kind = u32::from(byte >> 2),
            _ => {}
        }
        made
    }

    fn change(&mut self) {
        let steps = (0..self.byte() % 4)
            .map(|_| {
                let byte = self.byte();
                ConfChangeStep {
                    kind: u32::from(byte & 3),
                    node: u64::from(byte >> 2 & 7),
                }
            })
            .collect();
        let change = ConfChange {
            steps,
            ..ConfChange::default()
        };
        self.member.give(Input::ProposeConf { token: 2, change });
    }

    fn snapshot(&mut self) {
        let status = self.member.node.status();
        let mut ids = || -> Vec<u64> {
            let bits = self.byte();
            (0..8).filter(|bit| bits >> bit & 1 == 1).collect()
        };
        let conf = RaftConfState {
            voters: ids(),
            learners: ids(),
            voters_outgoing: ids(),
            learners_next: ids(),
            auto_leave: false,
        };
        let meta = SnapshotMeta {
            index: LogIndex(self.near(status.last.0)),
            term: Term(self.near(status.term.0)),
            conf,
            data: "id".into(),
        };
        let from = NodeId(u64::from(self.byte() % 5));
        let term = Term(self.near(status.term.0));
        // As the wire does before it tells anybody.
        let Ok(meta) = SnapshotMeta::try_from(drystone_proto::raft::RaftSnapshotMeta::from(meta)) else {
            return;
        };
        self.member.give(Input::SnapshotReceived { from, term, meta });
    }

    fn local(&mut self) {
        let Status { applied, .. } = self.member.node.status();
        let input = match self.byte() % 6 {
            0 => Input::Campaign,
            1 => Input::ReadIndex { token: 3 },
            2 => Input::TransferLeader(NodeId(u64::from(self.byte() % 5))),
            3 => Input::Unreachable(NodeId(u64::from(self.byte() % 5))),
            4 => Input::Purge {
                below: LogIndex(self.near(applied.0)),
            },
            _ => Input::SnapshotMade {
                index: LogIndex(self.near(applied.0)),
                id: "made".into(),
            },
        };
        self.member.give(input);
    }

    fn reopen(&mut self, power: bool) {
        let disk = self.member.disk.clone();
        let (applied, now) = (self.member.last, self.member.now);
        if power {
            disk.crash();
        } else {
            disk.kill();
        }
        match Member::open(&disk, Start::Existing, applied) {
            Ok((mut member, _)) => {
                member.now = now;
                self.member = member;
            }
            Err(error) => panic!("what it wrote itself does not open: {error}"),
        }
        let term = self.member.node.status().term.0;
        assert!(term >= self.told, "term {} was told, now it is {term}", self.told);
    }

    fn check(&mut self) {
        for message in std::mem::take(&mut self.member.sent) {
            // A pre-vote tells of a term that nobody is in yet.
            if ![17, 18].contains(&message.kind) {
                self.told = self.told.max(message.term);
            }
            if message.kind == VOTE_ANSWER && !message.reject {
                let voted = *self.votes.entry(message.term).or_insert(message.to);
                assert_eq!(voted, message.to, "two votes in term {}", message.term);
            }
        }
    }
}
