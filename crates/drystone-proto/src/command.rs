//! What is replicated: one [`Entry`] per log entry, and what apply answers.
//!
//! A command names files by a base inode and a path from it, which apply itself walks, so that existence,
//! attachment to the root and permissions are those of one moment: the command's place in the log.

use crate::record::{NodeRecord, PolicyRecord, ReplicaRecord, Xattr};
use prost::Message;

/// A log entry's data. The leader fixes `time` and `wall`; everything else is the caller's.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Log time, microseconds since 1970: never below that of the entry before it. It stands still while the cluster
    /// does, and what expires expires by it.
    #[prost(uint64, tag = "1")]
    pub time: u64,
    /// Who asks, and the place in its session; absent for the cluster's own commands.
    #[prost(message, optional, tag = "2")]
    pub origin: Option<Origin>,
    /// What to do.
    #[prost(message, optional, tag = "3")]
    pub command: Option<Command>,
    /// The leader's wall clock, microseconds since 1970: what people see as times of files; 0: as `time`.
    #[prost(uint64, tag = "4")]
    pub wall: u64,
}

/// Makes a command idempotent and says for whom it is done.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Origin {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub client: bytes::Bytes,
    /// Numbers the session's commands from 1; a repeated number gets the first answer.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Answers to sequences below this have arrived and may be forgotten, but for those in `outstanding`.
    #[prost(uint64, tag = "3")]
    pub acknowledged_below: u64,
    /// User name; `drystone` is the superuser.
    #[prost(string, tag = "4")]
    pub user: String,
    /// Its groups.
    #[prost(string, repeated, tag = "5")]
    pub groups: Vec<String>,
    /// Idempotency key of a door's caller, kept for 24 h of log time; empty: none.
    #[prost(string, tag = "6")]
    pub key: String,
    /// Hash of method, path and preconditions that the key was used with, 16 bytes.
    #[prost(bytes = "bytes", tag = "7")]
    pub key_hash: bytes::Bytes,
    /// Sequences below `acknowledged_below` whose answers have not arrived, ascending, at most 64: a slow command does
    /// not stop those after it.
    #[prost(uint64, repeated, tag = "8")]
    pub outstanding: Vec<u64>,
}

/// A file or directory as a command names it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Target {
    /// Directory (or file, with an empty path) from which `path` leads; 0 = the root.
    #[prost(uint64, tag = "1")]
    pub base: u64,
    /// Path from there, see `drystone_types::path`.
    #[prost(string, tag = "2")]
    pub path: String,
}

/// What must hold for the target's present content.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Precondition {
    /// The name must be free.
    #[prost(bool, tag = "1")]
    pub absent: bool,
    /// The name must exist.
    #[prost(bool, tag = "2")]
    pub present: bool,
    /// It must have one of these content versions (with inode, when not 0); empty: any.
    #[prost(message, repeated, tag = "3")]
    pub versions: Vec<VersionTag>,
    /// It must have none of these.
    #[prost(message, repeated, tag = "4")]
    pub not_versions: Vec<VersionTag>,
}

/// What an ETag stands for (the history id is checked by the frame).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct VersionTag {
    /// Inode.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Content version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

/// Content as a command brings it.
#[derive(Clone, PartialEq, Message)]
pub struct Content {
    /// Tiny content in the command itself; then `extents` is empty.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub inline: Option<bytes::Bytes>,
    /// Content in chunks and holes, in file order, without gaps, from offset 0 of the content.
    #[prost(message, repeated, tag = "2")]
    pub extents: Vec<NewExtent>,
    /// The chunks that this command records.
    #[prost(message, repeated, tag = "3")]
    pub chunks: Vec<NewChunk>,
}

/// A piece of new content.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NewExtent {
    /// Bytes.
    #[prost(uint64, tag = "1")]
    pub length: u64,
    /// Chunk, or [`crate::record::HOLE`].
    #[prost(uint64, tag = "2")]
    pub chunk: u64,
    /// Where in it; 0 of a hole.
    #[prost(uint64, tag = "3")]
    pub chunk_offset: u64,
}

