//! Clients to metadata servers.

use crate::command::{Origin, Outcome, Target, VersionTag};
use crate::record::{ChunkRecord, InodeRecord, PolicyRecord, ReplicaRecord};
use prost::Message;

/// A namespace command for the leader; followers forward it.
#[derive(Clone, PartialEq, Message)]
pub struct MutateRequest {
    /// Who and which.
    #[prost(message, optional, tag = "1")]
    pub origin: Option<Origin>,
    /// What: an encoded [`Command`](crate::command::Command), see [`crate::envelope`].
    #[prost(bytes = "bytes", tag = "2")]
    pub command: bytes::Bytes,
}

/// Committed and applied.
#[derive(Clone, PartialEq, Message)]
pub struct MutateReply {
    /// What apply said; a refusal is an outcome with a code.
    #[prost(message, optional, tag = "1")]
    pub outcome: Option<Outcome>,
    /// Log index after which reads see it.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Failure domains whose voters have an inline write's entry synced; 0 otherwise.
    #[prost(uint32, tag = "3")]
    pub voters: u32,
    /// That is fewer than the policy names, and no more came within some hundred milliseconds: what was applied counts
    /// only once the caller has moved the content to a chunk.
    #[prost(bool, tag = "4")]
    pub short: bool,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Consistency {
    /// Sees every command that was answered before the request was sent.
    Linearizable = 0,
    /// Sees at least `min_index`.
    Session = 1,
}

/// What a file or directory is and where its content is.
#[derive(Clone, PartialEq, Message)]
pub struct LookupRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// See [`Consistency`].
    #[prost(enumeration = "Consistency", tag = "2")]
    pub consistency: i32,
    /// The highest index that the client has seen.
    #[prost(uint64, tag = "3")]
    pub min_index: u64,
    /// Also answer extents and chunks (and inline content) from this file offset...
    #[prost(bool, tag = "4")]
    pub content: bool,
    /// ...
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    /// ...of at most this many bytes; 0 = to the end. The server answers at most 1,000 extents at once.
    #[prost(uint64, tag = "6")]
    pub length: u64,
    /// The content must still be this; otherwise the answer is `changed`.
    #[prost(message, optional, tag = "7")]
    pub pinned: Option<VersionTag>,
    /// On whose behalf.
    #[prost(string, tag = "8")]
    pub user: String,
    /// Its groups.
    #[prost(string, repeated, tag = "9")]
    pub groups: Vec<String>,
    /// With `content`: only inline content, for a [`crate::command::ConvertInline`], which is a part of writing. The
    /// caller needs what that command needs, and not the right to read.
    #[prost(bool, tag = "10")]
    pub to_convert: bool,
}

/// An extent and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LocatedExtent {
    /// In the file.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// Chunk, or [`crate::record::HOLE`].
    #[prost(uint64, tag = "3")]
    pub chunk: u64,
    /// In the chunk.
    #[prost(uint64, tag = "4")]
    pub chunk_offset: u64,
}

/// Answer to a look-up.
#[derive(Clone, PartialEq, Message)]
pub struct LookupReply {
    /// Attributes; `inline` is filled when content was asked for.
    #[prost(message, optional, tag = "1")]
    pub inode: Option<InodeRecord>,
    /// Extents in file order; a part that none covers is damaged.
    #[prost(message, repeated, tag = "2")]
    pub extents: Vec<LocatedExtent>,
    /// Every chunk that an extent names, once.
    #[prost(message, repeated, tag = "3")]
    pub chunks: Vec<ChunkRecord>,
    /// Nodes and addresses of every disk that a chunk names, once.
    #[prost(message, repeated, tag = "4")]
    pub disks: Vec<DiskLocation>,
    /// Extents go on at this file offset; 0 = that was all.
    #[prost(uint64, tag = "5")]
    pub next_offset: u64,
    /// Applied index of the answer.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// The policy in force for the file's next content, or a directory's new files.
    #[prost(message, optional, tag = "7")]
    pub policy: Option<PolicyRecord>,
}

/// Where a disk is reached.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DiskLocation {
    /// Disk.
    #[prost(uint64, tag = "1")]
    pub disk: u64,
    /// Formatting of it.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Node.
    #[prost(uint64, tag = "3")]
    pub node: u64,
    /// `host:port` of the node's wire.
    #[prost(string, tag = "4")]
    pub address: String,
    /// Node's name.
    #[prost(string, tag = "5")]
    pub server: String,
    /// Node's rack.
    #[prost(string, tag = "6")]
    pub rack: String,
    /// The server is suspect: ask it last.
    #[prost(bool, tag = "7")]
    pub suspect: bool,
}

