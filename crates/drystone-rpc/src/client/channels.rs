//! All channels of one process.

use super::{Channel, ChannelOptions};
use drystone_env::Env;
use drystone_types::{ClusterId, HistoryId, NodeId};

/// All channels of one process (or node): one per address, shared by all who ask for it. Cheap to clone.
#[derive(Clone)]
pub struct Channels {}

impl Channels {
    /// No connection is made yet.
    pub fn new(_env: Env, _options: ChannelOptions) -> Self {
        Self {}
    }

    /// The channel to whoever listens on `address` (`host:port`).
    pub fn to(&self, address: &str) -> Channel {
        self.to_node(address, NodeId(0))
    }

    /// The channel to `node` at `address`: a connection to any other node is refused.
    pub fn to_node(&self, address: &str, node: NodeId) -> Channel {
        self.to_lane(address, node, 0)
    }

    /// A connection of its own (a lane) to `node`, so that bulk data does not stand before small calls.
    pub fn to_lane(&self, _address: &str, _node: NodeId, _lane: u8) -> Channel {
        unimplemented!()
    }

    /// The cluster: given, or learned from the first server met.
    pub fn cluster(&self) -> Option<ClusterId> {
        unimplemented!()
    }

    /// The history: given, or learned from the first server met.
    pub fn history(&self) -> Option<HistoryId> {
        unimplemented!()
    }

    /// Closes every connection; calls fail, later ones too.
    pub fn close(&self) {
        unimplemented!()
    }
}
