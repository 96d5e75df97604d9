//! The entries in memory since the purge point: raft-rs's view of the log, synced or not.

use crate::SnapshotMeta;
use crate::codec::{conf_from_proto, conf_to_proto, snapshot_from_meta};
use drystone_proto::raft::RaftConfState;
use drystone_types::{LogIndex, NodeId};
use drystone_wal::Lsn;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::Cell;
use std::collections::VecDeque;

// What an entry costs beside its data: the structs here and in the queues around.
pub(super) const ENTRY_OVERHEAD: u64 = 128;

struct Kept {
    entry: Entry,
    lsn: Lsn,
    /// Cost of all entries put since the log was opened or replaced, this one included.
    total: u64,
}

/// A place at which the log on disk can be cut although the entries around it are not in memory any more.
pub(super) struct Mark {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) conf: RaftConfState,
    /// The record of the entry behind it, or an earlier one.
    pub(super) next: Lsn,
}

/// The entries in memory.
pub(crate) struct LogStore {
    initial: RaftState,
    /// Index and term of what the log begins after.
    base: (u64, u64),
    entries: VecDeque<Kept>,
    /// As [`Kept::total`], of the entry that the log begins after.
    base_total: u64,
    /// Memberships by the index of the entry that made them, the one as of the base first; never empty.
    confs: VecDeque<(u64, RaftConfState)>,
    /// Where entries were forgotten that the disk still holds, ascending, none above the base.
    marks: VecDeque<Mark>,
    /// The newest snapshot that can be streamed.
    made: Option<SnapshotMeta>,
    /// The least index of a snapshot that some member waits for.
    wanted: Cell<Option<u64>>,
}

/// Memory of an entry.
pub(crate) fn cost(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len()) as u64 + ENTRY_OVERHEAD
}

impl LogStore {
    pub(crate) fn new(base: (u64, u64), conf: RaftConfState, hard: HardState) -> Self {
        let initial = RaftState {
            hard_state: hard,
            conf_state: conf_from_proto(&conf),
        };
        Self {
            initial,
            base,
            entries: VecDeque::new(),
            base_total: 0,
            confs: VecDeque::from([(base.0, conf)]),
            marks: VecDeque::new(),
            made: None,
            wanted: Cell::new(None),
        }
    }

    pub(crate) fn base(&self) -> (u64, u64) {
        self.base
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_between(self.base.0, self.last())
    }

    /// Memory of the entries after `index` up to `to`, as far as they are here.
    pub(crate) fn bytes_between(&self, index: u64, to: u64) -> u64 {
        let to = self.total_at(to.min(self.last()));
        to.saturating_sub(self.total_at(index.min(self.last())))
    }

