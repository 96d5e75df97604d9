//! What a store takes and gives.

use crate::class::IoClass;
use crate::error::StoreError;
use crate::held::{HeldReplica, Sealed};
use bytes::Bytes;
use drystone_env::{IoCompletion, IoRequest, Monotonic};
use drystone_proto::checksum::Checksums;
use drystone_types::{ChunkId, Epoch, Incarnation, PlacementIndex};

/// Names a request; returned with its one reply. The caller chooses it, unique among unanswered requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestId(pub u64);

/// The chunk ends with this frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LastFrame {
    /// CRC32C of the whole content as the writer knows it: checked before the chunk is sealed.
    pub checksum: Option<u32>,
}

/// Bytes for the end of a chunk.
#[derive(Clone, Debug)]
pub struct AppendFrame {
    /// The chunk.
    pub chunk: ChunkId,
    /// Must be [`Epoch::FIRST`].
    pub epoch: Epoch,
    /// Which placement of the chunk on this disk.
    pub placement: PlacementIndex,
    /// How long the chunk can become, in bytes; space for it is taken with the first frame, and what is not needed is
    /// given back when it is sealed.
    pub max_bytes: u64,
    /// Where: the length so far.
    pub offset: u64,
    /// What; may be empty with `sync` or `last`. Best aligned to 4 KiB in memory.
    pub data: Bytes,
    /// CRC32C of every 4 KiB of `data`, which the caller has verified.
    pub checksums: Checksums,
    /// Answer when it is durable.
    pub sync: bool,
    /// Seal the chunk after it.
    pub last: Option<LastFrame>,
    /// On whose behalf. The first frame's counts for all of the chunk's writes.
    pub io_class: IoClass,
}

impl AppendFrame {
    /// The chunk's length with it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
}

