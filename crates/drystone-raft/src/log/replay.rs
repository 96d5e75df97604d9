//! Finds the log's state again from its records.

use super::{Base, LogStore, Record};
use crate::codec::entry_from_proto;
use crate::plausible::{self, membership_fault};
use crate::{BOOTSTRAP_INDEX, OpenError};
use drystone_proto::raft::{RaftEntry, RaftHardState};
use drystone_types::{LogIndex, NodeId};
use drystone_wal::Lsn;
use raft::eraftpb::HardState;
use std::collections::VecDeque;

/// Takes records in the order of their writing. The first ones may be leftovers of a purged time.
#[derive(Default)]
pub(crate) struct Replay {
    base: Option<(Lsn, Base)>,
    state: RaftHardState,
    state_lsn: Lsn,
    entries: VecDeque<(Lsn, RaftEntry)>,
    records: u64,
}

/// What was found.
pub(crate) struct Replayed {
    pub store: LogStore,
    pub hard: HardState,
    pub last: LogIndex,
}

impl Replay {
    /// # Errors
    /// Why the record cannot stand here.
    pub(crate) fn take(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), String> {
        self.records += 1;
        let record = Record::decode(bytes)?;
        check(&record)?;
        match record {
            Record::State(state) => {
                if state.term < self.state.term {
                    return Err(format!("term {} after term {}", state.term, self.state.term));
                }
                (self.state, self.state_lsn) = (state, lsn);
            }
            Record::Base(base) => {
                if let Some((_, before)) = &self.base
                    && base.index < before.index
                {
                    return Err(format!(
                        "begins after {} where it began after {}",
                        base.index, before.index
                    ));
                }
                if base.reset {
                    self.entries.clear();
                }
                while self
                    .entries
                    .front()
                    .is_some_and(|(_, entry)| entry.index <= base.index.0)
                {
                    self.entries.pop_front();
                }
                self.base = Some((lsn, base));
            }
            Record::Entry(entry) => self.take_entry(lsn, entry)?,
        }
        Ok(())
    }

    fn take_entry(&mut self, lsn: Lsn, entry: RaftEntry) -> Result<(), String> {
        if let Some((_, base)) = &self.base
            && entry.index <= base.index.0
        {
            return Err(format!(
                "entry {} in a log that begins after {}",
                entry.index, base.index
            ));
        }
        while self
            .entries
            .back()
            .is_some_and(|(_, last)| last.index >= entry.index)
        {
            self.entries.pop_back();
        }
        if let Some((_, last)) = self.entries.back()
            && (entry.index != last.index + 1 || entry.term < last.term)
        {
            return Err(format!(
                "entry {} of term {} behind entry {} of term {}",
                entry.index, entry.term, last.index, last.term
            ));
        }
        self.entries.push_back((lsn, entry));
        Ok(())
    }

    /// True if there were no records.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// What the records add up to, for member `id` whose state machine has applied up to `applied`.
    pub(crate) fn finish(self, id: NodeId, applied: LogIndex) -> Result<Replayed, OpenError> {
        let wrong = |lsn: Lsn, expected: &str, found: String| OpenError::Record {
            lsn,
            expected: expected.to_owned(),
            found,
        };
        let Some((base_lsn, base)) = self.base else {
            return Err(wrong(
                Lsn(0),
                "a record of what the log begins after",
                "none".to_owned(),
            ));
        };
        if base.node != id {
            return Err(OpenError::OfAnother {
                expected: id,
                found: base.node,
            });
        }
        if let Some((lsn, first)) = self.entries.front()
            && first.index != base.index.0 + 1
        {
            let expected = format!("entry {}", base.index.0 + 1);
            return Err(wrong(*lsn, &expected, format!("entry {}", first.index)));
        }
        let last_term = self.entries.back().map_or(base.term.0, |(_, entry)| entry.term);
        if self.state.term < last_term {
            let found = format!("term {}", self.state.term);
            return Err(wrong(
                self.state_lsn.max(base_lsn),
                "a term not below the last entry's",
                found,
            ));
        }
        let last = LogIndex(base.index.0 + self.entries.len() as u64);
        if applied > last {
            return Err(OpenError::LogBehindState { last, applied });
        }
        // The commit index may have been written ahead of entries that a crash cut off (it is knowledge, not a
        // promise), and what is applied is committed whether that was written or not.
        let commit = self.state.commit.min(last.0).max(base.index.0).max(applied.0);
        let mut hard = HardState::default();
        hard.term = self.state.term;
        hard.vote = self.state.vote;
        hard.commit = commit;
        let mut store = LogStore::new((base.index.0, base.term.0), base.conf, hard.clone());
        for (lsn, entry) in self.entries {
            let entry = entry_from_proto(entry).map_err(|fault| wrong(lsn, "an entry", fault.to_owned()))?;
            store.put(entry, lsn);
        }
        Ok(Replayed { store, hard, last })
    }
}

/// No record of a log of ours has such numbers or such a membership.
fn check(record: &Record) -> Result<(), String> {
    let (numbers, fault) = match record {
        Record::State(state) => ([state.term, state.commit], None),
        Record::Entry(entry) => ([entry.term, entry.index], None),
        Record::Base(base) => ([base.term.0, base.index.0], membership_fault(&base.conf)),
    };
    match fault {
        Some(fault) => Err(format!("membership: {fault}")),
        None if !plausible::numbers(numbers) => Err(format!("numbers {numbers:?}, which no log reaches")),
        None => Ok(()),
    }
}

/// True if a state machine that has applied up to `applied` can go on with a log that begins after `base`.
pub(crate) fn reaches(applied: LogIndex, base: LogIndex) -> bool {
    applied >= base || base <= BOOTSTRAP_INDEX
}
