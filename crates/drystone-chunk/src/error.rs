//! Why a chunk server did not start, and why it stopped.

use crate::config::ConfigFaults;

/// Why a chunk server did not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigFaults),
    /// Its directories belong to different nodes, or the same disk is given twice.
    #[error("the data directories {first} and {second} do not belong together: {what}")]
    Mixed {
        /// One directory.
        first: String,
        /// The other.
        second: String,
        /// What differs.
        what: String,
    },
    /// None of the disks can be used.
    #[error("no disk could be opened: {}", join(.0))]
    NoDisk(Vec<DiskFault>),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A disk that could not be opened; the others serve without it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct DiskFault {
    /// The data directory.
    pub path: String,
    /// Why, for people.
    pub reason: String,
}

fn join(faults: &[DiskFault]) -> String {
    faults
        .iter()
        .map(DiskFault::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Why a running server stopped serving.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StopReason {
    /// [`crate::Handle::shutdown`] was called.
    #[error("it was asked to stop")]
    Asked,
    /// The cluster does not know this node, or knows another under its id: nothing of it counts until an
    /// operator decides. The process should exit with this as its error.
    #[error("the cluster refused this node: {0}")]
    Stranger(String),
}

/// A server that was stopped has disks that hang: work on them goes on, and their directories stay locked, until they answer
/// or the process ends. Nothing that was acknowledged is lost.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("chunk server {node}: {} did not finish its work within {patience:?}: does the disk answer?", disks.join(", "))]
pub struct StopError {
    /// Whose they are.
    pub node: drystone_types::NodeId,
    /// Their directories.
    pub disks: Vec<String>,
    /// How long they were waited for.
    pub patience: std::time::Duration,
}
