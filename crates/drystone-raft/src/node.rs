//! One member of the group.

use crate::{Input, OpenError, Opened, Output, RaftConfig, Status};
use drystone_env::{BufferPool, Disk, Monotonic, SeededRng};
use drystone_types::{LogIndex, NodeId};
use std::sync::Arc;

/// One member of the group. See the crate's page for what it promises.
pub struct RaftNode {
    _private: (),
}

impl RaftNode {
    /// Opens or begins the log, blocking, and stands ready; the first call of [`RaftNode::on_batch`] delivers what
    /// is committed.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        config: RaftConfig,
        rng: SeededRng,
        pool: BufferPool,
    ) -> Result<(RaftNode, Opened), OpenError> {
        let _ = (disk, config, rng, pool);
        unimplemented!()
    }

    /// Takes one input; see [`RaftNode::on_batch`], which costs less for many.
    pub fn on(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        self.on_batch(now, [input], out);
    }

    /// Takes inputs in order and appends what follows from them to `out`.
    pub fn on_batch(
        &mut self,
        now: Monotonic,
        inputs: impl IntoIterator<Item = Input>,
        out: &mut Vec<Output>,
    ) {
        let _ = (now, inputs.into_iter().count(), out);
        unimplemented!()
    }

    /// A moment of it.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// True if it leads.
    pub fn is_leader(&self) -> bool {
        unimplemented!()
    }

    /// True if it leads and has committed in its term: what it knows is complete.
    pub fn leads_surely(&self) -> bool {
        unimplemented!()
    }

    /// The voters of the present configuration that have synced the log up to `index`, as far as this leader
    /// knows, itself included, sorted; empty at any other member.
    pub fn synced_voters(&self, index: LogIndex) -> Vec<NodeId> {
        let _ = index;
        unimplemented!()
    }

    /// How many [`RaftNode::synced_voters`] there are.
    pub fn voters_synced(&self, index: LogIndex) -> usize {
        self.synced_voters(index).len()
    }

    /// True after [`Output::Fatal`].
    pub fn has_failed(&self) -> bool {
        unimplemented!()
    }
}
