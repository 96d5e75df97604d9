//! What the background tasks of a leader work with.

use crate::config::Config;
use crate::leader::office::Leader;
use crate::lifecycle::Lifecycle;
use crate::membership::join::Membership;
use crate::metrics::Metrics;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use crate::state::readers::Readers;
use drystone_env::Clock;
use drystone_rpc::Channels;
use drystone_types::NodeId;
use std::sync::Arc;

/// See the module.
pub(crate) struct TaskParts {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) readers: Readers,
    pub(crate) leader: Arc<Leader>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) channels: Channels,
    /// `host:port` of this server.
    pub(crate) address: String,
    pub(crate) metrics: Metrics,
}