    fn total_at(&self, index: u64) -> u64 {
        self.kept(index).map_or(self.base_total, |kept| kept.total)
    }

    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            Some(self.base.1)
        } else {
            self.get(index).map(|entry| entry.term)
        }
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        Some(&self.kept(index)?.entry)
    }

    fn kept(&self, index: u64) -> Option<&Kept> {
        self.entries.get(index.checked_sub(self.base.0 + 1)? as usize)
    }

    pub(crate) fn lsn_of(&self, index: u64) -> Option<Lsn> {
        Some(self.kept(index)?.lsn)
    }

    /// Puts one entry at its index; what was there and behind it goes.
    pub(crate) fn put(&mut self, entry: Entry, lsn: Lsn) {
        assert!(
            entry.index > self.base.0 && entry.index <= self.last() + 1,
            "entry {} does not follow {}",
            entry.index,
            self.last()
        );
        let keep = (entry.index - self.base.0 - 1) as usize;
        self.entries.truncate(keep);
        let before = self.entries.back();
        assert!(
            before.map_or(self.base.1, |kept| kept.entry.term) <= entry.term
                && before.is_none_or(|kept| kept.lsn < lsn),
            "entry {} of term {} in record {lsn}, behind one of a later term or record",
            entry.index,
            entry.term
        );
        let total = self.total_at(self.last()) + cost(&entry);
        self.entries.push_back(Kept { entry, lsn, total });
    }

    /// Where the log on disk can be cut below what is in memory, ascending: none is above the base.
    pub(super) fn set_marks(&mut self, marks: Vec<Mark>) {
        assert!(
            marks.is_sorted_by_key(|mark| mark.index)
                && marks.last().is_none_or(|mark| mark.index == self.base.0),
            "entries are forgotten in their order, up to the first one in memory"
        );
        self.marks = marks.into();
    }

    /// Forgets entries up to `index`, which the log holds, while the disk keeps them.
    pub(crate) fn forget(&mut self, index: u64) {
        let (Some(term), Some(next)) = (self.term_at(index), self.lsn_of(index + 1)) else {
            return;
        };
        if index > self.base.0 {
            let conf = self.conf_at(index).clone();
            self.purge(index);
            self.marks.push_back(Mark {
                index,
                term,
                conf,
                next,
            });
        }
    }

    /// Where the log can be cut that is nearest to `index` and not behind it, if it is cut at all: index, term and
    /// membership there, and the first record to keep (none if nothing follows).
    pub(crate) fn cut_at(&self, index: u64) -> Option<(u64, u64, &RaftConfState, Option<Lsn>)> {
        if index > self.base.0 {
            let term = self.term_at(index)?;
            return Some((index, term, self.conf_at(index), self.lsn_of(index + 1)));
        }
        let mark = self.marks.iter().rfind(|mark| mark.index <= index)?;
        Some((mark.index, mark.term, &mark.conf, Some(mark.next)))
    }

    /// The disk has no entries up to `index` any more; those in memory go too.
    pub(crate) fn cut(&mut self, index: u64) {
        self.marks.retain(|mark| mark.index > index);
        if index > self.base.0 {
            self.purge(index);
        }
    }

    /// Forgets entries up to `index`, which the log holds.
    fn purge(&mut self, index: u64) {
        let term = self.term_at(index).expect("the purge point is in the log");
        while self.base.0 < index {
            let gone = self.entries.pop_front().expect("the purge point is in the log");
            self.base_total = gone.total;
            self.base = (gone.entry.index, gone.entry.term);
        }
        self.base = (index, term);
        while self.confs.get(1).is_some_and(|(at, _)| *at <= index) {
            self.confs.pop_front();
        }
        if let Some((at, _)) = self.confs.front_mut() {
            *at = (*at).max(index);
        }
    }

    /// Replaces everything by a snapshot.
    pub(crate) fn reset(&mut self, meta: &SnapshotMeta) {
        self.base = (meta.index.0, meta.term.0);
        self.entries.clear();
        self.base_total = 0;
        self.confs = VecDeque::from([(meta.index.0, meta.conf.clone())]);
        self.marks.clear();
        self.made = None;
    }

    /// The membership as of `index`, which is not below the base.
    pub(crate) fn conf_at(&self, index: u64) -> &RaftConfState {
        let after = self.confs.partition_point(|(at, _)| *at <= index);
        &self.confs[after.saturating_sub(1)].1
    }

    /// The membership that the entry at exactly `index` made, if it made one.
    pub(crate) fn conf_made_by(&self, index: u64) -> Option<&RaftConfState> {
        let at = self.confs.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        (index > self.base.0).then(|| &self.confs[at].1)
    }

    pub(crate) fn latest_conf(&self) -> &RaftConfState {
        self.conf_at(u64::MAX)
    }

    pub(crate) fn push_conf(&mut self, index: u64, conf: &ConfState) {
        self.confs.push_back((index, conf_to_proto(conf)));
    }

    /// A snapshot was made, or the one that was made is of no use. What was asked for while it was made it answers, too.
    pub(crate) fn set_made(&mut self, meta: Option<SnapshotMeta>) {
        if let Some(made) = &meta
            && self.wanted.get().is_some_and(|at_least| at_least <= made.index.0)
        {
            self.wanted.set(None);
        }
        self.made = meta;
    }

    pub(crate) fn made(&self) -> Option<&SnapshotMeta> {
        self.made.as_ref()
    }

    /// Takes the wish for a newer snapshot.
    pub(crate) fn take_wanted(&self) -> Option<u64> {
        self.wanted.take()
    }

    /// The snapshot that serves `to`, not older than `at_least`; or the wish for one is noted.
    pub(crate) fn snapshot_for(&self, at_least: u64, to: NodeId) -> Option<&SnapshotMeta> {
        let names = |conf: &RaftConfState| {
            [&conf.voters, &conf.learners, &conf.voters_outgoing]
                .iter()
                .any(|ids| ids.contains(&to.0))
        };
        let at_least = at_least.max(self.base.0);
        if let Some(made) = &self.made
            && made.index.0 >= at_least
            && names(&made.conf)
        {
            return Some(made);
        }
        // A member must find itself in its snapshot's membership.
        let named = self
            .confs
            .iter()
            .find(|(_, conf)| names(conf))
            .map_or(0, |(at, _)| *at);
        let at_least = at_least.max(named).max(self.wanted.get().unwrap_or(0));
        self.wanted.set(Some(at_least));
        None
    }

    /// The index to purge below so that about `keep` bytes stay.
    pub(crate) fn purge_point(&self, keep: u64) -> LogIndex {
        let all = self.total_at(self.last());
        // By the running totals: this is asked in every batch while much is kept for a member that lags.
        let is_cut = |kept: &Kept| kept.total - cost(&kept.entry) + keep < all;
        let cut = self.entries.partition_point(is_cut);
        LogIndex(self.last() + 1 - (self.entries.len() - cut) as u64)
    }
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let (from, to) = (
            (low - self.base.0 - 1) as usize,
            (high - self.base.0 - 1) as usize,
        );
        let mut bytes = 0;
        let mut taken = Vec::new();
        for kept in self.entries.range(from..to) {
            bytes += cost(&kept.entry);
            if !taken.is_empty() && bytes > limit {
                break;
            }
            taken.push(kept.entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_at(index).ok_or(Error::Store(if index < self.base.0 {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        match self.snapshot_for(request_index, NodeId(to)) {
            Some(meta) => Ok(snapshot_from_meta(meta)),
            None => Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use drystone_types::{LogIndex, Term};

    /// A member that lags asks again and again while its snapshot is made.
    #[test]
    fn what_was_asked_for_while_a_snapshot_was_made_is_answered_by_it() {
        let conf = RaftConfState {
            voters: vec![1, 2],
            ..RaftConfState::default()
        };
        let mut store = LogStore::new((10, 1), conf.clone(), HardState::default());
        let made = |index| SnapshotMeta {
            index: LogIndex(index),
            term: Term(1),
            conf: conf.clone(),
            data: Bytes::from_static(b"id"),
        };
        assert!(store.snapshot_for(0, NodeId(2)).is_none());
        assert_eq!(store.take_wanted(), Some(10));
        assert!(store.snapshot_for(0, NodeId(2)).is_none());
        store.set_made(Some(made(12)));
        assert_eq!(store.take_wanted(), None, "it is there");
        assert!(store.snapshot_for(12, NodeId(2)).is_some());
        // A newer one than there is.
        assert!(store.snapshot_for(20, NodeId(2)).is_none());
        store.set_made(Some(made(15)));
        assert_eq!(store.take_wanted(), Some(20));
    }
}
