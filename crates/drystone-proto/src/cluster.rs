//! Hello, errors, registration, heartbeat, membership and administration.

use crate::data::{ChunkStatus, OrderAck, ServerOrder};
use crate::kind::sender;
use crate::record::{ChunkRecord, NodeRecord, PolicyRecord};
use prost::Message;

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// Body of every reply with the error flag.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ErrorReply {
    /// `drystone_types::Code` number.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// `busy`: come back after this many milliseconds. `stranger` with an `expected` boot: ask again after as many;
    /// 0: take it now.
    #[prost(uint32, tag = "3")]
    pub retry_after_ms: u32,
    /// `not_leader`: the leader's address if known.
    #[prost(string, tag = "4")]
    pub leader: String,
    /// `fenced`: the epoch now.
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// `conflict`: the length or offset that was expected. `stranger` to a registration: the boot counter that a
    /// server whose disks missed boots has to take; 0: it is refused for good.
    #[prost(uint64, tag = "6")]
    pub expected: u64,
    /// `conflict` of a second final: the receipt of the first.
    #[prost(message, optional, tag = "7")]
    pub receipt: Option<crate::command::Receipt>,
}

/// Who speaks. The frame's history id is zero for a client that does not know it yet.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// 16 bytes, empty if not known.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: bytes::Bytes,
    /// 16 bytes, empty if not known.
    #[prost(bytes = "bytes", tag = "2")]
    pub history: bytes::Bytes,
    /// Sending node; 0 for clients.
    #[prost(uint64, tag = "3")]
    pub node: u64,
    /// Its incarnation.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// The receiver that the sender means to reach; 0 = whoever is there.
    #[prost(uint64, tag = "5")]
    pub to_node: u64,
    /// Software version, for people.
    #[prost(string, tag = "6")]
    pub software: String,
    /// What the sending node is here, bits of [`crate::record::role`]; 0 for clients.
    #[prost(uint32, tag = "7")]
    pub roles: u32,
}

impl Hello {
    /// The classes that the sender is of, bits of [`crate::kind::sender`].
    pub fn sender_classes(&self) -> u32 {
        let node = self.roles & (sender::METADATA_SERVER | sender::CHUNK_SERVER);
        let client = if self.node == 0 { sender::CLIENT } else { 0 };
        node | client
    }
}

/// Who answers.
#[derive(Clone, PartialEq, Message)]
pub struct HelloReply {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: bytes::Bytes,
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub history: bytes::Bytes,
    /// Answering node.
    #[prost(uint64, tag = "3")]
    pub node: u64,
    /// Its incarnation.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// Software version, for people.
    #[prost(string, tag = "5")]
    pub software: String,
    /// Requests that the sender may have unanswered on this connection.
    #[prost(uint32, tag = "6")]
    pub window: u32,
}

/// A round trip.
#[derive(Clone, PartialEq, Message)]
pub struct Ping {
    /// Comes back.
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
}

/// Asks any metadata server about the cluster.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterInfoRequest {}

/// A voter or learner.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Member {
    /// Node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// `host:port`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// It votes.
    #[prost(bool, tag = "3")]
    pub voter: bool,
    /// Highest log index known to be synced there (leader's view; 0 otherwise).
    #[prost(uint64, tag = "4")]
    pub matched: u64,
    /// It answered the leader lately (leader's view).
    #[prost(bool, tag = "5")]
    pub alive: bool,
    /// For people.
    #[prost(string, tag = "6")]
    pub name: String,
    /// Two processes ran under its id, or it is being replaced: it waits for an operator.
    #[prost(bool, tag = "7")]
    pub fenced: bool,
}

/// What a client needs to know.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterInfo {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: bytes::Bytes,
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub history: bytes::Bytes,
    /// Leader's node id; 0 = not known.
    #[prost(uint64, tag = "3")]
    pub leader: u64,
    /// Term.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// Metadata servers.
    #[prost(message, repeated, tag = "5")]
    pub members: Vec<Member>,
    /// Largest content that may go into a command now; 0 = none (too few live voters for the policy).
    #[prost(uint32, tag = "6")]
    pub inline_max: u32,
    /// The cluster's default policy.
    #[prost(message, optional, tag = "7")]
    pub policy: Option<PolicyRecord>,
    /// Applied index.
    #[prost(uint64, tag = "8")]
    pub applied: u64,
}

