//! Where the other metadata servers are.

use crate::shared::lock;
use drystone_proto::record::{NodeRecord, role};
use drystone_types::NodeId;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Addresses of metadata servers by node.
#[derive(Default)]
pub(crate) struct Peers {
    addresses: Mutex<BTreeMap<NodeId, String>>,
}

impl Peers {
    /// The address of `node`, if it is known.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        lock(&self.addresses).get(&node).cloned()
    }

    /// Every address known, by node.
    pub(crate) fn all(&self) -> BTreeMap<NodeId, String> {
        lock(&self.addresses).clone()
    }

    /// `node` is at `address` from now on.
    pub(crate) fn learn(&self, node: NodeId, address: &str) {
        if node.0 != 0 && !address.is_empty() {
            lock(&self.addresses).insert(node, address.to_owned());
        }
    }

    /// Takes the address from a node's record, if it is a metadata server.
    pub(crate) fn learn_from_record(&self, node: &NodeRecord) {
        if node.roles & role::METADATA != 0 {
            self.learn(NodeId(node.id), &node.address);
        }
    }
}
