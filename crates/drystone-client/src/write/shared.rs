//! What all writers of a process share: the budget, grants fetched ahead, who failed lately, policies, latencies, and
//! what readers share.

use super::grants::GrantCache;
use super::policies::PolicyCache;
use super::suspects::Suspects;
use crate::latency::Latency;
use crate::options::Options;
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
    /// For what has to be read back.
    pub(crate) reads: Arc<ReadShared>,
}

impl WriteShared {
    pub(crate) fn new(options: &Options, reads: Arc<ReadShared>) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(options.unacknowledged.0 as usize)),
            latency: Latency::default(),
            grants: GrantCache::default(),
            suspects: Suspects::default(),
            policies: PolicyCache::default(),
            reads,
        }
    }
}

/// What a writer needs: whom to ask, and what it shares.
#[derive(Clone)]
pub(crate) struct WriteContext {
    pub(crate) requester: Requester,
    pub(crate) shared: Arc<WriteShared>,
}