/// A chunk server introduces itself, at start and when it meets a new leader.
#[derive(Clone, PartialEq, Message)]
pub struct Register {
    /// As it is now.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeRecord>,
}

/// Registered.
#[derive(Clone, PartialEq, Message)]
pub struct RegisterReply {
    /// Client grants for chunk ids below this are refused.
    #[prost(uint64, tag = "1")]
    pub grant_floor: u64,
    /// How often to send heartbeats, milliseconds.
    #[prost(uint32, tag = "2")]
    pub heartbeat_ms: u32,
    /// Leader's term.
    #[prost(uint64, tag = "3")]
    pub term: u64,
}

/// Load of one disk.
#[derive(Clone, PartialEq, Message)]
pub struct DiskLoad {
    /// Disk.
    #[prost(uint64, tag = "1")]
    pub disk: u64,
    /// Bytes that chunks can take in all.
    #[prost(uint64, tag = "2")]
    pub total_bytes: u64,
    /// Bytes that can still be taken.
    #[prost(uint64, tag = "3")]
    pub free_bytes: u64,
    /// Replicas held.
    #[prost(uint64, tag = "4")]
    pub chunks: u64,
    /// Bytes that chunks have taken.
    #[prost(uint64, tag = "5")]
    pub used_bytes: u64,
    /// Work queued or under way.
    #[prost(uint32, tag = "6")]
    pub queue: u32,
    /// p99 of the last minute's writes and syncs, microseconds.
    #[prost(uint32, tag = "7")]
    pub write_p99_us: u32,
    /// Errors since the last heartbeat: of the device.
    #[prost(uint32, tag = "8")]
    pub io_errors: u32,
    /// Errors since the last heartbeat: of checksums.
    #[prost(uint32, tag = "9")]
    pub checksum_errors: u32,
    /// It takes no writes any more (failed sync, damaged journal, full).
    #[prost(bool, tag = "10")]
    pub read_only: bool,
    /// Why, for people.
    #[prost(string, tag = "11")]
    pub reason: String,
    /// Of `free_bytes`, those that the file system has left: any disk on it can take them.
    #[prost(uint64, tag = "12")]
    pub shared_free_bytes: u64,
    /// Bytes of the file system: `used_bytes`, `free_bytes`, `kept_bytes` and `others_bytes` together.
    #[prost(uint64, tag = "13")]
    pub device_bytes: u64,
    /// Bytes that are free and that no new chunk gets: the reserve of the file system, what is for repair only, what is
    /// above a configured limit.
    #[prost(uint64, tag = "14")]
    pub kept_bytes: u64,
    /// Bytes that others have taken, the disk's own journal and the file system itself among them.
    #[prost(uint64, tag = "15")]
    pub others_bytes: u64,
}

/// Liveness and load.
#[derive(Clone, PartialEq, Message)]
pub struct Heartbeat {
    /// Sender.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Its incarnation.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Its boot.
    #[prost(uint64, tag = "3")]
    pub boot_counter: u64,
    /// Its boot.
    #[prost(uint64, tag = "4")]
    pub boot_random: u64,
    /// Disks.
    #[prost(message, repeated, tag = "5")]
    pub disks: Vec<DiskLoad>,
    /// Replicas that are not sealed, or sealed since the last heartbeat that was answered; at most 4,096.
    #[prost(message, repeated, tag = "6")]
    pub open: Vec<ChunkStatus>,
    /// What became of orders since the last heartbeat that was answered; at most 4,096. (7 was a list of deletions.)
    #[prost(message, repeated, tag = "8")]
    pub acks: Vec<OrderAck>,
}

/// Orders for the server.
#[derive(Clone, PartialEq, Message)]
pub struct HeartbeatReply {
    /// See [`RegisterReply`].
    #[prost(uint64, tag = "1")]
    pub grant_floor: u64,
    /// Leader's term.
    #[prost(uint64, tag = "3")]
    pub term: u64,
    /// This leader does not know the server: register again.
    #[prost(bool, tag = "4")]
    pub register: bool,
    /// How often to send one.
    #[prost(uint32, tag = "5")]
    pub heartbeat_ms: u32,
    /// What the server is to do; each order is repeated until it is acknowledged. (2 was a list of deletions.)
    #[prost(message, repeated, tag = "6")]
    pub orders: Vec<ServerOrder>,
}

