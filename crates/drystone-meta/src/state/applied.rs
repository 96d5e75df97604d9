//! Who waits for an index to be applied.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The applied index, and those who wait for a higher one.
#[derive(Default)]
pub(crate) struct AppliedIndex {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    applied: u64,
    // Bounded by the requests under way, which the wire bounds.
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl AppliedIndex {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The applied index.
    pub(crate) fn applied(&self) -> u64 {
        self.lock().applied
    }

    /// Readers see everything up to `index` now.
    pub(crate) fn publish(&self, index: u64) {
        let ready = {
            let mut inner = self.lock();
            inner.applied = inner.applied.max(index);
            let later = inner.waiting.split_off(&(index + 1));
            std::mem::replace(&mut inner.waiting, later)
        };
        for waiter in ready.into_values().flatten() {
            // Whoever gave up has dropped the receiver.
            let _ = waiter.send(());
        }
    }

    /// Calls `waiter` when `index` is applied: at once if it is.
    pub(crate) fn notify(&self, index: u64, waiter: oneshot::Sender<()>) {
        let mut inner = self.lock();
        if index <= inner.applied {
            drop(inner);
            let _ = waiter.send(());
        } else {
            inner.waiting.entry(index).or_default().push(waiter);
        }
    }

    /// Completes when `index` is applied.
    pub(crate) async fn reached(&self, index: u64) {
        let (sender, receiver) = oneshot::channel();
        self.notify(index, sender);
        let _ = receiver.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_called_at_its_index_and_not_before() {
        let gate = AppliedIndex::default();
        let (sender, mut receiver) = oneshot::channel();
        gate.notify(5, sender);
        gate.publish(4);
        assert!(receiver.try_recv().is_err());
        gate.publish(7);
        assert!(receiver.try_recv().is_ok());
        let (sender, mut receiver) = oneshot::channel();
        gate.notify(7, sender);
        assert!(receiver.try_recv().is_ok());
        assert_eq!(gate.applied(), 7);
    }
}
