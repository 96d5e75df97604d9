//! Start and stop of a metadata server, and the handle that the process keeps.

use crate::config::Config;
use crate::error::StartError;
use drystone_env::Env;
use drystone_types::{ClusterId, HistoryId, NodeId};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// A metadata server; see [`MetadataServer::start`].
pub struct MetadataServer(());

impl MetadataServer {
    /// Starts the server on the formatted directory `config.data`, which stays locked until the handle is shut
    /// down or dropped. Returns once it listens; see [`Handle::ready`] for when a leader is known.
    ///
    /// Cancellation: dropping the future leaves nothing running once the runtime has dropped its tasks.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(env: Env, config: Config) -> Result<Handle, StartError> {
        config.validate()?;
        let _ = env;
        Err(StartError::Raft("not built yet".to_owned()))
    }
}

/// A running metadata server. Dropping it stops it as [`Handle::shutdown`] does, without waiting.
pub struct Handle {
    address: SocketAddr,
    node: NodeId,
    cluster: ClusterId,
    history: HistoryId,
    registry: Arc<Mutex<Registry>>,
}

impl Handle {
    /// Where the wire listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }
    /// The cluster that it was formatted for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }
    /// The history that it serves.
    pub fn history(&self) -> HistoryId {
        self.history
    }
    /// True while a leader is known and this server has caught up with what was committed when it last heard.
    pub fn is_ready(&self) -> bool {
        false
    }
    /// True while this server leads.
    pub fn is_leader(&self) -> bool {
        false
    }
    /// Completes when [`Handle::is_ready`] first holds, or the server has failed (false).
    pub async fn ready(&self) -> bool {
        false
    }
    /// Why the server stopped by itself (a failed disk), if it did.
    pub fn failure(&self) -> Option<String> {
        None
    }
    /// Metrics, to be encoded by the admin port.
    pub fn registry(&self) -> Arc<Mutex<Registry>> {
        Arc::clone(&self.registry)
    }
    /// Stops: hands leadership over if it can within a second, flushes the state, ends every thread and unlocks
    /// the directory.
    pub async fn shutdown(self) {}
}
