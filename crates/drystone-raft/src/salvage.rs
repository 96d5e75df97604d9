//! What a damaged log still says, for the rescue of a lone voter.
//!
//! A member never opens such a log: what it lacks may be a vote or an entry that others count on. A lone voter
//! has no others, so what is intact in its log was its own word alone. Writes nothing.

use crate::log::Record;
use bytes::Bytes;
use drystone_env::{BufferPool, Disk};
use drystone_types::{LogIndex, NodeId, Term};
use drystone_wal::{Lsn, Salvaged, WalConfig, WalError, salvage as salvage_records};
use std::collections::BTreeMap;

/// An intact entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RescuedEntry {
    /// Its term.
    pub term: Term,
    /// The command; `None` for a membership change or a leader's first entry.
    pub command: Option<Bytes>,
}

/// What is left of a log.
#[derive(Debug, Default)]
pub struct Rescued {
    /// By index. Neighbours belong to each other; where an index is missing, so is the entry.
    pub entries: BTreeMap<u64, RescuedEntry>,
    /// The record of the last intact entry.
    pub last: Lsn,
    /// Up to here entries were purged.
    pub purged: Option<LogIndex>,
    /// The voters when that was written.
    pub voters: Vec<NodeId>,
    /// True if an intact entry changes the membership.
    pub membership_changed: bool,
    /// Whose log it is.
    pub node: Option<NodeId>,
    /// The highest term that was read.
    pub term: Term,
    /// Intact records that make no sense here: written by a later version.
    pub unknown: u64,
    /// What is missing, below.
    pub log: Salvaged,
}

impl Rescued {
    /// The last index of the unbroken run of entries that begins behind `index`; `index` if there is none.
    pub fn reaches(&self, index: LogIndex) -> LogIndex {
        let mut last = index.0;
        let mut term = Term(0);
        for (at, entry) in self.entries.range(index.0 + 1..) {
            // What was overwritten while the batch that did so is missing shows in the terms.
            if *at != last + 1 || entry.term < term {
                break;
            }
            (last, term) = (*at, entry.term);
        }
        LogIndex(last)
    }

    fn take(&mut self, lsn: Lsn, record: &[u8]) {
        match Record::decode(record) {
            Ok(Record::State(state)) => self.term = self.term.max(Term(state.term)),
            Ok(Record::Base(base)) => {
                if base.reset {
                    self.entries.clear();
                }
                self.purged = Some(base.index);
                self.voters = base.conf.voters.into_iter().map(NodeId).collect();
                self.node = Some(base.node);
                self.term = self.term.max(base.term);
            }
            Ok(Record::Entry(entry)) => {
                self.last = lsn;
                self.entries.split_off(&entry.index);
                self.term = self.term.max(Term(entry.term));
                self.membership_changed |= entry.kind != 0;
                let is_command = entry.kind == 0 && !entry.data.is_empty();
                let rescued = RescuedEntry {
                    term: Term(entry.term),
                    command: is_command.then_some(entry.data),
                };
                self.entries.insert(entry.index, rescued);
            }
            Err(_) => self.unknown += 1,
        }
    }
}

/// Reads every intact record of the log that `log` names.
///
/// # Errors
/// The directory cannot be read at all.
pub fn rescue(disk: &dyn Disk, log: &WalConfig, pool: &BufferPool) -> Result<Rescued, WalError> {
    let mut rescued = Rescued::default();
    let found = salvage_records(disk, log, pool, &mut |lsn, record| rescued.take(lsn, &record))?;
    rescued.log = found;
    Ok(rescued)
}
