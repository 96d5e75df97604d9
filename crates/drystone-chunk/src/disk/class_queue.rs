//! A queue whose classes share what serves it: a deterministic core, without clock or threads.
//!
//! Each class has a *share*. As long as several classes have work waiting, what they are served (in units of cost, here
//! bytes) is in the proportion of their shares; a class that is alone gets everything. So repair goes on under any load
//! of clients, and takes no more than its part from them. Within a class it is first come, first served. A class that
//! has had nothing waiting gets no credit for it: its work is in turn from when it comes.

use drystone_store::IoClass;
use std::collections::VecDeque;

/// Least common unit of the shares, so that a cost divides without loss.
const SCALE: u64 = 48;

/// Of 16 parts of a disk that has more to do than it can: 12 for clients, 3 for repair, 1 for scrub. Repair at a fifth
/// of a disk's speed restores a disk of 10 TB, from many disks at once, in minutes; clients hardly notice it.
const fn share(class: IoClass) -> u64 {
    match class {
        IoClass::Foreground => 12,
        IoClass::Repair => 3,
        IoClass::Scrub => 1,
    }
}

struct ClassWaiting<T> {
    items: VecDeque<(u64, T)>,
    /// What the class has been served, divided by its share. The class with the least is next.
    served: u64,
}

/// See the module.
pub(crate) struct ClassQueue<T> {
    classes: [ClassWaiting<T>; 3],
    /// `served` of the class that was served last, when it was chosen: where a class begins that comes back.
    now: u64,
}

impl<T> Default for ClassQueue<T> {
    fn default() -> Self {
        Self {
            classes: [(); 3].map(|()| ClassWaiting {
                items: VecDeque::new(),
                served: 0,
            }),
            now: 0,
        }
    }
}

impl<T> ClassQueue<T> {
    /// Queues `item`, which will keep the disk busy with `cost` bytes; at least one is counted.
    pub(crate) fn push(&mut self, class: IoClass, cost: u64, item: T) {
        let now = self.now;
        let waiting = &mut self.classes[class.number()];
        if waiting.items.is_empty() {
            waiting.served = waiting.served.max(now);
        }
        waiting.items.push_back((cost.max(1), item));
    }

    /// Takes the item whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = IoClass::ALL
            .into_iter()
            .filter(|class| !self.classes[class.number()].items.is_empty())
            .min_by_key(|class| self.classes[class.number()].served)?;
        let waiting = &mut self.classes[next.number()];
        let (cost, item) = waiting.items.pop_front()?;
        self.now = waiting.served;
        waiting.served = waiting
            .served
            .saturating_add(cost.saturating_mul(SCALE / share(next)));
        Some(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|waiting| waiting.items.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves `turns` items; how many of each class.
    fn served(queue: &mut ClassQueue<usize>, turns: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for class in (0..turns).map_while(|_| queue.pop()) {
            counts[class] += 1;
        }
        counts
    }

    fn fill(queue: &mut ClassQueue<usize>, class: IoClass, count: usize, cost: u64) {
        (0..count).for_each(|_| queue.push(class, cost, class.number()));
    }

    #[test]
    fn classes_with_work_are_served_in_the_proportion_of_their_shares() {
        let mut queue = ClassQueue::default();
        for class in IoClass::ALL {
            fill(&mut queue, class, 2000, 1 << 20);
        }
        assert_eq!(served(&mut queue, 1600), [1200, 300, 100]);
    }

    #[test]
    fn shares_count_bytes_and_not_pieces() {
        let mut queue = ClassQueue::default();
        fill(&mut queue, IoClass::Foreground, 20_000, 4096);
        fill(&mut queue, IoClass::Repair, 100, 1 << 20);
        // 256 small pieces are one large one; four times as much is due to the clients.
        let counts = served(&mut queue, 10_250);
        assert!((9..=11).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_flood_of_repair_does_not_hold_up_a_client() {
        let mut queue = ClassQueue::default();
        fill(&mut queue, IoClass::Repair, 10_000, 1 << 20);
        assert_eq!(served(&mut queue, 50), [0, 50, 0], "alone it gets everything");
        queue.push(IoClass::Foreground, 4096, 0);
        let counts = served(&mut queue, 2);
        assert_eq!(counts[0], 1, "at most one piece goes before it");
    }

    #[test]
    fn a_class_that_was_away_has_saved_nothing_up() {
        let mut queue = ClassQueue::default();
        fill(&mut queue, IoClass::Foreground, 10_000, 1 << 20);
        assert_eq!(served(&mut queue, 5000), [5000, 0, 0]);
        fill(&mut queue, IoClass::Scrub, 1000, 1 << 20);
        let counts = served(&mut queue, 130);
        assert_eq!(counts, [120, 0, 10]);
    }

    #[test]
    fn a_class_alone_is_served_in_order() {
        let mut queue = ClassQueue::default();
        (0..100u64).for_each(|n| queue.push(IoClass::Foreground, n, n));
        assert_eq!(
            (0..100).map_while(|_| queue.pop()).collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
        assert!(queue.is_empty());
    }
}
