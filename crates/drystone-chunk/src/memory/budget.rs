//! A bound on bytes in memory: bytes that are lent count until the last holder drops them.

use bytes::Bytes;
use drystone_env::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Counts bytes that are somewhere in the server. Nobody is refused: those who would add more wait until it is
/// below its limit. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    bytes: AtomicU64,
    below: Notify,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit,
                bytes: AtomicU64::new(0),
                below: Notify::new(),
            }),
        }
    }

    /// Counts `bytes` until the answer is dropped.
    pub(crate) fn count(&self, bytes: u64) -> Counted {
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        Counted {
            budget: self.clone(),
            bytes,
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Says how many there are, where somebody else counts.
    pub(crate) fn set(&self, bytes: u64) {
        let before = self.shared.bytes.swap(bytes, Ordering::Relaxed);
        if before > self.shared.limit && bytes <= self.shared.limit {
            self.shared.below.notify_waiters();
        }
    }

    fn is_full(&self) -> bool {
        self.used() > self.shared.limit
    }

    /// `None` if there is room; otherwise what completes once there is.
    pub(crate) fn room(&self) -> Option<BoxFuture<()>> {
        if !self.is_full() {
            return None;
        }
        let budget = self.clone();
        Some(Box::pin(async move {
            loop {
                // Registered before the look, so that no notice falls between the two.
                let mut notified = std::pin::pin!(budget.shared.below.notified());
                notified.as_mut().enable();
                if !budget.is_full() {
                    return;
                }
                notified.await;
            }
        }))
    }
}

/// Bytes that count while this lives.
pub(crate) struct Counted {
    budget: Budget,
    bytes: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let shared = &self.budget.shared;
        let before = shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if before > shared.limit && before - self.bytes <= shared.limit {
            shared.below.notify_waiters();
        }
    }
}

/// Reads ask before they take memory: a fair queue for KiB of answers.
#[derive(Clone)]
pub(crate) struct ReadBudget {
    kib: Arc<Semaphore>,
    most: u32,
}

impl ReadBudget {
    pub(crate) fn new(limit: u64) -> Self {
        let most = u32::try_from(limit >> 10)
            .unwrap_or(u32::MAX >> 4)
            .min(u32::MAX >> 4);
        Self {
            kib: Arc::new(Semaphore::new(most as usize)),
            most,
        }
    }

    /// Room for `bytes`, in turn.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024))
            .unwrap_or(self.most)
            .clamp(1, self.most);
        Arc::clone(&self.kib).acquire_many_owned(kib).await.ok()
    }
}

/// `bytes` that give `permit` back when the last slice of them is dropped.
pub(crate) fn hold(bytes: Bytes, permit: Option<OwnedSemaphorePermit>) -> Bytes {
    struct Held(
        Bytes,
        #[allow(dead_code, reason = "its drop gives the room back")] OwnedSemaphorePermit,
    );
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    match permit {
        Some(permit) => Bytes::from_owner(Held(bytes, permit)),
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_goes_on_when_there_is_room() {
        let budget = Budget::new(10);
        let first = budget.count(8);
        assert!(budget.room().is_none());
        let second = budget.count(8);
        let waiting = budget.room().unwrap();
        drop(first);
        waiting.await;
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn bytes_give_their_permit_back_when_dropped() {
        let budget = ReadBudget::new(4096);
        let permit = budget.take(4096).await;
        let held = hold(Bytes::from_static(b"abcd"), permit);
        let part = held.slice(1..2);
        drop(held);
        assert_eq!(budget.kib.available_permits(), 0);
        drop(part);
        assert_eq!(budget.kib.available_permits(), 4);
        assert!(budget.take(1 << 30).await.is_some(), "more than all is all");
    }
}
