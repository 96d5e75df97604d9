//! What administration asks and is answered, as the metadata servers speak it.

pub use drystone_proto::cluster::{
    AdminOp, AdminReply, ClusterInfo, ClusterStatus, DiskLoad, Empty, LostChunk, LostFile, LostPage, Member,
    RaftReplace, RemoveServer, ServerStatus,
};
pub use drystone_proto::command::UpdateNode;
pub use drystone_proto::meta::DamageReport;
pub use drystone_proto::record::{ChunkRecord, DiskRecord, NodeRecord, PolicyRecord, ReplicaRecord};
