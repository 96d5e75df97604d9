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

/// What may wait for room, in multiples of the room: with a share of 32 MiB a disk of 100 MB/s needs longer for it than a
/// client waits for one replica.
const MOST_WAITING: u64 = 4;

/// Room for the answer to a read. It is held until the disk has done its part, even if nobody waits any more, and until
/// the answer has left.
pub(crate) type ReadPermit = Arc<OwnedSemaphorePermit>;

/// Too much waits for room already: this disk is slow or hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many reads of this disk wait already")]
pub(crate) struct TooManyReads;

/// Reads ask before they take memory: a fair queue for KiB of answers.
#[derive(Clone)]
pub(crate) struct ReadBudget {
    kib: Arc<Semaphore>,
    most: u32,
    waiting_kib: Arc<AtomicU64>,
}

impl ReadBudget {
    pub(crate) fn new(limit: u64) -> Self {
        let most = u32::try_from(limit >> 10)
            .unwrap_or(u32::MAX >> 4)
            .min(u32::MAX >> 4);
        Self {
            kib: Arc::new(Semaphore::new(most as usize)),
            most,
            waiting_kib: Arc::default(),
        }
    }

    fn kib_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024))
            .unwrap_or(self.most)
            .clamp(1, self.most)
    }

    /// Room for `bytes`, in turn.
    ///
    /// # Errors
    /// So much waits already that it would come too late.
    pub(crate) async fn take(&self, bytes: usize) -> Result<ReadPermit, TooManyReads> {
        let kib = self.kib_of(bytes);
        if let Ok(permit) = Arc::clone(&self.kib).try_acquire_many_owned(kib) {
            return Ok(Arc::new(permit));
        }
        let before = self.waiting_kib.fetch_add(u64::from(kib), Ordering::Relaxed);
        let _waiting = WaitingRead(&self.waiting_kib, u64::from(kib));
        if before + u64::from(kib) > u64::from(self.most) * MOST_WAITING {
            return Err(TooManyReads);
        }
        self.wait(bytes).await
    }

    /// The same, however much waits: for copies, which are few and do not ask elsewhere.
    pub(crate) async fn wait(&self, bytes: usize) -> Result<ReadPermit, TooManyReads> {
        let permit = Arc::clone(&self.kib).acquire_many_owned(self.kib_of(bytes)).await;
        permit.map(Arc::new).map_err(|_| TooManyReads)
    }
}

/// Counts as waiting while this lives.
struct WaitingRead<'a>(&'a AtomicU64, u64);

impl Drop for WaitingRead<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// `bytes` that give `permit` back when the last slice of them is dropped.
pub(crate) fn hold(bytes: Bytes, permit: ReadPermit) -> Bytes {
    struct Held(
        Bytes,
        #[allow(dead_code, reason = "its drop gives the room back")] ReadPermit,
    );
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Held(bytes, permit))
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
        let permit = budget.take(4096).await.unwrap();
        let held = hold(Bytes::from_static(b"abcd"), permit);
        let part = held.slice(1..2);
        drop(held);
        assert_eq!(budget.kib.available_permits(), 0);
        drop(part);
        assert_eq!(budget.kib.available_permits(), 4);
        assert!(budget.take(1 << 30).await.is_ok(), "more than all is all");
    }
}
