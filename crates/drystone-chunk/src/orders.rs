//! The leader's signed orders, by whatever way they come.
//!
//! Every order is acknowledged with the next heartbeat: done, or refused and why. An order that is under way is not
//! acknowledged yet, and the leader repeats it.

use crate::changes::ChangeLog;
use crate::disk::disks::Disks;
use crate::disk::ops::DiskAnswer;
use crate::memory::cache::{Cache, ReplicaKey};
use crate::metrics::Metrics;
use crate::refusals::Refusals;
use crate::signatures::Signatures;
use drystone_env::{Clock, Monotonic};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::data::{DeleteOrder, OrderAck, ServerOrder};
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
    /// Refuses an order of a kind that this version does not know.
    pub(crate) fn refuse_unknown(&self, order: ServerOrder) {
        let error = refusal(Code::NotSupported, "this server does not know this kind of order");
        self.acknowledge(order, Err(error));
    }

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
            if let (Ok(()), Some(replica)) = (&result, &order.replica) {
                self.cache.forget(ReplicaKey::new(order.chunk, replica));
                self.metrics.deleted.inc();
                self.changes.note_deleted((replica.disk, order.chunk));
            }
            let result = result.map_err(|error| self.refusals.count("delete", error));
            codes.push(self.acknowledge(ServerOrder::delete(order), result));
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

    fn acknowledge(&self, order: ServerOrder, result: Result<(), ErrorReply>) -> u32 {
        let (code, message) =
            result.map_or_else(|error| (error.code, error.message), |()| (0, String::new()));
        self.changes.note_ack(OrderAck {
            order: Some(order),
            code,
            message,
        });
        code
    }
}