/// A chunk that becomes sealed by this command.
#[derive(Clone, PartialEq, Message)]
pub struct NewChunk {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// One per replica, all equal in length and checksum.
    #[prost(message, repeated, tag = "2")]
    pub receipts: Vec<Receipt>,
    /// The policy it was granted under. What counts is the one in force at the target when the command is applied;
    /// this one tells a writer that followed another from one that had too few receipts.
    #[prost(message, optional, tag = "3")]
    pub policy: Option<PolicyRecord>,
}

/// A replica's signed word that it holds a chunk durably at this length; see [`crate::grant`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Receipt {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Final length.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// CRC32C of the content.
    #[prost(uint32, tag = "4")]
    pub checksum: u32,
    /// Where it is.
    #[prost(message, optional, tag = "5")]
    pub replica: Option<ReplicaRecord>,
    /// HMAC-SHA256 by the cluster key, 32 bytes.
    #[prost(bytes = "bytes", tag = "6")]
    pub signature: bytes::Bytes,
}

/// How content meets what is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum PublishMode {
    /// It becomes the whole content.
    Replace = 0,
    /// It is added at the end.
    Append = 1,
    /// It replaces the bytes from `offset`, which must not lie beyond the end; it may lengthen the file.
    Range = 2,
}

/// Creates or changes a file. Atomic: readers see the content before or after.
#[derive(Clone, PartialEq, Message)]
pub struct Publish {
    /// The file.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// Must hold.
    #[prost(message, optional, tag = "2")]
    pub precondition: Option<Precondition>,
    /// Replace, append or range.
    #[prost(enumeration = "PublishMode", tag = "3")]
    pub mode: i32,
    /// For `Range`.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// What.
    #[prost(message, optional, tag = "5")]
    pub content: Option<Content>,
    /// Make missing directories on the way.
    #[prost(bool, tag = "6")]
    pub parents: bool,
    /// Permission bits of a new file; absent: 0644.
    #[prost(uint32, optional, tag = "7")]
    pub file_mode: Option<u32>,
    /// With `Replace`: publish this staged inode's content instead of `content`; 0: none.
    #[prost(uint64, tag = "8")]
    pub staged: u64,
    /// Attributes that the file has from the moment at which it has the content, be it new or not; its time of
    /// modification too. A policy among them is for its next content.
    #[prost(message, optional, tag = "9")]
    pub attributes: Option<AttributeChanges>,
}

/// Makes an unlinked inode to which content is added in steps. Answer: [`Outcome`] with `inode`.
#[derive(Clone, PartialEq, Message)]
pub struct Stage {
    /// Directory or file whose policy counts, and where the caller must be allowed to write.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// Lease in microseconds of log time.
    #[prost(uint64, tag = "2")]
    pub lease: u64,
    /// The policy that its chunks follow; absent: the one in force at the target. The one in force when the content is
    /// published must not ask for more.
    #[prost(message, optional, tag = "3")]
    pub policy: Option<PolicyRecord>,
}

/// Adds content at the end of a staged inode and renews its lease.
#[derive(Clone, PartialEq, Message)]
pub struct StageExtend {
    /// The staged inode.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Its size before, so that a repeated step is refused.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// What.
    #[prost(message, optional, tag = "3")]
    pub content: Option<Content>,
    /// New lease in microseconds from this entry's time.
    #[prost(uint64, tag = "4")]
    pub lease: u64,
}

