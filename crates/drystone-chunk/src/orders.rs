//! The leader's signed orders to delete replicas, by whatever way they come.

use crate::changes::ChangeLog;
use crate::disk::disks::Disks;
use crate::disk::ops::DiskAnswer;
use crate::memory::cache::{Cache, ReplicaKey};
use crate::metrics::Metrics;
use crate::refusals::Refusals;
use crate::signatures::Signatures;
use drystone_env::{Clock, Monotonic};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::data::DeleteOrder;
use drystone_rpc::refusal;
use drystone_types::Code;
use std::sync::Arc;
use std::time::Duration;

/// A disk that has not deleted by then does not answer: a deletion is one record in its journal.
pub(crate) const DELETE_PATIENCE: Duration = Duration::from_secs(30);

/// What carries orders out.
pub(crate) struct Orders {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disks: Arc<Disks>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) signatures: Arc<Signatures>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Refusals,
}

impl Orders {
    /// Deletes replicas; all orders are queued before the first is waited for. 0 for each that is done; those that no
    /// disk has answered `until` then are `unknown`.
    pub(crate) async fn delete(&self, orders: Vec<DeleteOrder>, until: Option<Monotonic>) -> Vec<u32> {
        let begun: Vec<_> = orders
            .into_iter()
            .map(|order| {
                let pending = self.begin_delete(&order);
                (order, pending)
            })
            .collect();
        let mut codes = Vec::with_capacity(begun.len());
        for (order, pending) in begun {
            let result = match pending {
                Ok(pending) => match until {
                    Some(until) => (self.clock.until(until, pending).await)
                        .unwrap_or_else(|| Err(refusal(Code::Unknown, "the disk did not answer in time"))),
                    None => pending.await,
                },
                Err(error) => Err(error),
            };
            codes.push(match result {
                Ok(()) => {
                    self.deleted(order);
                    0
                }
                Err(error) => self.refusals.count("delete", error).code,
            });
        }
        codes
    }

    fn begin_delete(&self, order: &DeleteOrder) -> Result<DiskAnswer<()>, ErrorReply> {
        let named = order
            .replica
            .ok_or_else(|| refusal(Code::Invalid, "no replica is named"))?;
        self.signatures.check_delete(order, &named)?;
        let (disk, replica) = self.disks.of(Some(named))?;
        Ok(disk.delete(order.chunk, replica))
    }

    fn deleted(&self, order: DeleteOrder) {
        if let Some(replica) = order.replica {
            self.cache.forget(ReplicaKey::new(order.chunk, &replica));
            self.metrics.deleted.inc();
            self.changes.note_deleted((replica.disk, order.chunk), order);
        }
    }
}
