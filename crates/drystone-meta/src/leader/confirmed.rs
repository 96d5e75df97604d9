//! Deletions that servers have confirmed and that the log does not know yet, in the order in which they were confirmed: so
//! that none waits for ever behind others that go on coming.

use std::collections::BTreeMap;

/// Deletions that wait to be logged; beyond it they are reported again by the next scan.
const CONFIRMED: usize = 65_536;

/// See the module.
pub(super) struct Confirmed<K> {
    /// Each with its number.
    numbers: BTreeMap<K, u64>,
    /// By number: the one that waits longest first.
    waiting: BTreeMap<u64, K>,
    next: u64,
}

impl<K> Default for Confirmed<K> {
    fn default() -> Self {
        Self {
            numbers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Copy + Ord> Confirmed<K> {
    /// Adds one behind the others, if it is not there and there is room.
    pub(super) fn add(&mut self, key: K) {
        if self.numbers.len() < CONFIRMED && !self.numbers.contains_key(&key) {
            self.numbers.insert(key, self.next);
            self.waiting.insert(self.next, key);
            self.next += 1;
        }
        assert_eq!(
            self.numbers.len(),
            self.waiting.len(),
            "each waits under its number"
        );
    }

    /// True if it waits.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.numbers.contains_key(key)
    }

    /// Those that wait, the longest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = K> {
        self.waiting.values().copied()
    }

    /// It is logged.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(number) = self.numbers.remove(key) {
            self.waiting.remove(&number);
        }
    }
}
