//! What holds for every body that claims to be a message: the body of the fuzz target `messages`.

use drystone_proto::{Message, cluster, command, data, grant, meta, raft, record};

/// Decodes, and tells what it is again: `None` if it is no such message.
type Recode = fn(&[u8]) -> Option<Vec<u8>>;

fn recode<M: Message + Default>(bytes: &[u8]) -> Option<Vec<u8>> {
    let message = M::decode(bytes).ok()?;
    let encoded = message.encode_to_vec();
    assert_eq!(encoded.len(), message.encoded_len());
    Some(encoded)
}

macro_rules! messages {
    ($($message:path,)*) => {
        /// Every message of the wire, the log and the state. Append only: seeds name them by their place.
        pub const MESSAGES: &[(&str, Recode)] = &[$((stringify!($message), recode::<$message>),)*];
    };
}

messages! {
    cluster::Empty,
    cluster::ErrorReply,
    cluster::Hello,
    cluster::HelloReply,
    cluster::Ping,
    cluster::ClusterInfoRequest,
    cluster::Member,
    cluster::ClusterInfo,
    cluster::Register,
    cluster::RegisterReply,
    cluster::DiskLoad,
    cluster::Heartbeat,
    cluster::HeartbeatReply,
    cluster::Join,
    cluster::JoinReply,
    cluster::AdminRequest,
    cluster::RaftReplace,
    cluster::ServerStatus,
    cluster::ClusterStatus,
    cluster::AdminReply,
    command::Entry,
    command::Origin,
    command::Target,
    command::Precondition,
    command::VersionTag,
    command::Content,
    command::NewExtent,
    command::NewChunk,
    command::Receipt,
    command::Publish,
    command::Stage,
    command::StageExtend,
    command::StageAbandon,
    command::MakeDirectory,
    command::Rename,
    command::Delete,
    command::SetAttributes,
    command::OpenSession,
    command::CloseSession,
    command::AllocateRange,
    command::RaiseGrantFloor,
    command::Housekeep,
    command::ForgetReplicas,
    command::ChunkReplica,
    command::RegisterNode,
    command::UpdateNode,
    command::Initialize,
    command::Command,
    command::Outcome,
    data::Hop,
    data::Append,
    data::HopState,
    data::AppendReply,
    data::Finish,
    data::FinishReply,
    data::ChunkStatusRequest,
    data::ChunkStatus,
    data::Fence,
    data::FenceReply,
    data::Seal,
    data::Read,
    data::ReadReply,
    data::Delete,
    data::DeleteOrder,
    data::DeleteReply,
    data::ListChunks,
    data::ListChunksReply,
    data::CopyPrefix,
    grant::WriteGrant,
    meta::MutateRequest,
    meta::MutateReply,
    meta::LookupRequest,
    meta::LocatedExtent,
    meta::LookupReply,
    meta::DiskLocation,
    meta::ListRequest,
    meta::ListEntry,
    meta::ListReply,
    meta::GrantRequest,
    meta::GrantReply,
    meta::ChunkGrant,
    meta::GrantedReplica,
    meta::DamageReport,
    raft::RaftEntry,
    raft::RaftHardState,
    raft::RaftConfState,
    raft::RaftSnapshotMeta,
    raft::RaftMessage,
    raft::RaftMessages,
    raft::ConfChangeStep,
    raft::ConfChange,
    raft::SnapshotPart,
    record::PolicyRecord,
    record::Xattr,
    record::InodeRecord,
    record::DentryRecord,
    record::ExtentRecord,
    record::ReplicaRecord,
    record::ChunkRecord,
    record::NodeRecord,
    record::DiskRecord,
    command::ReleaseDeletion,
    command::MakeSymbolicLink,
    cluster::AskReport,
    cluster::RemoveServer,
    cluster::RemovedServer,
    data::ServerOrder,
    data::OrderAck,
    cluster::LostChunk,
    cluster::LostFile,
    cluster::LostPage,
    command::AttributeChanges,
    record::PlacedReplica,
    command::ConvertInline,
    command::AbandonChunks,
    command::AbandonedChunk,
    meta::AbandonRequest,
}

/// The first byte chooses the message, the rest is its body. Decoding never panics; what is decoded is encoded to
/// bytes that decode to the same.
pub fn messages(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else {
        return;
    };
    let (name, recode) = MESSAGES[usize::from(*choice) % MESSAGES.len()];
    if let Some(encoded) = recode(body) {
        assert_eq!(recode(&encoded).as_ref(), Some(&encoded), "{name}");
    }
}