/// Gives a staged inode up.
#[derive(Clone, PartialEq, Message)]
pub struct StageAbandon {
    /// The staged inode.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Moves a file's inline content into chunks that hold the same bytes. Its version and times stay.
#[derive(Clone, PartialEq, Message)]
pub struct ConvertInline {
    /// The file.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Its content version; refused with `precondition_failed` if it has another, or is not inline any more.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Whole chunks of this command that hold its bytes.
    #[prost(message, optional, tag = "3")]
    pub content: Option<Content>,
}

/// Makes a directory.
#[derive(Clone, PartialEq, Message)]
pub struct MakeDirectory {
    /// The directory.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// Make missing ones on the way, and succeed if it exists.
    #[prost(bool, tag = "2")]
    pub parents: bool,
    /// Permission bits; absent: 0755.
    #[prost(uint32, optional, tag = "3")]
    pub mode: Option<u32>,
    /// Attributes of the directory if it is new.
    #[prost(message, optional, tag = "4")]
    pub attributes: Option<AttributeChanges>,
}

/// Makes a symbolic link.
#[derive(Clone, PartialEq, Message)]
pub struct MakeSymbolicLink {
    /// The link.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// What it points to: any text of 1 to 4,095 bytes without NUL. It is kept, and not looked at.
    #[prost(string, tag = "2")]
    pub link: String,
    /// Must hold.
    #[prost(message, optional, tag = "3")]
    pub precondition: Option<Precondition>,
    /// Take the place of a file or another link.
    #[prost(bool, tag = "4")]
    pub overwrite: bool,
    /// Make missing directories on the way.
    #[prost(bool, tag = "5")]
    pub parents: bool,
    /// Its attributes; a link has no permission bits and no policy.
    #[prost(message, optional, tag = "6")]
    pub attributes: Option<AttributeChanges>,
}

/// Renames a file or directory, atomically.
#[derive(Clone, PartialEq, Message)]
pub struct Rename {
    /// What.
    #[prost(message, optional, tag = "1")]
    pub from: Option<Target>,
    /// Its new place.
    #[prost(message, optional, tag = "2")]
    pub to: Option<Target>,
    /// Replace a file, or an empty directory by a directory.
    #[prost(bool, tag = "3")]
    pub overwrite: bool,
    /// Must hold for the source.
    #[prost(message, optional, tag = "4")]
    pub precondition: Option<Precondition>,
    /// Make missing directories on the way to the new place.
    #[prost(bool, tag = "5")]
    pub parents: bool,
}

/// Deletes a file or directory.
#[derive(Clone, PartialEq, Message)]
pub struct Delete {
    /// What.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// A whole tree: detached at once, reclaimed in the background.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    /// Must hold.
    #[prost(message, optional, tag = "3")]
    pub precondition: Option<Precondition>,
    /// 0 either, 1 it must be a file, 2 it must be a directory.
    #[prost(uint32, tag = "4")]
    pub expect: u32,
}

/// Changes attributes.
#[derive(Clone, PartialEq, Message)]
pub struct SetAttributes {
    /// Whose.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// Must hold.
    #[prost(message, optional, tag = "2")]
    pub precondition: Option<Precondition>,
    /// What changes.
    #[prost(message, optional, tag = "3")]
    pub changes: Option<AttributeChanges>,
}

/// Attributes to set; absent fields stay.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeChanges {
    /// Permission bits.
    #[prost(uint32, optional, tag = "2")]
    pub mode: Option<u32>,
    /// Owner; superuser only.
    #[prost(string, optional, tag = "3")]
    pub owner: Option<String>,
    /// Group; superuser, or the owner to a group of its own.
    #[prost(string, optional, tag = "4")]
    pub group: Option<String>,
    /// Microseconds since 1970.
    #[prost(uint64, optional, tag = "5")]
    pub modified: Option<u64>,
    /// Microseconds since 1970.
    #[prost(uint64, optional, tag = "6")]
    pub accessed: Option<u64>,
    /// Set these.
    #[prost(message, repeated, tag = "7")]
    pub set_xattrs: Vec<Xattr>,
    /// Remove these.
    #[prost(string, repeated, tag = "8")]
    pub remove_xattrs: Vec<String>,
    /// Remove all others.
    #[prost(bool, tag = "9")]
    pub replace_xattrs: bool,
    /// Policy of new files in it (directory) or of its next content (file).
    #[prost(message, optional, tag = "10")]
    pub policy: Option<PolicyRecord>,
    /// Take the parent's policy again.
    #[prost(bool, tag = "11")]
    pub inherit_policy: bool,
}

/// Opens (or keeps open) the origin's session. Commands of an unknown session are refused, not applied.
#[derive(Clone, PartialEq, Message)]
pub struct OpenSession {
    /// Microseconds of log time without a command after which it is forgotten.
    #[prost(uint64, tag = "1")]
    pub ttl: u64,
    /// A log index that was applied when the client drew its id (0: it knows none). An id as old as one of the sessions
    /// that were forgotten is refused: it might be one of them.
    #[prost(uint64, tag = "2")]
    pub seen: u64,
}

