//! Clients and chunk servers to chunk servers.

use crate::command::Receipt;
use crate::record::ReplicaRecord;
use prost::Message;

/// The next hop of a chain.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hop {
    /// `host:port`.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Which disk there.
    #[prost(message, optional, tag = "2")]
    pub replica: Option<ReplicaRecord>,
}

/// Bytes for a stream chunk: written at `offset` here, forwarded to the rest of the chain at the same time.
/// The payload is the data. Frames of one chunk come in order on one connection.
#[derive(Clone, PartialEq, Message)]
pub struct Append {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Where in the chunk: the length so far.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Signed permission, see [`crate::grant::WriteGrant`].
    #[prost(bytes = "bytes", tag = "4")]
    pub grant: bytes::Bytes,
    /// This replica.
    #[prost(message, optional, tag = "5")]
    pub replica: Option<ReplicaRecord>,
    /// The chain after this replica.
    #[prost(message, repeated, tag = "6")]
    pub chain: Vec<Hop>,
    /// Answer only when this and everything before it is durable here and down the chain.
    #[prost(bool, tag = "7")]
    pub sync: bool,
    /// The chunk ends with this frame: sync, seal and answer with receipts.
    #[prost(bool, tag = "8")]
    pub last: bool,
    /// With `last`: CRC32C of the whole content as the writer knows it; checked before sealing.
    #[prost(uint32, optional, tag = "9")]
    pub checksum: Option<u32>,
}

/// One member of the chain's state.
#[derive(Clone, PartialEq, Message)]
pub struct HopState {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub replica: Option<ReplicaRecord>,
    /// Bytes received in order.
    #[prost(uint64, tag = "2")]
    pub received: u64,
    /// Bytes durable.
    #[prost(uint64, tag = "3")]
    pub durable: u64,
    /// With `last`: its receipt.
    #[prost(message, optional, tag = "4")]
    pub receipt: Option<Receipt>,
    /// `drystone_types::Code` number if it failed; 0 otherwise.
    #[prost(uint32, tag = "5")]
    pub code: u32,
    /// Words.
    #[prost(string, tag = "6")]
    pub message: String,
    /// How long the hop before it has waited for it, microseconds.
    #[prost(uint64, tag = "7")]
    pub waited_us: u64,
}

/// Answer to an append: this hop first, then the rest of the chain.
#[derive(Clone, PartialEq, Message)]
pub struct AppendReply {
    /// One per member that was reached or blamed.
    #[prost(message, repeated, tag = "1")]
    pub hops: Vec<HopState>,
}

/// Seals a stream chunk at `length` on this replica alone (after a failure in its chain). Repeating it with the
/// same length gives the same receipt; another length is refused and the first receipt returned.
#[derive(Clone, PartialEq, Message)]
pub struct Finish {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Length; at most what is received here.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Signed permission.
    #[prost(bytes = "bytes", tag = "4")]
    pub grant: bytes::Bytes,
    /// This replica.
    #[prost(message, optional, tag = "5")]
    pub replica: Option<ReplicaRecord>,
}

/// The replica's receipt.
#[derive(Clone, PartialEq, Message)]
pub struct FinishReply {
    /// See [`Receipt`].
    #[prost(message, optional, tag = "1")]
    pub receipt: Option<Receipt>,
}

/// What this server knows of a chunk.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkStatusRequest {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Which replica.
    #[prost(message, optional, tag = "2")]
    pub replica: Option<ReplicaRecord>,
}

/// State of a replica on a disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum ReplicaState {
    /// Not here.
    Absent = 0,
    /// Takes appends in its epoch.
    Open = 1,
    /// Fenced: takes a seal in a higher epoch only.
    Fenced = 2,
    /// Immutable.
    Sealed = 3,
}

/// State of a replica.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkStatus {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// See [`ReplicaState`].
    #[prost(enumeration = "ReplicaState", tag = "2")]
    pub state: i32,
    /// Highest epoch seen.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Bytes received in order.
    #[prost(uint64, tag = "4")]
    pub received: u64,
    /// Bytes durable and journalled.
    #[prost(uint64, tag = "5")]
    pub durable: u64,
    /// CRC32C of the whole, when sealed.
    #[prost(uint32, tag = "6")]
    pub checksum: u32,
    /// Where it was placed.
    #[prost(message, optional, tag = "7")]
    pub replica: Option<ReplicaRecord>,
}

/// Raise the epoch, stop appends, answer the durable length. One durable step. A chunk not held here leaves a
/// marker and answers *unknown*, which is not zero.
#[derive(Clone, PartialEq, Message)]
pub struct Fence {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// New epoch, above the first.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Which replica.
    #[prost(message, optional, tag = "3")]
    pub replica: Option<ReplicaRecord>,
    /// Signed order of the leader, see [`crate::grant`].
    #[prost(bytes = "bytes", tag = "4")]
    pub order: bytes::Bytes,
}

