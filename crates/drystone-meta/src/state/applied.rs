//! Who waits for an index to be applied.

use crate::locks::APPLIED;
use drystone_env::sync::Mutex;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// The applied index, and those who wait for a higher one.
pub(crate) struct AppliedIndex {
    inner: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    applied: u64,
    // Bounded by the requests under way, which the wire bounds.
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl Default for AppliedIndex {
    fn default() -> Self {
        Self {
            inner: Mutex::new(APPLIED, Waiters::default()),
        }
    }
}

impl AppliedIndex {
    /// The applied index.
    pub(crate) fn applied(&self) -> u64 {
        self.inner.lock().applied
    }

    /// Readers see everything up to `index` now.
    pub(crate) fn publish(&self, index: u64) {
        let ready = {
            let mut inner = self.inner.lock();
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
        let mut inner = self.inner.lock();
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
        let applied = AppliedIndex::default();
        let (sender, mut receiver) = oneshot::channel();
        applied.notify(5, sender);
        applied.publish(4);
        assert!(receiver.try_recv().is_err());
        applied.publish(7);
        assert!(receiver.try_recv().is_ok());
        let (sender, mut receiver) = oneshot::channel();
        applied.notify(7, sender);
        assert!(receiver.try_recv().is_ok());
        assert_eq!(applied.applied(), 7);
    }
}
