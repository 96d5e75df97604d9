//! What a member is told when it opens.

use crate::OpenError;
use drystone_types::{BootId, LogIndex, NodeId, Term};
use drystone_wal::WalConfig;
use std::time::Duration;

/// What an absent log means. A log that exists is opened whatever this says, but for [`Start::Existing`] it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The log must exist: without one the member does not open, because a voter that lost its log must never
    /// vote again under its id. The only right choice once the first open has returned.
    Existing,
    /// Permission to begin a new group with these voters, the same list on each of them. The caller remembers
    /// (durably, before the first message leaves) that open has returned once, and never permits it again.
    FirstBoot {
        /// The first voters, this one included.
        voters: Vec<NodeId>,
    },
    /// Permission to begin an empty log as a new member under a new id: it waits to be added as a learner. To be
    /// remembered like a first boot.
    Join,
    /// Permission to begin an empty log behind a restored state, in a new history with this member as its only
    /// voter. Whatever was promised in the old history is void, so the caller must have given that one up.
    Restored {
        /// What the state has applied.
        index: LogIndex,
        /// Above every term of the old history that is known.
        term: Term,
    },
}

/// Configuration of one member.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This member. Not zero.
    pub id: NodeId,
    /// This start of its process: makes the contexts of reads unique.
    pub boot: BootId,
    /// What an absent log means.
    pub start: Start,
    /// The index up to which the state machine has durably applied (0 for an empty one). Committed entries are
    /// delivered from the next one on.
    pub applied: LogIndex,
    /// Log segments; the directory in it must be this member's own.
    pub log: WalConfig,
    /// The unit of time of elections. Default 25 ms.
    pub tick: Duration,
    /// Ticks between heartbeats. Default 4 (100 ms).
    pub heartbeat_ticks: u32,
    /// A follower campaigns after between once and twice as many ticks without a leader. Default 12 (300-600 ms).
    pub election_ticks: u32,
    /// A ReadIndex that got no answer within as many ticks is asked again with a fresh context (its message or
    /// the answer was lost). Default 20 (500 ms).
    pub read_retry_ticks: u32,
    /// A read fails after as many ticks. Default 200 (5 s).
    pub read_timeout_ticks: u32,
    /// A proposal of a deposed leader that is neither seen committed nor overtaken within as many ticks is given
    /// up as unknown. Default 400 (10 s).
    pub proposal_timeout_ticks: u32,
    /// Append messages under way to one member. Default 256: with full messages 16 MiB, more than what is under way at
    /// 10 Gbit/s over 10 ms. What does not fit into the queues of both sides is lost, and all behind it is read, encoded
    /// and sent again: with 256 MiB a member that caught up took nine tenths of the commands' speed.
    pub max_inflight_messages: u32,
    /// Bytes of entries in one append message. Default 64 KiB; small appends are batched.
    pub max_message_bytes: u64,
    /// Bytes of entries in one round of delivery. Default 4 MiB, so that applying can be interleaved.
    pub max_committed_bytes: u64,
    /// Proposals beyond as many bytes of uncommitted entries are refused as busy. Default 64 MiB.
    pub max_uncommitted_bytes: u64,
    /// Proposals are refused as busy while as many bytes of committed entries wait to be applied: a leader whose
    /// state machine does not keep up must not take more. Default 64 MiB. A follower takes no entries while it holds
    /// this and `max_uncommitted_bytes` of what it has not applied.
    pub max_unapplied_bytes: u64,
    /// The same in entries. Default 65,536: four times `max_proposals`, about what is applied in a second.
    pub max_unapplied_entries: u64,
    /// Proposals beyond as many unanswered tokens are refused as busy. Default 16,384: ten times what commits in
    /// a round trip at the highest measured rate.
    pub max_proposals: usize,
    /// Reads beyond as many unanswered tokens fail as busy. Default 65,536; they share contexts.
    pub max_reads: usize,
    /// Bytes of entries kept in memory before [`Output::PurgeWanted`](crate::Output::PurgeWanted) asks for a
    /// purge that keeps half of them. Default 64 MiB; a member further behind than what is kept gets a snapshot. A
    /// member that is alone forgets entries by itself, and keeps them on disk until it is told to purge; so does every
    /// member while it reads its log ([`RaftNode::open_applying`](crate::RaftNode::open_applying)).
    pub log_memory_bytes: u64,
    /// Up to as many bytes of entries a leader keeps for members that it hears and that lack them: what follows a
    /// snapshot from the moment it is asked for until the member has caught up. The others keep what it keeps. Beyond it the log is purged as
    /// asked, and the member may need another snapshot. Default 512 MiB: two minutes of small commands at the
    /// highest measured rate.
    pub catch_up_bytes: u64,
    /// For as many ticks after it was heard last, entries are kept for a member, and after the leader was heard last what
    /// it kept. Default 2,400 (60 s), so that a transfer that was cut off can go on.
    pub catch_up_ticks: u64,
}

impl RaftConfig {
    /// The defaults for this member.
    pub fn new(id: NodeId, boot: BootId, start: Start, applied: LogIndex, log: WalConfig) -> Self {
        Self {
            id,
            boot,
            start,
            applied,
            log,
            tick: Duration::from_millis(25),
            heartbeat_ticks: 4,
            election_ticks: 12,
            read_retry_ticks: 20,
            read_timeout_ticks: 200,
            proposal_timeout_ticks: 400,
            max_inflight_messages: 256,
            max_message_bytes: 64 << 10,
            max_committed_bytes: 4 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_unapplied_bytes: 64 << 20,
            max_unapplied_entries: 65_536,
            max_proposals: 16_384,
            max_reads: 65_536,
            log_memory_bytes: 64 << 20,
            catch_up_bytes: 512 << 20,
            catch_up_ticks: 2_400,
        }
    }

    /// Reports every fault at once.
    ///
    /// # Errors
    /// [`OpenError::Config`] with all of them.
    pub fn validate(&self) -> Result<(), OpenError> {
        let mut faults = Vec::new();
        let mut check = |good: bool, fault: &str| {
            if !good {
                faults.push(fault.to_owned());
            }
        };
        check(self.id.0 != 0, "id must not be 0");
        check(!self.tick.is_zero(), "tick must not be 0");
        check(self.heartbeat_ticks > 0, "heartbeat-ticks must not be 0");
        check(
            self.election_ticks > 2 * self.heartbeat_ticks,
            "election-ticks must exceed twice heartbeat-ticks",
        );
        check(self.read_retry_ticks > 0, "read-retry-ticks must not be 0");
        check(
            self.max_inflight_messages > 0,
            "max-inflight-messages must not be 0",
        );
        check(self.max_message_bytes > 0, "max-message-bytes must not be 0");
        check(
            self.max_uncommitted_bytes > 0,
            "max-uncommitted-bytes must not be 0",
        );
        check(self.max_unapplied_bytes > 0, "max-unapplied-bytes must not be 0");
        check(
            self.max_unapplied_entries > 0,
            "max-unapplied-entries must not be 0",
        );
        check(self.max_proposals > 0, "max-proposals must not be 0");
        check(self.max_reads > 0, "max-reads must not be 0");
        if let Start::FirstBoot { voters } = &self.start {
            let distinct: std::collections::BTreeSet<_> = voters.iter().collect();
            check(distinct.len() == voters.len(), "a first voter is named twice");
            check(
                voters.contains(&self.id),
                "the first voters do not name this member",
            );
            check(voters.iter().all(|voter| voter.0 != 0), "a first voter has id 0");
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(OpenError::Config { faults })
        }
    }
}