/// Answer to a fence.
#[derive(Clone, PartialEq, Message)]
pub struct FenceReply {
    /// Longest durable prefix whose checksums were verified; absent = unknown.
    #[prost(uint64, optional, tag = "1")]
    pub length: Option<u64>,
    /// Epoch now.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// Make a fenced replica immutable at this length.
#[derive(Clone, PartialEq, Message)]
pub struct Seal {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// The fence's epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Length.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// CRC32C of the whole.
    #[prost(uint32, tag = "4")]
    pub checksum: u32,
    /// Which replica.
    #[prost(message, optional, tag = "5")]
    pub replica: Option<ReplicaRecord>,
    /// Signed order of the leader.
    #[prost(bytes = "bytes", tag = "6")]
    pub order: bytes::Bytes,
}

/// Read at most 1 MiB. Every 4 KiB block is verified before it leaves.
#[derive(Clone, PartialEq, Message)]
pub struct Read {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Which replica.
    #[prost(message, optional, tag = "2")]
    pub replica: Option<ReplicaRecord>,
    /// Where.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// How many bytes, 1 to 1 MiB.
    #[prost(uint32, tag = "4")]
    pub length: u32,
    /// Permission; room for read grants.
    #[prost(bytes = "bytes", tag = "5")]
    pub grant: bytes::Bytes,
}

/// The payload is exactly the range asked for.
#[derive(Clone, PartialEq, Message)]
pub struct ReadReply {
    /// Length of the sealed chunk.
    #[prost(uint64, tag = "1")]
    pub chunk_length: u64,
}

/// Delete replicas; see [`DeleteOrder`].
#[derive(Clone, PartialEq, Message)]
pub struct Delete {
    /// At most 4,096.
    #[prost(message, repeated, tag = "1")]
    pub orders: Vec<DeleteOrder>,
}

/// One replica to delete: refused if the disk holds a newer placement or another incarnation.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteOrder {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Replica, with the placement that the order is about.
    #[prost(message, optional, tag = "2")]
    pub replica: Option<ReplicaRecord>,
    /// Signed by the leader for a committed state, see [`crate::grant::sign_delete`].
    #[prost(bytes = "bytes", tag = "3")]
    pub order: bytes::Bytes,
}

/// An order of the leader to a chunk server.
#[derive(Clone, PartialEq, Message)]
pub struct ServerOrder {
    /// What to do; absent if it is of a kind that the server does not know.
    #[prost(oneof = "OrderKind", tags = "1")]
    pub kind: Option<OrderKind>,
}

impl ServerOrder {
    /// The order to delete `order`.
    pub fn delete(order: DeleteOrder) -> Self {
        Self {
            kind: Some(OrderKind::Delete(order)),
        }
    }

    /// The replica to delete, if it is such an order.
    pub fn as_delete(&self) -> Option<&DeleteOrder> {
        match self.kind.as_ref()? {
            OrderKind::Delete(order) => Some(order),
        }
    }
}

/// See [`ServerOrder`]. 2 (copy a replica), 3 (scrub) and 4 (seal) are reserved for what has no code yet.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OrderKind {
    /// Delete a replica.
    #[prost(message, tag = "1")]
    Delete(DeleteOrder),
}

/// What became of an order.
#[derive(Clone, PartialEq, Message)]
pub struct OrderAck {
    /// The order as it came: a later leader understands it too.
    #[prost(message, optional, tag = "1")]
    pub order: Option<ServerOrder>,
    /// 0: it is done, durably. Otherwise a `drystone_types::Code` number: it was refused, or failed.
    #[prost(uint32, tag = "2")]
    pub code: u32,
    /// Why, for people.
    #[prost(string, tag = "3")]
    pub message: String,
}

/// What became of each order, in order.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteReply {
    /// `drystone_types::Code` numbers; 0 = it is not (or no longer) there, durably.
    #[prost(uint32, repeated, tag = "1")]
    pub codes: Vec<u32>,
}

/// List what a disk holds.
#[derive(Clone, PartialEq, Message)]
pub struct ListChunks {
    /// Disk.
    #[prost(uint64, tag = "1")]
    pub disk: u64,
    /// Chunks above this id.
    #[prost(uint64, tag = "2")]
    pub after: u64,
    /// At most this many, 1 to 10,000.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
}

/// A page of replicas in chunk order.
#[derive(Clone, PartialEq, Message)]
pub struct ListChunksReply {
    /// The replicas.
    #[prost(message, repeated, tag = "1")]
    pub chunks: Vec<ChunkStatus>,
    /// There are more.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// A survivor sends its first `length` bytes of a private chunk to `to`, which seals them there; the answer is
/// the new replica's receipt.
#[derive(Clone, PartialEq, Message)]
pub struct CopyPrefix {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Bytes; the sealed length here.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// This replica.
    #[prost(message, optional, tag = "4")]
    pub replica: Option<ReplicaRecord>,
    /// The replacement.
    #[prost(message, optional, tag = "5")]
    pub to: Option<Hop>,
    /// Signed permission for the replacement.
    #[prost(bytes = "bytes", tag = "6")]
    pub grant: bytes::Bytes,
}