/// A leader that has taken office asks a chunk server to register with it now.
#[derive(Clone, PartialEq, Message)]
pub struct AskReport {
    /// The leader's term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// `host:port` of the leader.
    #[prost(string, tag = "2")]
    pub leader: String,
}

/// A metadata server that was formatted as a joiner asks to be added as a learner.
#[derive(Clone, PartialEq, Message)]
pub struct Join {
    /// As it is now.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeRecord>,
}

/// It is a learner now (or was already).
#[derive(Clone, PartialEq, Message)]
pub struct JoinReply {
    /// The members after.
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<Member>,
    /// What the replicated state says of the metadata servers: which process of each counts.
    #[prost(message, repeated, tag = "2")]
    pub records: Vec<NodeRecord>,
}

/// Administration.
#[derive(Clone, PartialEq, Message)]
pub struct AdminRequest {
    /// What.
    #[prost(oneof = "AdminOp", tags = "1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 22")]
    pub op: Option<AdminOp>,
}

/// Administration.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum AdminOp {
    /// The whole cluster at a glance.
    #[prost(message, tag = "1")]
    Status(Empty),
    /// Raft members and their progress.
    #[prost(message, tag = "2")]
    Raft(Empty),
    /// Make the learner `new` a voter in the place of `old`, by one joint change.
    #[prost(message, tag = "3")]
    RaftReplace(RaftReplace),
    /// Drain, fence or remove a node.
    #[prost(message, tag = "4")]
    UpdateNode(crate::command::UpdateNode),
    /// One chunk's record.
    #[prost(uint64, tag = "5")]
    Chunk(u64),
    /// Hand leadership to this voter.
    #[prost(uint64, tag = "6")]
    TransferLeader(u64),
    /// Let all orphans on this node go that the leader holds back because there are so many.
    #[prost(uint64, tag = "7")]
    ReleaseSweep(u64),
    /// Let replicas be deleted again after a restore.
    #[prost(message, tag = "8")]
    ReleaseDeletion(Empty),
    /// Remove a chunk server from the cluster for good.
    #[prost(message, tag = "21")]
    RemoveServer(RemoveServer),
    /// Let a metadata server that has no vote be a member no more; it does not come back under its id.
    #[prost(uint64, tag = "22")]
    RemoveLearner(u64),
    /// A page of the chunks that have no replica that counts, with ids above this one, and whom they belong to.
    #[prost(uint64, tag = "20")]
    Lost(u64),
}

/// A chunk without a replica on a disk that counts.
#[derive(Clone, PartialEq, Message)]
pub struct LostChunk {
    /// Its record.
    #[prost(message, optional, tag = "1")]
    pub chunk: Option<ChunkRecord>,
    /// Names of the servers that held its replicas, those that are known.
    #[prost(string, repeated, tag = "2")]
    pub servers: Vec<String>,
    /// Files with bytes in it.
    #[prost(message, repeated, tag = "3")]
    pub files: Vec<LostFile>,
    /// There are more files than that.
    #[prost(bool, tag = "4")]
    pub more_files: bool,
}

/// A file with bytes in a chunk that is lost.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LostFile {
    /// Its inode.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Inodes of the directories that it is in, from the one below the root to its own; names are found by listing them.
    #[prost(uint64, repeated, tag = "2")]
    pub directories: Vec<u64>,
    /// It has no name: it is being deleted, or staged.
    #[prost(bool, tag = "3")]
    pub detached: bool,
    /// Its bytes in the chunk begin at these offsets of the file, the first ones.
    #[prost(uint64, repeated, tag = "4")]
    pub offsets: Vec<u64>,
}

/// Answer to [`AdminOp::Lost`].
#[derive(Clone, PartialEq, Message)]
pub struct LostPage {
    /// In order of ids.
    #[prost(message, repeated, tag = "1")]
    pub chunks: Vec<LostChunk>,
    /// Go on above this id; 0: that was all.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// Servers that this leader has not heard from, or not lately: what only they hold is listed.
    #[prost(string, repeated, tag = "3")]
    pub unheard: Vec<String>,
}

/// See [`AdminOp::RaftReplace`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RaftReplace {
    /// Voter to remove.
    #[prost(uint64, tag = "1")]
    pub old: u64,
    /// Learner to promote.
    #[prost(uint64, tag = "2")]
    pub new: u64,
}

