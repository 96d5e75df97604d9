//! Counters which show that faults hit something and that rare branches ran: what never happened was never tested.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static SEEN: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts one more of `what`, on this thread.
pub fn sometimes(what: &str) {
    sometimes_many(what, 1);
}

/// Counts `count` more of `what`.
pub fn sometimes_many(what: &str, count: u64) {
    SEEN.with_borrow_mut(|seen| match seen.get_mut(what) {
        Some(known) => *known += count,
        None => {
            seen.insert(what.to_owned(), count);
        }
    });
}

/// Takes what this thread has counted.
pub fn take() -> BTreeMap<String, u64> {
    SEEN.take()
}
