//! Replicas that no chunk record names.

use drystone_proto::record::ReplicaRecord;

/// A replica that no record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) chunk: u64,
    pub(crate) replica: ReplicaRecord,
    /// What it holds, as its server says.
    pub(crate) bytes: u64,
}