/// One page of a directory.
#[derive(Clone, PartialEq, Message)]
pub struct ListRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// Names above this one.
    #[prost(string, tag = "2")]
    pub after: String,
    /// At most this many, 1 to 10,000.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
    /// See [`Consistency`].
    #[prost(enumeration = "Consistency", tag = "4")]
    pub consistency: i32,
    /// The highest index that the client has seen.
    #[prost(uint64, tag = "5")]
    pub min_index: u64,
    /// On whose behalf.
    #[prost(string, tag = "6")]
    pub user: String,
    /// Its groups.
    #[prost(string, repeated, tag = "7")]
    pub groups: Vec<String>,
}

/// An entry with its attributes (never with inline content or xattrs).
#[derive(Clone, PartialEq, Message)]
pub struct ListEntry {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Attributes.
    #[prost(message, optional, tag = "2")]
    pub inode: Option<InodeRecord>,
}

/// A page in byte order of names.
#[derive(Clone, PartialEq, Message)]
pub struct ListReply {
    /// The entries.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<ListEntry>,
    /// There are entries after the last one.
    #[prost(bool, tag = "2")]
    pub more: bool,
    /// Applied index of the answer.
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

/// Asks for new chunks to write to.
#[derive(Clone, PartialEq, Message)]
pub struct GrantRequest {
    /// How many, 1 to 64.
    #[prost(uint32, tag = "1")]
    pub count: u32,
    /// Most bytes that each will hold; each server keeps space for it. 0: the chunk size of the policy.
    #[prost(uint64, tag = "2")]
    pub max_bytes: u64,
    /// Redundancy, if `target` is absent.
    #[prost(message, optional, tag = "3")]
    pub policy: Option<PolicyRecord>,
    /// Servers (node ids) that failed this client lately: avoided while others will do.
    #[prost(uint64, repeated, tag = "4")]
    pub avoid: Vec<u64>,
    /// The writer's host, to put the first replica near; may be empty.
    #[prost(string, tag = "5")]
    pub host: String,
    /// Ask for a replacement in this chunk, which is still private to the caller: one new replica, apart from
    /// those in `have`. 0: new chunks.
    #[prost(uint64, tag = "6")]
    pub replace_in: u64,
    /// Replicas that are kept.
    #[prost(message, repeated, tag = "7")]
    pub have: Vec<ReplicaRecord>,
    /// On whose behalf.
    #[prost(string, tag = "8")]
    pub user: String,
    /// The file that the content is for, which need not be there, or the staged inode: the leader grants under the
    /// policy in force there, and says which one that is.
    #[prost(message, optional, tag = "9")]
    pub target: Option<Target>,
}

/// Chunks to write to.
#[derive(Clone, PartialEq, Message)]
pub struct GrantReply {
    /// One per chunk.
    #[prost(message, repeated, tag = "1")]
    pub grants: Vec<ChunkGrant>,
}

/// Gives up chunks that were granted and that no command names: their space comes back at once, not only when their grants have
/// lost their effect. Committed content is never touched by it. May be repeated.
#[derive(Clone, PartialEq, Message)]
pub struct AbandonRequest {
    /// The tokens of the chunks' grants, replacements too: only who holds them can give a chunk up. At most 1,024.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub grants: Vec<bytes::Bytes>,
}

/// A chunk to write to, and the chain.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkGrant {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Signed permission, see [`crate::grant::WriteGrant`]; opaque to clients.
    #[prost(bytes = "bytes", tag = "2")]
    pub token: bytes::Bytes,
    /// The chain, in order.
    #[prost(message, repeated, tag = "3")]
    pub replicas: Vec<GrantedReplica>,
    /// Epoch to write with.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// Most bytes that it may hold.
    #[prost(uint64, tag = "5")]
    pub capacity: u64,
    /// The policy it is granted under: the one in force at the target, if one was named. The commit repeats it.
    #[prost(message, optional, tag = "6")]
    pub policy: Option<PolicyRecord>,
    /// The chunk can be written to and committed for at least so many milliseconds from now; 0: not known. Of a
    /// replacement it is always 0: its chunk was granted earlier.
    #[prost(uint64, tag = "7")]
    pub life_ms: u64,
}

/// A replica of a granted chunk.
#[derive(Clone, PartialEq, Message)]
pub struct GrantedReplica {
    /// Where.
    #[prost(message, optional, tag = "1")]
    pub replica: Option<ReplicaRecord>,
    /// How to reach it.
    #[prost(message, optional, tag = "2")]
    pub location: Option<DiskLocation>,
}

/// A reader met damage, or a replica that is not there.
#[derive(Clone, PartialEq, Message)]
pub struct DamageReport {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Which replica.
    #[prost(message, optional, tag = "2")]
    pub replica: Option<ReplicaRecord>,
    /// Where in the chunk.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// `drystone_types::Code` number of what was met: corrupt or not_found.
    #[prost(uint32, tag = "4")]
    pub code: u32,
    /// Words for people.
    #[prost(string, tag = "5")]
    pub detail: String,
}
