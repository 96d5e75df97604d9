//! Finds the log's state again from its records.

use super::memberships::Memberships;
use super::store::{ENTRY_OVERHEAD, Mark};
use super::{Base, LogStore, Record};
use crate::codec::entry_from_proto;
use crate::plausible::{self, membership_fault};
use crate::{BOOTSTRAP_INDEX, OpenError, OpenedEntry};
use bytes::Bytes;
use drystone_proto::raft::{RaftConfState, RaftEntry, RaftHardState};
use drystone_types::{LogIndex, NodeId, Term};
use drystone_wal::Lsn;
use raft::eraftpb::HardState;
use std::collections::VecDeque;

/// What is done with committed entries that a state machine lacks, while the log is opened.
pub(crate) type Apply<'a> = &'a mut dyn FnMut(OpenedEntry) -> Result<(), String>;

/// Takes records in the order of their writing. The first ones may be leftovers of a purged time.
///
/// Entries stay in memory up to a bound. Beyond it those that are known to be committed go: a state machine that lacks
/// them applies them, as far as it can be asked to. Where they went, the log on disk can be cut later.
pub(crate) struct Replay<'a> {
    bound: u64,
    /// What the state machine has applied.
    applied: u64,
    apply: Option<Apply<'a>>,
    base: Option<(Lsn, Base)>,
    state: RaftHardState,
    state_lsn: Lsn,
    /// What was committed by the state before the last one. The last one may stand in front of the entries that it is
    /// said of, in logs of earlier versions.
    committed: u64,
    entries: VecDeque<(Lsn, RaftEntry)>,
    /// Memory of them.
    bytes: u64,
    /// The first entry of those that follow one another up to the last, forgotten ones included.
    begins: u64,
    forgotten: Vec<Forgotten>,
    /// Membership changes among what was forgotten: index and data.
    changes: Vec<(u64, Bytes)>,
    records: u64,
    refused: Option<(LogIndex, String)>,
}

/// The last one of entries that went together.
struct Forgotten {
    index: u64,
    term: u64,
    /// A record from which on the entries behind it are found.
    next: Lsn,
}

/// What was found.
pub(crate) struct Replayed {
    pub store: LogStore,
    pub hard: HardState,
    /// What the log on disk begins after.
    pub purged: LogIndex,
    pub last: LogIndex,
    /// What the state machine has applied by now.
    pub applied: LogIndex,
}

fn size(entry: &RaftEntry) -> u64 {
    (entry.data.len() + entry.context.len()) as u64 + ENTRY_OVERHEAD
}

impl<'a> Replay<'a> {
    /// For a state machine that has applied up to `applied`. About `bound` bytes of entries stay in memory.
    pub(crate) fn new(bound: u64, applied: LogIndex, apply: Option<Apply<'a>>) -> Self {
        Self {
            bound,
            applied: applied.0,
            apply,
            base: None,
            state: RaftHardState::default(),
            state_lsn: Lsn(0),
            committed: 0,
            entries: VecDeque::new(),
            bytes: 0,
            begins: 0,
            forgotten: Vec::new(),
            changes: Vec::new(),
            records: 0,
            refused: None,
        }
    }

    /// # Errors
    /// Why the record cannot stand here, or that an entry was not applied: see [`Replay::refused`].
    pub(crate) fn take(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), String> {
        self.records += 1;
        let record = Record::decode(bytes)?;
        check(&record)?;
        match record {
            Record::State(state) => {
                if state.term < self.state.term {
                    return Err(format!("term {} after term {}", state.term, self.state.term));
                }
                self.committed = self.committed.max(self.state.commit);
                (self.state, self.state_lsn) = (state, lsn);
            }
            Record::Base(base) => self.take_base(lsn, base)?,
            Record::Entry(entry) => {
                self.take_entry(lsn, entry)?;
                self.bound_memory()?;
            }
        }
        Ok(())
    }

    /// The entry that the state machine did not apply, and why.
    pub(crate) fn refused(&mut self) -> Option<(LogIndex, String)> {
        self.refused.take()
    }

    fn take_base(&mut self, lsn: Lsn, base: Base) -> Result<(), String> {
        if let Some((_, before)) = &self.base
            && base.index < before.index
        {
            return Err(format!(
                "begins after {} where it began after {}",
                base.index, before.index
            ));
        }
        let index = base.index.0;
        if base.reset {
            self.entries.clear();
            self.forgotten.clear();
            self.bytes = 0;
        }
        while let Some((_, entry)) = self.entries.front()
            && entry.index <= index
        {
            self.bytes -= size(entry);
            self.entries.pop_front();
        }
        self.forgotten.retain(|forgotten| forgotten.index > index);
        self.changes.retain(|(at, _)| *at > index && !base.reset);
        self.base = Some((lsn, base));
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
        if let Some(forgotten) = self.forgotten.last()
            && entry.index <= forgotten.index
        {
            return Err(format!(
                "entry {} where {} was committed",
                entry.index, forgotten.index
            ));
        }
        while let Some((_, last)) = self.entries.back()
            && last.index >= entry.index
        {
            self.bytes -= size(last);
            self.entries.pop_back();
        }
        let last = self.entries.back().map(|(_, last)| (last.index, last.term));
        let last = last.or(self.forgotten.last().map(|last| (last.index, last.term)));
        if let Some((index, term)) = last
            && (entry.index != index + 1 || entry.term < term)
        {
            return Err(format!(
                "entry {} of term {} behind entry {index} of term {term}",
                entry.index, entry.term
            ));
        }
        if last.is_none() {
            self.begins = entry.index;
        }
        self.bytes += size(&entry);
        self.entries.push_back((lsn, entry));
        Ok(())
    }

