//! Where the other metadata servers are.

use crate::locks::PEERS;
use drystone_env::sync::Mutex;
use drystone_proto::record::{NodeRecord, role};
use drystone_types::NodeId;
use std::collections::BTreeMap;

/// Addresses of metadata servers by node.
pub(crate) struct Peers {
    addresses: Mutex<BTreeMap<NodeId, String>>,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            addresses: Mutex::new(PEERS, BTreeMap::new()),
        }
    }
}

impl Peers {
    /// The address of `node`, if it is known.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.addresses.lock().get(&node).cloned()
    }

    /// Every address known, by node.
    pub(crate) fn all(&self) -> BTreeMap<NodeId, String> {
        self.addresses.lock().clone()
    }

    /// `node` is at `address` from now on.
    pub(crate) fn learn(&self, node: NodeId, address: &str) {
        if node.0 != 0 && !address.is_empty() {
            self.addresses.lock().insert(node, address.to_owned());
        }
    }

    /// Takes the address from a node's record, if it is a metadata server.
    pub(crate) fn learn_from_record(&self, node: &NodeRecord) {
        if node.roles & role::METADATA != 0 {
            self.learn(NodeId(node.id), &node.address);
        }
    }
}