/// What happens to a store. Requests about one chunk take effect in the order in which they come.
#[derive(Debug)]
pub enum StoreInput {
    /// Bytes at the end of a chunk. The first (offset 0, epoch [`Epoch::FIRST`]) makes the chunk: that the sender
    /// may do so was checked before. A range that is here already is answered as the first time if its checksums
    /// are equal. Answer: [`StoreReply::Appended`], at once, or with `sync` or `last` when everything up to the end of
    /// this frame is durable.
    Append {
        /// Names the request.
        request: RequestId,
        /// What is appended.
        frame: AppendFrame,
    },
    /// Seals at `length`, which must not be above what is received. Answer: [`StoreReply::Sealed`]; again with the same
    /// length the same; another is a conflict that names the first.
    Finish {
        /// Names the request.
        request: RequestId,
        /// The chunk.
        chunk: ChunkId,
        /// Must be [`Epoch::FIRST`].
        epoch: Epoch,
        /// Which placement.
        placement: PlacementIndex,
        /// Final length.
        length: u64,
    },
    /// Raises the epoch, stops appends for good and verifies what is durable. Answer: [`StoreReply::Fenced`].
    Fence {
        /// Names the request.
        request: RequestId,
        /// The chunk.
        chunk: ChunkId,
        /// Above the first and not below any seen.
        epoch: Epoch,
    },
    /// Seals a fenced replica at `length`, which must not be above what is durable. Answer: [`StoreReply::Sealed`].
    Seal {
        /// Names the request.
        request: RequestId,
        /// The chunk.
        chunk: ChunkId,
        /// The fence's.
        epoch: Epoch,
        /// Final length.
        length: u64,
        /// CRC32C of the whole content.
        checksum: u32,
    },
    /// Answer: [`StoreReply::Status`], also for chunks that are not here.
    Status {
        /// Names the request.
        request: RequestId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// Reads durable bytes. Answer: [`StoreReply::Data`].
    Read {
        /// Names the request.
        request: RequestId,
        /// The chunk.
        chunk: ChunkId,
        /// If given, the read is about this placement only.
        placement: Option<PlacementIndex>,
        /// Where.
        offset: u64,
        /// How many, 1 to 1 MiB.
        length: u32,
        /// On whose behalf.
        io_class: IoClass,
    },
    /// Removes the replica of this or an earlier placement. Answer: [`StoreReply::Deleted`] once it is durable that it
    /// is not here; refused for a newer placement.
    Delete {
        /// Names the request.
        request: RequestId,
        /// The chunk.
        chunk: ChunkId,
        /// The placement that the order is about.
        placement: PlacementIndex,
        /// The formatting of the disk that the order is about.
        incarnation: Incarnation,
    },
    /// Answer: [`StoreReply::Chunks`], in order of ids.
    List {
        /// Names the request.
        request: RequestId,
        /// Above this one.
        after: ChunkId,
        /// At most this many.
        limit: u32,
    },
    /// Remembers the grant floor, see [`Store::floor`](crate::Store::floor). Never lowers it. Answer:
    /// [`StoreReply::Floor`] once it is durable.
    RaiseFloor {
        /// Names the request.
        request: RequestId,
        /// The floor.
        floor: ChunkId,
    },
    /// A request of this store's was executed.
    Io(IoCompletion),
    /// It is the time of the last [`StoreOutput::Wake`], or later.
    Tick,
}

/// What a store wants.
#[derive(Debug)]
pub enum StoreOutput {
    /// Execute this and return the completion; in any order, several at once.
    Io {
        /// On whose behalf.
        class: IoClass,
        /// What.
        request: IoRequest,
    },
    /// The one answer to a request.
    StoreReply {
        /// Which.
        request: RequestId,
        /// What.
        result: Result<StoreReply, StoreError>,
    },
    /// Give [`StoreInput::Tick`] at this time; a later one replaces it only if it is earlier.
    Wake(Monotonic),
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreReply {
    /// To an append.
    Appended {
        /// Bytes in order.
        received: u64,
        /// Bytes durable.
        durable: u64,
        /// With `last`: how it is sealed.
        sealed: Option<Sealed>,
    },
    /// To a finish or seal: durable.
    Sealed(Sealed),
    /// To a fence: durable.
    Fenced {
        /// The epoch now.
        epoch: Epoch,
        /// The longest durable prefix whose checksums were verified; `None` = unknown, which is not zero.
        length: Option<u64>,
    },
    /// To a status.
    Status(HeldReplica),
    /// To a read: exactly the range, verified.
    Data {
        /// The bytes.
        data: Bytes,
        /// CRC32C of every 4 KiB of it, if the range begins at a 4 KiB block and ends at one or at the end of a
        /// sealed chunk.
        checksums: Option<Checksums>,
        /// Bytes that can be read of this chunk.
        chunk_length: u64,
    },
    /// To a delete: durably not here.
    Deleted,
    /// To a list.
    Chunks {
        /// The page.
        chunks: Vec<HeldReplica>,
        /// There are more.
        more: bool,
    },
    /// To a raised floor: the floor now.
    Floor(ChunkId),
}

/// The disk at a glance, for heartbeats.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Bytes that chunks can take in all, but for what is kept for repair.
    pub capacity_bytes: u64,
    /// Bytes that can still be taken by anything but repair: free units, and arenas that are not made yet.
    pub free_bytes: u64,
    /// Bytes of the units that are not free: with what can still be taken, the capacity, but for what repair took of
    /// what is kept for it.
    pub used_bytes: u64,
    /// Of the bytes that can still be taken, those of arenas that are not made yet: others on the file system can take
    /// them as well.
    pub shared_free_bytes: u64,
    /// Bytes of the file system when it was looked at last.
    pub device_bytes: u64,
    /// Of these, what nobody and no arena has taken, and free units, beyond what can still be taken: the reserve, what is
    /// kept for repair, what is above the configured capacity.
    pub kept_bytes: u64,
    /// Of these, what is in no arena and not free: others' files, the journal, the file system's own.
    pub others_bytes: u64,
    /// Bytes of content held, durable.
    pub content_bytes: u64,
    /// Replicas held.
    pub chunks: u64,
    /// Replicas that are not sealed.
    pub open_chunks: u64,
    /// Disk work under way.
    pub queue: u32,
    /// Bytes of appends in memory.
    pub memory_bytes: u64,
    /// Failures of the device since it was opened.
    pub io_errors: u64,
    /// Checksums that did not match since it was opened.
    pub checksum_errors: u64,
    /// Arenas that were emptied and removed since it was opened.
    pub emptied_arenas: u64,
    /// Chunks that were moved out of arenas for that.
    pub moved_chunks: u64,
    /// Bytes of their content.
    pub moved_bytes: u64,
    /// It takes no writes any more: why.
    pub read_only: Option<String>,
}

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// The store was made just now.
    pub fresh: bool,
    /// Generation of the checkpoint that was used.
    pub checkpoint: u64,
    /// The other copy of the checkpoint was missing or damaged, in words.
    pub checkpoint_damage: Option<String>,
    /// Journal records replayed.
    pub records: u64,
    /// A journal batch whose write had not completed was cut off, in words.
    pub torn: Option<String>,
    /// Replicas held.
    pub chunks: u64,
    /// Of these, not sealed.
    pub open_chunks: u64,
    /// Arenas.
    pub arenas: u64,
}