/// See [`AdminOp::RemoveServer`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RemoveServer {
    /// Chunk server to remove.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Also if it is alive, or if bytes are lost with it.
    #[prost(bool, tag = "2")]
    pub force: bool,
}

/// What went with a chunk server that was removed.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RemovedServer {
    /// Its replicas, of chunks that files refer to: so many chunks have one less.
    #[prost(uint64, tag = "1")]
    pub replicas: u64,
    /// Chunks of which no other disk that counts holds a replica.
    #[prost(uint64, tag = "2")]
    pub lost_chunks: u64,
    /// Their bytes.
    #[prost(uint64, tag = "3")]
    pub lost_bytes: u64,
}

/// State of a chunk server as the leader sees it.
#[derive(Clone, PartialEq, Message)]
pub struct ServerStatus {
    /// As registered.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeRecord>,
    /// `alive`, `suspect`, `dead`, `draining`, `fenced`, `unknown`.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Milliseconds since its last heartbeat; `u64::MAX` = none to this leader.
    #[prost(uint64, tag = "3")]
    pub last_heartbeat_ms: u64,
    /// As reported last.
    #[prost(message, repeated, tag = "4")]
    pub disks: Vec<DiskLoad>,
}

/// The cluster at a glance.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterStatus {
    /// Leader.
    #[prost(uint64, tag = "1")]
    pub leader: u64,
    /// Term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Chunk servers.
    #[prost(message, repeated, tag = "3")]
    pub servers: Vec<ServerStatus>,
    /// Chunks in the namespace (sealed).
    #[prost(uint64, tag = "4")]
    pub chunks_total: u64,
    /// With fewer live replicas than their policy asks for, and at least one. None: not known (yet).
    #[prost(uint64, optional, tag = "5")]
    pub chunks_under_redundant: Option<u64>,
    /// Without any live replica. None: not known (yet).
    #[prost(uint64, optional, tag = "6")]
    pub chunks_lost: Option<u64>,
    /// Bytes lost if one more disk fails, counting chunks below their policy only. None: not known (yet).
    #[prost(uint64, optional, tag = "7")]
    pub exposure_bytes: Option<u64>,
    /// Files.
    #[prost(uint64, tag = "8")]
    pub files: u64,
    /// Directories.
    #[prost(uint64, tag = "9")]
    pub directories: u64,
    /// Bytes of files.
    #[prost(uint64, tag = "10")]
    pub file_bytes: u64,
    /// Metadata servers.
    #[prost(message, repeated, tag = "11")]
    pub members: Vec<Member>,
    /// Grant floor.
    #[prost(uint64, tag = "12")]
    pub grant_floor: u64,
    /// Applied index.
    #[prost(uint64, tag = "13")]
    pub applied: u64,
    /// Damage reports since this leader took office.
    #[prost(uint64, tag = "14")]
    pub damage_reports: u64,
    /// Leader's name.
    #[prost(string, tag = "15")]
    pub leader_name: String,
    /// Doomed chunks whose replicas are not all gone yet.
    #[prost(uint64, tag = "16")]
    pub chunks_doomed: u64,
    /// Warnings for people: domains that are one disk, an even number of voters, ...
    #[prost(string, repeated, tag = "17")]
    pub warnings: Vec<String>,
    /// Why a chunk of the default policy would be refused now; empty: it would be granted.
    #[prost(string, tag = "24")]
    pub writes_refused: String,
    /// The highest id that a node of the cluster has or had. 0: the leader is too old to say it.
    #[prost(uint64, tag = "25")]
    pub highest_node: u64,
    /// Ids of nodes that were removed or replaced: no node can have them again. The highest of them, a thousand at most.
    #[prost(uint64, repeated, tag = "26")]
    pub used_up: Vec<u64>,
}

/// Answer.
#[derive(Clone, PartialEq, Message)]
pub struct AdminReply {
    /// To status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<ClusterStatus>,
    /// To raft and changes of membership.
    #[prost(message, optional, tag = "2")]
    pub info: Option<ClusterInfo>,
    /// To chunk.
    #[prost(message, optional, tag = "3")]
    pub chunk: Option<ChunkRecord>,
    /// To lost.
    #[prost(message, optional, tag = "20")]
    pub lost: Option<LostPage>,
    /// To a removal.
    #[prost(message, optional, tag = "21")]
    pub removed: Option<RemovedServer>,
}
