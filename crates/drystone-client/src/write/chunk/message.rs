//! What is said to and by the state machine of a stretch.

use crate::write::buffer::StretchFrame;
use drystone_env::Monotonic;
use drystone_proto::command::{NewChunk, Receipt};
use drystone_proto::data::{AppendReply, ChunkStatus};
use drystone_proto::record::{PolicyRecord, ReplicaRecord};
use drystone_types::{Code, NodeId};
use std::sync::Arc;
use std::time::Duration;

/// A member of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChainMember {
    pub(crate) replica: ReplicaRecord,
    pub(crate) node: NodeId,
    pub(crate) address: String,
}

/// A chunk to write to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GrantedChunk {
    pub(crate) chunk: u64,
    pub(crate) token: bytes::Bytes,
    pub(crate) epoch: u64,
    pub(crate) capacity: u64,
    pub(crate) members: Vec<ChainMember>,
    pub(crate) policy: PolicyRecord,
    /// When it was asked for: the leader gave it later than this.
    pub(crate) asked_at: Monotonic,
    /// It can be written under and committed for so long from then.
    pub(crate) life: Duration,
}

impl GrantedChunk {
    /// A chunk that has bytes is ended from here on: what is left of its life is for the seal and the commit.
    pub(super) fn end_at(&self) -> Monotonic {
        self.asked_at.plus(self.life / 3)
    }

    /// A sealed chunk that was not committed until here is staged.
    pub(super) fn stage_at(&self) -> Monotonic {
        self.asked_at.plus(self.life / 2)
    }
}

/// Why a request failed, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trouble {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// A second `final`: the first one's receipt.
    pub(crate) receipt: Option<Box<Receipt>>,
}

impl Trouble {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            receipt: None,
        }
    }

    /// The grant is of no use any more, which is no fault of who says so.
    pub(super) fn is_of_grant(&self) -> bool {
        matches!(self.code, Code::GrantExpired | Code::Fenced)
    }
}

/// What happens to a stretch.
#[derive(Debug)]
pub(crate) enum ChunkInput {
    /// More bytes.
    Frame(StretchFrame),
    /// Make what there is durable: the budget is used up.
    Flush,
    /// No more bytes will come.
    End,
    Granted {
        step: u64,
        result: Result<GrantedChunk, Trouble>,
    },
    Appended {
        step: u64,
        position: u64,
        result: Result<AppendReply, Trouble>,
    },
    Status {
        probe: u64,
        member: usize,
        result: Result<ChunkStatus, Trouble>,
    },
    Finished {
        step: u64,
        member: usize,
        result: Result<Receipt, Trouble>,
    },
    Replacement {
        step: u64,
        result: Result<GrantedChunk, Trouble>,
    },
    Asked {
        step: u64,
        sign: Sign,
    },
    Copied {
        step: u64,
        result: Result<Receipt, Trouble>,
    },
    Tick,
}

/// Bytes for the first member of a chain.
#[derive(Clone, Debug)]
pub(crate) struct ChainFrame {
    pub(crate) grant: Arc<GrantedChunk>,
    /// Those of the grant's members that take part, in order.
    pub(crate) chain: Arc<[usize]>,
    /// In the chunk.
    pub(crate) offset: u64,
    pub(crate) frame: StretchFrame,
    pub(crate) sync: bool,
    /// CRC32C of the whole chunk: it ends here.
    pub(crate) last: Option<u32>,
}

/// What is to be done. Each request is answered by the input of its name with its `step`.
#[derive(Debug)]
pub(crate) enum ChunkOutput {
    /// Requests that are under way have lost their meaning.
    Cancel,
    Grant {
        step: u64,
        avoid: Vec<NodeId>,
        fresh: bool,
    },
    Append {
        step: u64,
        position: u64,
        send: Box<ChainFrame>,
    },
    Status {
        probe: u64,
        member: usize,
        chunk: u64,
        to: ChainMember,
    },
    Finish {
        step: u64,
        member: usize,
        grant: Arc<GrantedChunk>,
        length: u64,
        to: ChainMember,
    },
    Replace {
        step: u64,
        grant: Arc<GrantedChunk>,
        have: Vec<ReplicaRecord>,
        avoid: Vec<NodeId>,
    },
    /// Does this server, which failed lately, give a sign of life?
    Ask {
        step: u64,
        chunk: u64,
        to: ChainMember,
    },
    Copy {
        step: u64,
        grant: Arc<GrantedChunk>,
        replacement: Arc<GrantedChunk>,
        length: u64,
        from: ChainMember,
        to: ChainMember,
        /// It is not worth a long wait.
        brief: bool,
    },
    /// So many bytes are no longer held.
    Release(u64),
    /// This node failed us.
    Blamed(NodeId),
    /// It failed us lately, and took a copy now.
    Trusted(NodeId),
    /// It failed us lately, gave a sign of life, and failed a copy.
    Spoiled(NodeId),
    Note(Note),
    Wake(Monotonic),
    /// The next chunk of the stretch is sealed.
    Sealed(SealedPart),
    /// Everything is sealed.
    Done,
    Failed(Trouble),
}

/// For the counters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Note {
    Rewritten,
    CutShort,
    Replaced,
}

/// A sealed chunk of the stretch.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SealedPart {
    pub(crate) length: u64,
    pub(crate) chunk: NewChunk,
    /// Who has it: as many as there are receipts, in their order.
    pub(crate) members: Vec<ChainMember>,
    /// It must be committed or staged soon after this, while its grant lives.
    pub(crate) stage_at: Monotonic,
}

/// What came of asking a suspect server for a sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sign {
    /// It answers.
    Here,
    /// It does not, and may do so in a moment.
    Silent,
    /// It has been silent for too long to wait for it.
    Away,
}

/// What does not change during a stretch.
#[derive(Clone, Debug)]
pub(crate) struct StretchLimits {
    /// Frames in flight.
    pub(crate) window: usize,
    /// Durable progress is asked for after this many bytes.
    pub(crate) sync_every: u64,
    /// Trouble that lasts longer than this ends the write.
    pub(crate) patience: Duration,
}
