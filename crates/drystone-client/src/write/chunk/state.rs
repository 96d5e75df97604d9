//! What the state machine of a stretch remembers in each phase.

use super::message::{ChainMember, ChunkOutput, GrantedChunk, Sign, StretchLimits, Trouble};
use crate::write::buffer::StretchBuffer;
use drystone_env::Monotonic;
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::Receipt;
use drystone_proto::data::ChunkStatus;
use drystone_proto::record::PolicyRecord;
use drystone_types::{Code, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Writing {
    pub(super) grant: Arc<GrantedChunk>,
    pub(super) chain: Arc<[usize]>,
    pub(super) sent_to: u64,
    pub(super) unsynced: u64,
    pub(super) in_flight: VecDeque<SentFrame>,
    pub(super) last_sent: bool,
    pub(super) progress: Monotonic,
    // Sum of what members said to hold at the last probe.
    pub(super) probed: u64,
}

pub(super) struct SentFrame {
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) sync: bool,
}

pub(super) struct Probing {
    pub(super) writing: Writing,
    pub(super) slow: bool,
    pub(super) answers: BTreeMap<usize, Option<ChunkStatus>>,
}

pub(super) struct Finishing {
    pub(super) grant: Arc<GrantedChunk>,
    pub(super) waiting: BTreeSet<usize>,
    pub(super) receipts: BTreeMap<usize, Receipt>,
}

/// A sealed part whose redundancy is being completed.
pub(super) struct Settling {
    pub(super) grant: Arc<GrantedChunk>,
    pub(super) length: u64,
    pub(super) receipts: Vec<(ChainMember, Receipt)>,
    // Copies.
    pub(super) tried: u32,
    pub(super) replacement: Option<(Arc<GrantedChunk>, ChainMember)>,
    // Suspect servers that did not answer in this round.
    pub(super) asked: BTreeMap<NodeId, Sign>,
    pub(super) rounds: u32,
    pub(super) waits_since: Option<Monotonic>,
    pub(super) pause: Option<Monotonic>,
}

impl Settling {
    pub(super) fn new(grant: Arc<GrantedChunk>, length: u64, receipts: Vec<(ChainMember, Receipt)>) -> Self {
        Self {
            grant,
            length,
            receipts,
            tried: 0,
            replacement: None,
            asked: BTreeMap::new(),
            rounds: 0,
            waits_since: None,
            pause: None,
        }
    }
}

pub(super) enum StretchPhase {
    Idle,
    Granting,
    Waiting(Monotonic),
    Writing(Writing),
    Probing(Probing),
    Finishing(Finishing),
    Settling(Settling),
    Over,
}

/// Writes one stretch, see [`super`].
pub(crate) struct ChunkWrite {
    pub(super) limits: StretchLimits,
    pub(super) policy: PolicyRecord,
    pub(super) slow: Duration,
    pub(super) buffer: StretchBuffer,
    pub(super) ended: bool,
    pub(super) flush: bool,
    pub(super) newest_at: Monotonic,
    pub(super) phase: StretchPhase,
    pub(super) step: u64,
    pub(super) probe: u64,
    pub(super) grants: u32,
    pub(super) fresh: bool,
    pub(super) avoid: BTreeSet<NodeId>,
    // Disks that had no room, whatever the leader knows of them.
    pub(super) full: BTreeSet<u64>,
    pub(super) trouble_since: Option<Monotonic>,
    pub(super) last_trouble: Trouble,
}

impl ChunkWrite {
    /// A stretch under `policy`; nodes in `avoid` failed us lately.
    pub(crate) fn new(
        limits: StretchLimits,
        policy: PolicyRecord,
        avoid: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self {
            limits,
            policy,
            slow: Duration::from_secs(1),
            buffer: StretchBuffer::default(),
            ended: false,
            flush: false,
            newest_at: Monotonic(0),
            phase: StretchPhase::Idle,
            step: 0,
            probe: 0,
            grants: 0,
            fresh: false,
            avoid: avoid.into_iter().collect(),
            full: BTreeSet::new(),
            trouble_since: None,
            last_trouble: Trouble::new(Code::Unavailable, "nothing was tried"),
        }
    }

    /// Bytes that are in sealed parts.
    pub(crate) fn sealed(&self) -> u64 {
        self.buffer.base()
    }

    /// Since when no server takes what is to be written, when that is given up, and the last trouble.
    pub(crate) fn trouble(&self) -> Option<(Monotonic, Monotonic, &Trouble)> {
        let since = self.trouble_since.filter(|_| !self.is_over())?;
        Some((since, since.plus(self.limits.patience), &self.last_trouble))
    }

    /// A member that makes no progress for this long is slow.
    pub(crate) fn set_slow(&mut self, slow: Duration) {
        self.slow = slow;
    }

    /// True once `Done` or `Failed` has been said.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, StretchPhase::Over)
    }

    pub(super) fn next_step(&mut self, out: &mut Vec<ChunkOutput>) -> u64 {
        self.step += 1;
        out.push(ChunkOutput::Cancel);
        self.step
    }

    pub(super) fn fail(&mut self, trouble: Trouble, out: &mut Vec<ChunkOutput>) {
        self.phase = StretchPhase::Over;
        out.push(ChunkOutput::Failed(trouble));
    }

    pub(super) fn blame(&mut self, node: NodeId, out: &mut Vec<ChunkOutput>) {
        if self.avoid.insert(node) {
            out.push(ChunkOutput::Blamed(node));
        }
    }
}

/// Fewest receipts with which a chunk may be committed.
pub(super) fn minimum(policy: &PolicyRecord) -> usize {
    if planted(Bug::FewerReceipts) {
        return 1;
    }
    policy.as_told().receipts() as usize
}
