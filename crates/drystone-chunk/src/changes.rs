//! Which replicas the next heartbeat reports.
//!
//! Owns the names of replicas that are not sealed and of those sealed since the last heartbeat that was answered, and
//! the acknowledgements of orders; and a slow sweep over all the others, so that also a leader that has just taken office meets every
//! replica in time and finds the orphans among them.

use crate::locks;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_proto::data::OrderAck;
use std::collections::{BTreeMap, BTreeSet};

/// The heartbeat's limit on replicas, and on deletions.
pub(crate) const MOST_REPORTED: usize = 4096;
/// Sealed replicas that the sweep adds to a heartbeat: a million of them pass in some six hours at 3 s.
pub(crate) const SWEEP: usize = 128;
/// Changes in one heartbeat: however many there are, the sweep has room.
const MOST_CHANGED: usize = MOST_REPORTED - SWEEP;
/// Acknowledgements that wait to be reported; beyond it the oldest is forgotten, and the leader orders it again.
const MOST_ACKS: usize = 4 * MOST_REPORTED;

/// Replicas that wait to be reported: more than can be open at once. Beyond it a change is not noted, and the sweep
/// comes to the replica later.
const MOST_NOTED: usize = 65_536;

/// (disk, chunk).
pub(crate) type Name = (u64, u64);

/// See the module.
#[derive(Default)]
pub(crate) struct Changes {
    /// With the number of the change, to tell whether it changed again while the heartbeat was under way.
    changed: BTreeMap<Name, u64>,
    number: u64,
    /// Where the last heartbeat stopped when there was more than one can take.
    cursor: Option<Name>,
    acks: BTreeMap<u64, OrderAck>,
    sweep: Name,
}

/// [`Changes`], shared by who notes them and who reports them.
pub(crate) struct ChangeLog {
    changes: Mutex<Changes>,
}

impl ChangeLog {
    pub(crate) fn new() -> Self {
        Self {
            changes: Mutex::new(locks::CHANGES, Changes::default()),
        }
    }

    /// A replica was opened, fenced or sealed.
    pub(crate) fn note(&self, name: Name) {
        self.lock().note(name);
    }

    /// A replica is gone.
    pub(crate) fn note_deleted(&self, name: Name) {
        self.lock().note_deleted(name);
    }

    /// An order was carried out, or refused.
    pub(crate) fn note_ack(&self, ack: OrderAck) {
        self.lock().note_ack(ack);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock()
    }
}

/// What one heartbeat reports; it is acknowledged when the heartbeat was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChangeBatch {
    pub(crate) names: Vec<(Name, u64)>,
    pub(crate) acks: Vec<OrderAck>,
    last_ack: u64,
}

impl Changes {
    /// A replica was opened, fenced or sealed.
    pub(crate) fn note(&mut self, name: Name) {
        if self.changed.len() < MOST_NOTED || self.changed.contains_key(&name) {
            self.number += 1;
            self.changed.insert(name, self.number);
        }
    }

    /// A replica is gone.
    pub(crate) fn note_deleted(&mut self, name: Name) {
        self.changed.remove(&name);
    }

    /// An order was carried out, or refused.
    pub(crate) fn note_ack(&mut self, ack: OrderAck) {
        self.number += 1;
        self.acks.insert(self.number, ack);
        if self.acks.len() > MOST_ACKS {
            self.acks.pop_first();
        }
    }

    /// What to report now, in turn if it is more than fits.
    pub(crate) fn next_batch(&mut self) -> ChangeBatch {
        let after = self.cursor.filter(|_| self.changed.len() > MOST_CHANGED);
        let beyond = self
            .changed
            .iter()
            .filter(|(name, _)| after.is_none_or(|after| **name > after));
        let before = self
            .changed
            .iter()
            .take_while(|(name, _)| after.is_some_and(|after| **name <= after));
        let names: Vec<(Name, u64)> = beyond
            .chain(before)
            .take(MOST_CHANGED)
            .map(|(name, number)| (*name, *number))
            .collect();
        self.cursor = names.last().map(|(name, _)| *name);
        let acks = self.acks.iter().take(MOST_REPORTED);
        ChangeBatch {
            names,
            last_ack: acks.clone().last().map_or(0, |(number, _)| *number),
            acks: acks.map(|(_, ack)| ack.clone()).collect(),
        }
    }

    /// The heartbeat with this batch was answered, and the sweep has come to `sweep`. `open` are the replicas of the
    /// batch that have to be reported again.
    pub(crate) fn acknowledge(&mut self, batch: &ChangeBatch, open: &BTreeSet<Name>, sweep: Name) {
        assert!(
            batch.last_ack <= self.number,
            "an acknowledgement that was never noted"
        );
        self.sweep = sweep;
        for (name, number) in &batch.names {
            if !open.contains(name) && self.changed.get(name) == Some(number) {
                self.changed.remove(name);
            }
        }
        self.acks = self.acks.split_off(&(batch.last_ack + 1));
    }

    /// Where the sweep goes on: disk and the chunk after which.
    pub(crate) fn sweep(&self) -> Name {
        self.sweep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(batch: &ChangeBatch) -> Vec<u64> {
        batch.names.iter().map(|((_, chunk), _)| *chunk).collect()
    }

    fn ack(code: u32) -> OrderAck {
        OrderAck {
            code,
            ..OrderAck::default()
        }
    }

    #[test]
    fn what_was_reported_is_forgotten_unless_it_is_open_or_changed_again() {
        let mut changes = Changes::default();
        (1..=3).for_each(|chunk| changes.note((1, chunk)));
        changes.note_ack(ack(9));
        let batch = changes.next_batch();
        assert_eq!((names(&batch), batch.acks.len()), (vec![1, 2, 3], 1));
        changes.note((1, 2));
        changes.note_ack(ack(8));
        changes.acknowledge(&batch, &BTreeSet::from([(1, 3)]), (1, 7));
        assert_eq!(changes.sweep(), (1, 7));
        let batch = changes.next_batch();
        assert_eq!(names(&batch), [2, 3]);
        assert_eq!(batch.acks.iter().map(|ack| ack.code).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn more_than_a_heartbeat_holds_is_reported_in_turn() {
        let mut changes = Changes::default();
        let all = MOST_CHANGED as u64 + 10;
        (0..all).for_each(|chunk| changes.note((1, chunk)));
        let first = changes.next_batch();
        assert_eq!(first.names.len(), MOST_CHANGED);
        let open: BTreeSet<Name> = first.names.iter().map(|(name, _)| *name).collect();
        changes.acknowledge(&first, &open, (0, 0));
        let second = names(&changes.next_batch());
        assert_eq!(second[..11], (all - 10..all).chain([0]).collect::<Vec<_>>());
    }

    #[test]
    fn what_no_leader_takes_stays_within_its_bound() {
        let mut changes = Changes::default();
        (0..MOST_NOTED as u64 + 100).for_each(|chunk| changes.note((1, chunk)));
        assert_eq!(changes.changed.len(), MOST_NOTED);
        changes.note((1, 7));
        assert_eq!(
            changes.changed[&(1, 7)],
            MOST_NOTED as u64 + 1,
            "one that is there is noted anew"
        );
        (0..2 * MOST_ACKS as u32).for_each(|code| changes.note_ack(ack(code)));
        assert_eq!(changes.acks.len(), MOST_ACKS);
    }
}
