//! Linearizable reads: many tokens share one context, every question has a fresh one, none is lost in silence.

use super::RaftNode;
use super::inputs::tolerate;
use crate::{FatalError, Output, RaftConfig, ReadFailure};
use drystone_types::{BootId, LogIndex, NodeId};
use raft::StateRole;
use raft::eraftpb::Message;
use std::collections::{BTreeMap, VecDeque};

// Questions under way at once: each costs a heartbeat round, and what waits joins the next one.
const MAX_ASKED: usize = 64;
// Questions of followers that a leader keeps until it may answer them; a dropped one is asked again.
const MAX_HELD: usize = 1024;

struct Read {
    token: u64,
    deadline: u64,
}

struct Asked {
    reads: Vec<Read>,
    retry_at: u64,
}

/// Reads without an answer.
pub(super) struct Reads {
    me: NodeId,
    boot: BootId,
    most: usize,
    retry: u64,
    timeout: u64,
    next: u64,
    count: usize,
    now: u64,
    waiting: VecDeque<Read>,
    asked: BTreeMap<u64, Asked>,
    held: Vec<Message>,
}

impl Reads {
    pub(super) fn new(config: &RaftConfig) -> Self {
        Self {
            me: config.id,
            boot: config.boot,
            most: config.max_reads,
            retry: config.read_retry_ticks.into(),
            timeout: config.read_timeout_ticks.into(),
            next: 0,
            count: 0,
            now: 0,
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    pub(super) fn ask(&mut self, token: u64, now: u64, out: &mut Vec<Output>) {
        if self.count >= self.most {
            out.push(Output::ReadFailed {
                token,
                reason: ReadFailure::Busy,
            });
            return;
        }
        self.count += 1;
        self.waiting.push_back(Read {
            token,
            deadline: now + self.timeout,
        });
    }

    /// Keeps a follower's question until this leader may answer it.
    pub(super) fn hold(&mut self, message: Message) {
        if self.held.len() < MAX_HELD {
            self.held.push(message);
        }
    }

    /// Whoever was asked may have forgotten: everything is asked again, in its old order.
    pub(super) fn ask_again(&mut self) {
        for (_, asked) in std::mem::take(&mut self.asked).into_iter().rev() {
            for read in asked.reads.into_iter().rev() {
                self.waiting.push_front(read);
            }
        }
    }

    pub(super) fn tick(&mut self, now: u64, out: &mut Vec<Output>) {
        self.now = now;
        let late: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| now >= asked.retry_at)
            .map(|(id, _)| *id)
            .collect();
        for id in late.into_iter().rev() {
            for read in self
                .asked
                .remove(&id)
                .into_iter()
                .flat_map(|asked| asked.reads)
                .rev()
            {
                self.waiting.push_front(read);
            }
        }
        let count = &mut self.count;
        self.waiting.retain(|read| {
            let over = now >= read.deadline;
            if over {
                *count -= 1;
                out.push(Output::ReadFailed {
                    token: read.token,
                    reason: ReadFailure::Timeout,
                });
            }
            !over
        });
    }

    // node, boot counter, boot random, number of the question
    fn context(&self, number: u64) -> Vec<u8> {
        [self.me.0, self.boot.counter, self.boot.random, number]
            .iter()
            .flat_map(|part| part.to_le_bytes())
            .collect()
    }

    pub(super) fn answer(&mut self, context: &[u8], index: u64, out: &mut Vec<Output>) {
        let Some(number) = context.last_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
            return;
        };
        if self.context(number) != context {
            return;
        }
        // An answer to a question that was asked again meanwhile is not needed.
        for read in self
            .asked
            .remove(&number)
            .into_iter()
            .flat_map(|asked| asked.reads)
        {
            self.count -= 1;
            out.push(Output::ReadReady {
                token: read.token,
                index: LogIndex(index),
            });
        }
    }
}

impl RaftNode {
    /// Asks what can be asked now.
    pub(super) fn issue_reads(&mut self) -> Result<(), FatalError> {
        let surely = self.leads_surely();
        if !self.reads.held.is_empty() && (surely || !self.is_leader()) {
            for message in std::mem::take(&mut self.reads.held) {
                if surely {
                    self.raw.step(message).or_else(tolerate)?;
                }
            }
        }
        let follows = self.raw.raft.state == StateRole::Follower && self.raw.raft.leader_id != 0;
        if self.reads.waiting.is_empty() || self.reads.asked.len() >= MAX_ASKED || !(surely || follows) {
            return Ok(());
        }
        let number = self.reads.next;
        self.reads.next += 1;
        let reads = std::mem::take(&mut self.reads.waiting).into();
        self.reads.asked.insert(
            number,
            Asked {
                reads,
                retry_at: self.reads.now + self.reads.retry,
            },
        );
        self.raw.read_index(self.reads.context(number));
        Ok(())
    }
}
