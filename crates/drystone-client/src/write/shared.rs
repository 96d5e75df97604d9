//! What all writers of a process share: the budget, grants fetched ahead, who failed lately, policies, latencies, and
//! what readers share.

use super::abandon::{Abandoner, BegunChunks};
use super::grants::GrantCache;
use super::policies::PolicyCache;
use super::suspects::Suspects;
use crate::latency::Latency;
use crate::read::ReadShared;
use crate::requester::Requester;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// See the module.
pub(crate) struct WriteShared {
    pub(crate) budget: Arc<Semaphore>,
    pub(crate) latency: Latency,
    pub(crate) grants: GrantCache,
    pub(crate) suspects: Suspects,
    pub(crate) policies: PolicyCache,
    pub(crate) abandoner: Abandoner,
    /// For what has to be read back.
    pub(crate) reads: Arc<ReadShared>,
}

impl WriteShared {
    pub(crate) fn new(requester: &Requester, reads: Arc<ReadShared>) -> Self {
        let unacknowledged = requester.options().unacknowledged;
        Self {
            budget: Arc::new(Semaphore::new(unacknowledged.0 as usize)),
            latency: Latency::default(),
            grants: GrantCache::default(),
            suspects: Suspects::default(),
            policies: PolicyCache::default(),
            abandoner: Abandoner::start(requester),
            reads,
        }
    }
}

/// What a writer needs: whom to ask, what it shares, and what it has begun. Clones are of the same writer.
#[derive(Clone)]
pub(crate) struct WriteContext {
    pub(crate) requester: Requester,
    pub(crate) shared: Arc<WriteShared>,
    pub(crate) begun: Arc<BegunChunks>,
}

impl WriteContext {
    /// Of a writer that has begun nothing.
    pub(crate) fn new(requester: Requester, shared: Arc<WriteShared>) -> Self {
        let begun = BegunChunks::new(shared.abandoner.clone());
        Self {
            requester,
            shared,
            begun,
        }
    }
}