/// Forgets the origin's session.
#[derive(Clone, PartialEq, Message)]
pub struct CloseSession {}

/// Takes the next `count` chunk ids of the shard for the leader's memory. Answer: `first_chunk`.
#[derive(Clone, PartialEq, Message)]
pub struct AllocateRange {
    /// How many, 1 to 65,536.
    #[prost(uint64, tag = "1")]
    pub count: u64,
}

/// Raises the grant floor; a lower one is a no-op.
#[derive(Clone, PartialEq, Message)]
pub struct RaiseGrantFloor {
    /// Commits with chunk ids below it are refused.
    #[prost(uint64, tag = "1")]
    pub floor: u64,
}

/// One bounded step of background work, proposed by the leader while there is any: reclaims detached trees and
/// abandoned stages, dooms unreferenced chunks, forgets expired sessions and keys.
#[derive(Clone, PartialEq, Message)]
pub struct Housekeep {
    /// At most about this many records are touched.
    #[prost(uint32, tag = "1")]
    pub limit: u32,
}

/// These replicas of doomed chunks are gone (deleted, or their disk is); a chunk without replicas is forgotten.
#[derive(Clone, PartialEq, Message)]
pub struct ForgetReplicas {
    /// Which.
    #[prost(message, repeated, tag = "1")]
    pub replicas: Vec<ChunkReplica>,
}

/// Nobody will publish these chunks: their writer gave them up. They are doomed at once, unless they are recorded or were given
/// up before, and no command records them any more.
#[derive(Clone, PartialEq, Message)]
pub struct AbandonChunks {
    /// Which, at most 1,024.
    #[prost(message, repeated, tag = "1")]
    pub chunks: Vec<AbandonedChunk>,
}

/// A chunk that its writer gave up.
#[derive(Clone, PartialEq, Message)]
pub struct AbandonedChunk {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Where it may be: the replicas that were granted.
    #[prost(message, repeated, tag = "2")]
    pub replicas: Vec<ReplicaRecord>,
}

/// An operator has looked at a restored state: replicas may be deleted again. A no-op otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReleaseDeletion {}

/// A replica of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ChunkReplica {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Replica.
    #[prost(message, optional, tag = "2")]
    pub replica: Option<ReplicaRecord>,
}

/// Adds or updates a node: refused if another node holds the id with another incarnation, or a disk.
#[derive(Clone, PartialEq, Message)]
pub struct RegisterNode {
    /// As it shall be; `since` is filled by apply.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeRecord>,
}

/// An operator's decision about a node.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateNode {
    /// Node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Drain it or not.
    #[prost(bool, optional, tag = "2")]
    pub draining: Option<bool>,
    /// Fence it or not.
    #[prost(bool, optional, tag = "3")]
    pub fenced: Option<bool>,
    /// Remove it for good: its disks are gone, and it never comes back under this id. Refused while a chunk has a replica
    /// on it, but for `with_replicas`.
    #[prost(bool, tag = "4")]
    pub remove: bool,
    /// It has a vote, or it was replaced and has none any more.
    #[prost(bool, optional, tag = "5")]
    pub voter: Option<bool>,
    /// With `remove`: the replicas on it count for nothing from now on. Whoever proposes that has looked what is lost.
    #[prost(bool, tag = "6")]
    pub with_replicas: bool,
    /// Only if the node's record was written last by the command with this [`drystone_types::Since`]: otherwise `conflict`.
    #[prost(uint64, optional, tag = "7")]
    pub if_since: Option<u64>,
    /// With `fenced`: a removal fences it and decides afterwards. A fence that was there before stays what it is.
    #[prost(bool, tag = "8")]
    pub removing: bool,
}

/// First command of a history: the root directory and the cluster's defaults. A second one is a no-op.
#[derive(Clone, PartialEq, Message)]
pub struct Initialize {
    /// Default policy.
    #[prost(message, optional, tag = "1")]
    pub policy: Option<PolicyRecord>,
    /// Owner of the root directory.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// Permission bits of the root; 0: 0777.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
}

