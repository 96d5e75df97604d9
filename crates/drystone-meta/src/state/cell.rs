//! Where the namespace of this server is: one thread applies to it, one flushes it, many read it.

use super::applied::AppliedIndex;
use super::stores::StateMachine;
use crate::lifecycle::Lifecycle;
use crate::locks::{FLUSHING, STATE};
use drystone_env::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use drystone_namespace::{NamespaceView, ReadError, StoreError};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::record::{NodeRecord, role};
use drystone_rpc::refusal;
use drystone_types::{Code, NodeId};
use std::sync::Arc;

struct StateCell {
    /// Held by the flusher while a batch is on its way, and by whoever replaces the state.
    flushing: Mutex<()>,
    machine: RwLock<StateMachine>,
    applied: AppliedIndex,
    lifecycle: Arc<Lifecycle>,
}

/// Reads the namespace. Clones are cheap.
#[derive(Clone)]
pub(crate) struct StateReader(Arc<StateCell>);

/// Reads and changes the namespace: for apply and flush. Clones are cheap.
#[derive(Clone)]
pub(crate) struct StateWriter(StateReader);

impl StateReader {
    /// The namespace.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, StateMachine> {
        self.0.machine.read()
    }

    /// The namespace as it is now, for reads that take long or wait for the disk: nobody waits for them. Who has made a
    /// view merges layers behind it.
    ///
    /// # Errors
    /// The store failed.
    pub(super) fn view(&self) -> Result<NamespaceView, StoreError> {
        self.0.machine.write().view()
    }

    /// Merges layers that views have left, without the lock.
    pub(super) fn merge_layers(&self) {
        let merge = self.0.machine.write().begin_merge();
        if let Some(merge) = merge {
            let merged = merge.run();
            let old = self.0.machine.write().end_merge(merged);
            drop(old);
        }
    }

    /// What readers see, and who waits for more.
    pub(crate) fn applied(&self) -> &AppliedIndex {
        &self.0.applied
    }

    /// What the state says of the metadata servers.
    pub(crate) fn metadata_records(&self) -> Vec<NodeRecord> {
        let is_metadata = |node: &&NodeRecord| node.roles & role::METADATA != 0;
        self.read().nodes().filter(is_metadata).cloned().collect()
    }

    /// What the state says of a node.
    pub(crate) fn node(&self, node: NodeId) -> Option<NodeRecord> {
        self.read().node(node).cloned()
    }

    /// Before the first leader has made the root nothing can be said about names: not even that they do not exist.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn initialized(&self) -> Result<(), ErrorReply> {
        if self.read().initialized() {
            Ok(())
        } else {
            Err(refusal(Code::Unavailable, "the cluster is being made"))
        }
    }

    /// An error of the namespace as an answer; a failed store ends the server.
    pub(crate) fn read_error(&self, error: ReadError) -> ErrorReply {
        match error {
            ReadError::Refused(refused) => refusal(refused.code, refused.message),
            ReadError::Store(error) => self.store_error(&error),
        }
    }

    /// As [`StateReader::read_error`], of the store itself.
    pub(crate) fn store_error(&self, error: &StoreError) -> ErrorReply {
        self.0.lifecycle.fail(format!("state store: {error}"));
        refusal(Code::Unavailable, "this server's store failed")
    }

    /// True if nobody else can reach the namespace any more.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl StateWriter {
    /// Of this namespace; what is applied in it is published. A store that fails ends the server.
    pub(crate) fn new(machine: StateMachine, lifecycle: Arc<Lifecycle>) -> Self {
        let index = machine.applied().0;
        let cell = StateCell {
            flushing: Mutex::new(FLUSHING, ()),
            machine: RwLock::new(STATE, machine),
            applied: AppliedIndex::default(),
            lifecycle,
        };
        cell.applied.publish(index);
        Self(StateReader(Arc::new(cell)))
    }

    /// For those who only read.
    pub(crate) fn reader(&self) -> StateReader {
        self.0.clone()
    }

    /// Keeps batches from being written and the namespace from being replaced. Taken before the namespace is.
    pub(crate) fn flushing(&self) -> MutexGuard<'_, ()> {
        self.0.0.flushing.lock()
    }

    /// Puts `state` in the place of the namespace. The flusher has the store of the old one open until its next step.
    pub(crate) fn replace(&self, state: StateMachine) {
        let old = std::mem::replace(&mut *self.write(), state);
        // Without the lock: it may be large.
        drop(old);
    }

    /// The namespace, to be changed.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, StateMachine> {
        self.0.0.machine.write()
    }
}

impl std::ops::Deref for StateWriter {
    type Target = StateReader;

    fn deref(&self) -> &StateReader {
        &self.0
    }
}
