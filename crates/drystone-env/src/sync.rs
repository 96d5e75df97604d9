//! Locks with a rank: whoever holds one takes only locks of a higher rank.
//!
//! Two locks that are taken in two orders on two cores wait for each other for ever, and the simulator, which runs
//! everything on one thread, cannot see it. So each lock has a rank, and with debug assertions (all tests) taking
//! one out of order panics at once, on whatever thread and however rarely the two would have met. In release builds
//! a rank costs nothing.
//!
//! Ranks are constants in a file `locks.rs` of each crate. Bands keep crates apart, callers below the called:
//!
//! | rank | of |
//! |---|---|
//! | 100 to 199 | the binary and doors |
//! | 200 to 299 | the client library |
//! | 300 to 399 | the chunk server |
//! | 400 to 499 | the metadata server |
//! | 600 to 699 | stores and Raft |
//! | 700 to 799 | connections (`drystone-rpc`) |
//! | 900 to 999 | the seams |
//!
//! A lock whose holder panicked is handed on as it is: the server it belongs to ends then, and what looks at it
//! meanwhile sees what is there.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

/// The place of a lock in the order of all locks, and what it guards.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(debug_assertions),
    expect(dead_code, reason = "only builds with assertions check ranks")
)]
pub struct Rank {
    level: u16,
    name: &'static str,
}

impl Rank {
    /// Locks of a higher `level` may be taken while this one is held, none of the same. `name` is for the panic.
    pub const fn new(level: u16, name: &'static str) -> Self {
        Self { level, name }
    }
}

#[cfg(debug_assertions)]
mod held {
    use super::Rank;
    use std::cell::RefCell;

    thread_local! {
        /// What this thread holds, in the order in which it took them.
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// Panics if `rank` may not be taken now. Called before the lock is waited for.
    pub(super) fn check(rank: Rank) {
        let highest = HELD.with_borrow(|held| held.iter().copied().max_by_key(|other| other.level));
        if let Some(other) = highest
            && !std::thread::panicking()
        {
            assert!(
                other.level < rank.level,
                "lock {} (rank {}) is taken while {} (rank {}) is held: locks are taken in the order of their ranks",
                rank.name,
                rank.level,
                other.name,
                other.level,
            );
        }
    }

    /// Notes that `rank` is held until it is dropped.
    pub(super) struct Hold(Rank);

    impl Hold {
        pub(super) fn new(rank: Rank) -> Self {
            HELD.with_borrow_mut(|held| held.push(rank));
            Self(rank)
        }
    }

    impl Drop for Hold {
        fn drop(&mut self) {
            // While a thread ends its list may be gone before its guards.
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(at) = held.iter().rposition(|other| other.level == self.0.level) {
                    held.remove(at);
                }
            });
        }
    }
}

#[cfg(not(debug_assertions))]
mod held {
    use super::Rank;

    pub(super) fn check(_: Rank) {}

    pub(super) struct Hold;

    impl Hold {
        pub(super) fn new(_: Rank) -> Self {
            Self
        }
    }
}

use held::Hold;

/// [`std::sync::Mutex`] with a rank.
#[derive(Debug)]
pub struct Mutex<T> {
    rank: Rank,
    inner: std::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: std::sync::Mutex::new(value),
        }
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// With debug assertions, if this thread holds a lock of the same or a higher rank.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        held::check(self.rank);
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard {
            inner,
            _hold: Hold::new(self.rank),
        }
    }

    /// The lock if nobody holds it. Because it does not wait, its rank may be any.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard {
            inner,
            _hold: Hold::new(self.rank),
        })
    }

    /// The value, without locking: nobody else can hold it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`std::sync::RwLock`] with a rank. Readers are ranked as writers are: a second reader of one thread would wait
/// for a writer that waits for the first.
#[derive(Debug)]
pub struct RwLock<T> {
    rank: Rank,
    inner: std::sync::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: std::sync::RwLock::new(value),
        }
    }

    /// Waits until no writer holds the lock.
    ///
    /// # Panics
    /// With debug assertions, if this thread holds a lock of the same or a higher rank.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        held::check(self.rank);
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        RwLockReadGuard {
            inner,
            _hold: Hold::new(self.rank),
        }
    }

    /// Waits until nobody else holds the lock.
    ///
    /// # Panics
    /// As [`RwLock::read`].
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        held::check(self.rank);
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        RwLockWriteGuard {
            inner,
            _hold: Hold::new(self.rank),
        }
    }
}

/// A [`Mutex`] that is held.
pub struct MutexGuard<'a, T> {
    inner: std::sync::MutexGuard<'a, T>,
    _hold: Hold,
}

/// An [`RwLock`] that is held for reading.
pub struct RwLockReadGuard<'a, T> {
    inner: std::sync::RwLockReadGuard<'a, T>,
    _hold: Hold,
}

/// An [`RwLock`] that is held for writing.
pub struct RwLockWriteGuard<'a, T> {
    inner: std::sync::RwLockWriteGuard<'a, T>,
    _hold: Hold,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests;
