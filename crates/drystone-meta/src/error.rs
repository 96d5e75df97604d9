//! Why a metadata server does not start.

use crate::config::ConfigFaults;
use std::path::PathBuf;

/// Why a metadata server does not start. Nothing was changed that a second start would not repeat.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigFaults),
    /// The data directory cannot be used: not formatted, locked by another process, damaged identity, of another
    /// role.
    #[error("data directory {}: {reason}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The wire cannot listen.
    #[error("listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// The log is damaged beyond what a torn write explains. With other voters alive: format a new directory to
    /// join, and replace this node by it (`admin raft replace OLD NEW`). A lone voter: `admin recover`.
    #[error(
        "the log in {} is damaged and nothing of it is believed: {reason}; if other voters live, replace this one \
         (`drystone admin raft replace`); if it is alone, `drystone admin recover --data {} --dry-run` shows what \
         can be restored", directory.display(), directory.display()
    )]
    LogDamaged {
        /// Which data directory.
        directory: PathBuf,
        /// Where, expected and found.
        reason: String,
    },
    /// The state store is damaged and this is the only voter, so that no snapshot can replace it. The log is
    /// intact.
    #[error(
        "the state in {} is damaged, no other voter can send it and no export leads to the log: {reason}; \
         `drystone admin recover --data {} --dry-run` shows what can be restored", directory.display(),
        directory.display()
    )]
    StateDamaged {
        /// Which data directory.
        directory: PathBuf,
        /// Where, expected and found.
        reason: String,
    },
    /// Raft or the log could not be opened for another reason.
    #[error("raft: {0}")]
    Raft(String),
    /// The state store could not be opened for a reason other than damage.
    #[error("state store: {0}")]
    Store(String),
}

/// A server that was stopped has not ended: this keeps its directory locked. Nothing that was acknowledged is lost.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "metadata server {node}: {} did not end, and nothing has for {patience:?}: does its disk answer?",
    threads.join(", ")
)]
pub struct StopError {
    /// Whose they are.
    pub node: drystone_types::NodeId,
    /// The names of the threads.
    pub threads: Vec<&'static str>,
    /// How long it was waited for the next of them.
    pub patience: std::time::Duration,
}
