//! Orders that come back with a heartbeat, carried out beside the heartbeats.

use crate::locks;
use crate::orders::{DELETE_PATIENCE, Orders};
use drystone_env::sync::Mutex;
use drystone_env::{Clock, Spawn};
use drystone_proto::data::{DeleteOrder, OrderKind, ServerOrder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module.
pub(crate) struct OrderQueue {
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
    orders: Arc<Orders>,
    /// Disks with orders to delete under way.
    deleting: Arc<Mutex<BTreeSet<u64>>>,
}

impl OrderQueue {
    pub(crate) fn new(clock: Arc<dyn Clock>, spawn: Arc<dyn Spawn>, orders: Arc<Orders>) -> Self {
        Self {
            clock,
            spawn,
            orders,
            deleting: Arc::new(Mutex::new(locks::ORDERS, BTreeSet::new())),
        }
    }

    /// Executes orders beside the heartbeats, one batch at a time for each disk: the leader repeats what was not
    /// acknowledged. A disk that does not answer holds up its own orders alone, and gets no more of them until it has
    /// answered these: repeated ones would pile up in its store.
    pub(crate) fn execute(&self, orders: Vec<ServerOrder>) {
        let mut by_disk: BTreeMap<u64, Vec<DeleteOrder>> = BTreeMap::new();
        for order in orders {
            match order.kind {
                Some(OrderKind::Delete(order)) => {
                    let disk = order.replica.map_or(0, |replica| replica.disk);
                    by_disk.entry(disk).or_default().push(order);
                }
                None => self.orders.refuse_unknown(order),
            }
        }
        for (disk, orders) in by_disk {
            if !self.deleting.lock().insert(disk) {
                continue;
            }
            let (clock, work) = (Arc::clone(&self.clock), Arc::clone(&self.orders));
            let deleting = Arc::clone(&self.deleting);
            self.spawn.spawn(
                "chunk-delete",
                Box::pin(async move {
                    delete_on(&clock, &work, disk, orders).await;
                    deleting.lock().remove(&disk);
                }),
            );
        }
    }
}

async fn delete_on(clock: &Arc<dyn Clock>, work: &Orders, disk: u64, orders: Vec<DeleteOrder>) {
    let mut work = std::pin::pin!(work.delete(orders, None));
    let codes = match clock
        .until(clock.now().plus(DELETE_PATIENCE), work.as_mut())
        .await
    {
        Some(codes) => codes,
        None => {
            tracing::warn!(disk, "the disk does not answer orders to delete");
            work.await
        }
    };
    let refused = codes.iter().filter(|code| **code != 0).count();
    if refused > 0 {
        tracing::warn!(disk, refused, of = codes.len(), "orders to delete were refused");
    }
}
