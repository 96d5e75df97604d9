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
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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

    /// Deletes replicas; all orders are queued before the first is waited for, and what one disk has answered is
    /// acknowledged whatever another does. 0 for each that is done; those that no disk has answered `until` then are
    /// `unknown`.
    pub(crate) async fn delete(&self, orders: Vec<DeleteOrder>, until: Option<Monotonic>) -> Vec<u32> {
        let mut batch = DeleteBatch {
            codes: vec![0; orders.len()],
            waiting: BTreeMap::new(),
        };
        for (at, order) in orders.into_iter().enumerate() {
            match self.begin_delete(&order) {
                Ok(answer) => {
                    let disk = order.replica.map_or(0, |replica| replica.disk);
                    let waiting = batch.waiting.entry(disk).or_default();
                    waiting.push_back((at, order, answer));
                }
                Err(error) => batch.codes[at] = self.deleted(order, Err(error)),
            }
        }
        let answered = poll_fn(|context| batch.poll(self, context));
        match until {
            Some(until) => drop(self.clock.until(until, answered).await),
            None => answered.await,
        }
        for (at, order, _) in batch.waiting.into_values().flatten() {
            let error = refusal(Code::Unknown, "the disk did not answer in time");
            batch.codes[at] = self.deleted(order, Err(error));
        }
        batch.codes
    }

    /// A disk has answered an order, or will not: the code of the acknowledgement.
    fn deleted(&self, order: DeleteOrder, result: Result<(), ErrorReply>) -> u32 {
        if let (Ok(()), Some(replica)) = (&result, &order.replica) {
            self.cache.forget(ReplicaKey::new(order.chunk, replica));
            self.metrics.deleted.inc();
            self.changes.note_deleted((replica.disk, order.chunk));
        }
        let result = result.map_err(|error| self.refusals.count("delete", error));
        self.acknowledge(ServerOrder::delete(order), result)
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

/// Orders that wait for their disks.
struct DeleteBatch {
    codes: Vec<u32>,
    /// By disk, in the order in which they were queued there: where in `codes`, the order, the answer.
    waiting: BTreeMap<u64, VecDeque<(usize, DeleteOrder, DiskAnswer<()>)>>,
}

impl DeleteBatch {
    /// Takes what the disks have answered; ready when all have.
    fn poll(&mut self, orders: &Orders, context: &mut Context<'_>) -> Poll<()> {
        let Self { codes, waiting } = self;
        waiting.retain(|_, waiting| {
            while let Some((_, _, answer)) = waiting.front_mut() {
                let Poll::Ready(result) = Pin::new(answer).poll(context) else {
                    return true;
                };
                if let Some((at, order, _)) = waiting.pop_front() {
                    codes[at] = orders.deleted(order, result);
                }
            }
            false
        });
        if waiting.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
