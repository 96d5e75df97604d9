//! The last step of a request that failed: it is counted, and a receipt that goes with the error is signed.

use crate::metrics::Metrics;
use crate::signatures::Signatures;
use drystone_proto::cluster::ErrorReply;
use std::sync::Arc;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Refusals {
    metrics: Arc<Metrics>,
    signatures: Arc<Signatures>,
}

impl Refusals {
    pub(crate) fn new(metrics: Arc<Metrics>, signatures: Arc<Signatures>) -> Self {
        Self { metrics, signatures }
    }

    /// The error as it leaves.
    pub(crate) fn count(&self, operation: &'static str, mut error: ErrorReply) -> ErrorReply {
        self.metrics.refused(operation, error.code);
        self.signatures.sign(&mut error);
        error
    }
}
