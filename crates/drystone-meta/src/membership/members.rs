//! What this process knows of the metadata servers: where each is, and which process speaks for it.

use super::peers::Peers;
use super::processes::{AddressChange, NotRegistered, Process, Processes, RecordVerdict};
use crate::lifecycle::Lifecycle;
use drystone_env::{Clock, Monotonic};
use drystone_proto::Message;
use drystone_proto::raft::ConfChange;
use drystone_proto::record::NodeRecord;
use drystone_types::NodeId;
use std::sync::Arc;

/// See the module.
pub(crate) struct Members {
    clock: Arc<dyn Clock>,
    lifecycle: Arc<Lifecycle>,
    peers: Peers,
    processes: Processes,
}

impl Members {
    /// Those of whom `processes` will hear; ends the server when another process takes its place.
    pub(crate) fn new(clock: Arc<dyn Clock>, lifecycle: Arc<Lifecycle>, processes: Processes) -> Self {
        Self {
            clock,
            lifecycle,
            peers: Peers::default(),
            processes,
        }
    }

    /// Where the metadata servers are.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Takes what the replicated state says of metadata servers, up to a record that puts another process in the place
    /// of this one: then false, and the server ends.
    pub(crate) fn take_records<'a>(&self, records: impl IntoIterator<Item = &'a NodeRecord>) -> bool {
        records.into_iter().all(|record| self.take_record(record))
    }

    /// Takes what the replicated state says, or said, of one.
    fn take_record(&self, record: &NodeRecord) -> bool {
        match self.processes.recorded(record, self.clock.now()) {
            RecordVerdict::Counts => self.peers.learn_from_record(record),
            RecordVerdict::Outdated => {}
            RecordVerdict::Superseded(reason) => {
                self.lifecycle.fail(reason);
                return false;
            }
        }
        true
    }

    /// A membership change carries the record of the member that it adds, which counts from there on.
    pub(crate) fn take_change(&self, change: &ConfChange) {
        if let Ok(node) = NodeRecord::decode(change.context.clone()) {
            self.take_record(&node);
        }
    }

    /// True if what the process `speaker` of `node` says counts; its address is learned then. `record` is looked up
    /// when nothing was heard of the node yet.
    pub(crate) fn hear(
        &self,
        node: NodeId,
        speaker: Process,
        record: impl FnOnce() -> Option<NodeRecord>,
    ) -> bool {
        let address = speaker.address.clone();
        if !self.processes.hear(node, speaker, self.clock.now(), record) {
            return false;
        }
        if self.peers.address(node).as_deref() != Some(address.as_str()) {
            self.peers.learn(node, &address);
        }
        true
    }

    /// Whether the leader, which leads since `begun`, registers the process that sends this record.
    ///
    /// # Errors
    /// [`NotRegistered`].
    pub(crate) fn admit(
        &self,
        record: &NodeRecord,
        begun: Monotonic,
    ) -> Result<AddressChange, NotRegistered> {
        self.processes.admit(record, begun, self.clock.now())
    }
}