    /// Lets committed entries go while there are more than the bound allows, half of it at once.
    fn bound_memory(&mut self) -> Result<(), String> {
        if self.bytes <= self.bound {
            return Ok(());
        }
        let mut gone = None;
        while self.bytes > self.bound / 2 && self.entries.len() > 1 {
            let Some((_, first)) = self.entries.front().cloned() else {
                break;
            };
            if first.index > self.committed || !self.is_applied(&first)? {
                break;
            }
            self.entries.pop_front();
            self.bytes -= size(&first);
            gone = Some((first.index, first.term));
            if first.kind != 0 {
                self.changes.push((first.index, first.data));
            }
        }
        if let Some((index, term)) = gone
            && let Some((next, _)) = self.entries.front()
        {
            let next = *next;
            self.forgotten.push(Forgotten { index, term, next });
        }
        Ok(())
    }

    /// True if the state machine has applied the entry, which is committed, or does so now. One that lacks what is before
    /// it does not.
    fn is_applied(&mut self, entry: &RaftEntry) -> Result<bool, String> {
        let index = entry.index;
        if index <= self.applied {
            return Ok(true);
        }
        let Some(apply) = self.apply.as_mut() else {
            return Ok(false);
        };
        if index != self.applied.max(BOOTSTRAP_INDEX.0) + 1 {
            return Ok(false);
        }
        let is_command = entry.kind == 0 && !entry.data.is_empty();
        let opened = OpenedEntry {
            index: LogIndex(index),
            term: Term(entry.term),
            command: is_command.then(|| entry.data.clone()),
        };
        if let Err(reason) = apply(opened) {
            self.refused = Some((LogIndex(index), reason.clone()));
            return Err(reason);
        }
        self.applied = index;
        Ok(true)
    }

    /// True if there were no records.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// What the records add up to, for member `id`.
    pub(crate) fn finish(self, id: NodeId) -> Result<Replayed, OpenError> {
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
        let forgotten = self.forgotten.last();
        let (index, term) = forgotten.map_or((base.index.0, base.term.0), |last| (last.index, last.term));
        if let Some((lsn, _)) = self.entries.front()
            && self.begins > base.index.0 + 1
        {
            let expected = format!("entry {}", base.index.0 + 1);
            return Err(wrong(*lsn, &expected, format!("entry {}", self.begins)));
        }
        let last_term = self.entries.back().map_or(term, |(_, entry)| entry.term);
        if self.state.term < last_term {
            let found = format!("term {}", self.state.term);
            return Err(wrong(
                self.state_lsn.max(base_lsn),
                "a term not below the last entry's",
                found,
            ));
        }
        let last = LogIndex(index + self.entries.len() as u64);
        let applied = LogIndex(self.applied);
        if applied > last {
            return Err(OpenError::LogBehindState { last, applied });
        }
        // The commit index may have been written ahead of entries that a crash cut off (by an earlier version), and what
        // is applied is committed whether that was written or not.
        let commit = self.state.commit.min(last.0).max(index).max(applied.0);
        let mut hard = HardState::default();
        hard.term = self.state.term;
        hard.vote = self.state.vote;
        hard.commit = commit;
        let (conf, marks) = marks(id, &base, self.forgotten, self.changes)?;
        let mut store = LogStore::new((index, term), conf, hard.clone());
        store.set_marks(marks);
        for (lsn, entry) in self.entries {
            let entry = entry_from_proto(entry).map_err(|fault| wrong(lsn, "an entry", fault.to_owned()))?;
            store.put(entry, lsn);
        }
        Ok(Replayed {
            store,
            hard,
            purged: base.index,
            last,
            applied,
        })
    }
}

fn wrong(lsn: Lsn, expected: &str, found: String) -> OpenError {
    OpenError::Record {
        lsn,
        expected: expected.to_owned(),
        found,
    }
}

/// Where the log can be cut below what is in memory, and the membership there: that of the base, but for `changes` since.
fn marks(
    id: NodeId,
    base: &Base,
    forgotten: Vec<Forgotten>,
    changes: Vec<(u64, Bytes)>,
) -> Result<(RaftConfState, Vec<Mark>), OpenError> {
    if forgotten.is_empty() {
        return Ok((base.conf.clone(), Vec::new()));
    }
    let refused = |fault| wrong(Lsn(0), "a membership that raft takes", fault);
    let mut memberships = Memberships::new(id, base).map_err(refused)?;
    let mut changes = changes.into_iter().peekable();
    let mut marks = Vec::with_capacity(forgotten.len());
    for Forgotten { index, term, next } in forgotten {
        while let Some((at, data)) = changes.next_if(|(at, _)| *at <= index) {
            let expected = format!("membership change {at}");
            let changed = memberships.change(&data);
            changed.map_err(|fault| wrong(next, &expected, fault))?;
        }
        let conf = memberships.conf().clone();
        marks.push(Mark {
            index,
            term,
            conf,
            next,
        });
    }
    Ok((memberships.conf().clone(), marks))
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