/// A command.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Which.
    #[prost(
        oneof = "Op",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21, 22, 23, 24, 25, 26, 27, 28"
    )]
    pub op: Option<Op>,
}

/// The commands.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(missing_docs, reason = "each names its message")]
pub enum Op {
    #[prost(message, tag = "1")]
    Publish(Publish),
    #[prost(message, tag = "2")]
    MakeDirectory(MakeDirectory),
    #[prost(message, tag = "3")]
    Rename(Rename),
    #[prost(message, tag = "4")]
    Delete(Delete),
    #[prost(message, tag = "5")]
    SetAttributes(SetAttributes),
    #[prost(message, tag = "6")]
    Stage(Stage),
    #[prost(message, tag = "7")]
    StageExtend(StageExtend),
    #[prost(message, tag = "8")]
    StageAbandon(StageAbandon),
    #[prost(message, tag = "9")]
    OpenSession(OpenSession),
    #[prost(message, tag = "10")]
    CloseSession(CloseSession),
    #[prost(message, tag = "11")]
    MakeSymbolicLink(MakeSymbolicLink),
    #[prost(message, tag = "12")]
    ConvertInline(ConvertInline),
    #[prost(message, tag = "20")]
    Initialize(Initialize),
    #[prost(message, tag = "21")]
    AllocateRange(AllocateRange),
    #[prost(message, tag = "22")]
    RaiseGrantFloor(RaiseGrantFloor),
    #[prost(message, tag = "23")]
    Housekeep(Housekeep),
    #[prost(message, tag = "24")]
    ForgetReplicas(ForgetReplicas),
    #[prost(message, tag = "25")]
    RegisterNode(RegisterNode),
    #[prost(message, tag = "26")]
    UpdateNode(UpdateNode),
    #[prost(message, tag = "27")]
    ReleaseDeletion(ReleaseDeletion),
    #[prost(message, tag = "28")]
    AbandonChunks(AbandonChunks),
}

impl Op {
    /// True for the commands that only the cluster itself proposes (and, where an administrator decides, its leader on
    /// the administrator's behalf): a client's are refused.
    pub fn is_internal(&self) -> bool {
        match self {
            Op::Publish(_)
            | Op::MakeDirectory(_)
            | Op::MakeSymbolicLink(_)
            | Op::Rename(_)
            | Op::Delete(_)
            | Op::SetAttributes(_)
            | Op::Stage(_)
            | Op::StageExtend(_)
            | Op::StageAbandon(_)
            | Op::ConvertInline(_)
            | Op::OpenSession(_)
            | Op::CloseSession(_) => false,
            Op::Initialize(_)
            | Op::AllocateRange(_)
            | Op::RaiseGrantFloor(_)
            | Op::Housekeep(_)
            | Op::ForgetReplicas(_)
            | Op::RegisterNode(_)
            | Op::UpdateNode(_)
            | Op::ReleaseDeletion(_)
            | Op::AbandonChunks(_) => true,
        }
    }
}

/// What apply answers; kept in the session for repeats.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Outcome {
    /// `drystone_types::Code` number; 0 = done.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// What was wrong, for people; empty when done.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The inode that was made, changed or deleted.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Its content version (or that of the directory) after.
    #[prost(uint64, tag = "4")]
    pub version: u64,
    /// Something was created that was not there before.
    #[prost(bool, tag = "5")]
    pub created: bool,
    /// File size after.
    #[prost(uint64, tag = "6")]
    pub size: u64,
    /// Where appended bytes begin.
    #[prost(uint64, tag = "7")]
    pub offset: u64,
    /// First id of an allocated range.
    #[prost(uint64, tag = "8")]
    pub first_chunk: u64,
    /// Background work is left (housekeeping).
    #[prost(bool, tag = "9")]
    pub more: bool,
    /// Least number of replicas among the chunks recorded; 0 if none was.
    #[prost(uint32, tag = "10")]
    pub redundancy: u32,
}
