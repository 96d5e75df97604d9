//! What is left: which state is good, how far the log goes on behind it, and what is missing.

use super::{RecoverError, failed, settings, wal_config};
use crate::layout;
use crate::lone::export;
use crate::state::store::{FjallStore, StoreOptions};
use drystone_env::{BufferPool, Disk};
use drystone_identity::Identity;
use drystone_namespace::{Namespace, read_entry};
use drystone_raft::{BOOTSTRAP_INDEX, Rescued, rescue};
use drystone_types::{LogIndex, NodeId};
use std::path::Path;
use std::sync::Arc;

/// Read buffers kept.
const POOL_BYTES: usize = 8 << 20;

/// What a recovery restores, for people.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What it begins with: the state store, an export, or the beginning of the log.
    pub base: String,
    /// The log index of that.
    pub base_index: u64,
    /// The last log index restored.
    pub restored: u64,
    /// Log time of it, microseconds since 1970; 0 if none is known.
    pub restored_time: u64,
    /// States that were not good, and why.
    pub refused: Vec<String>,
    /// Why the log does not open; empty if it does.
    pub log_fault: String,
    /// What is lost.
    pub lost: Lost,
}

/// What a recovery cannot restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Log entries behind the last one restored that are known to have been there: damaged ones, and intact ones
    /// that stand on them.
    pub entries: u64,
    /// How many of those are intact.
    pub intact: u64,
    /// Places that cannot be read, each with the records in it and whether it matters.
    pub places: Vec<String>,
    /// A file of the log is gone, and how much was in it nothing tells.
    pub more: bool,
    /// Something behind the last batch is not intact: an incomplete write that nobody was told of, or damage.
    pub tail: Option<String>,
}

impl Lost {
    /// True if nothing is known to be lost.
    pub fn is_nothing(&self) -> bool {
        self.entries == 0 && !self.more
    }
}

/// Where the state comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Store,
    Export(LogIndex),
    Beginning,
}

/// All that the recovery is made of.
pub(super) struct Evidence {
    pub(super) survey: Survey,
    pub(super) base: Base,
    pub(super) rescued: Rescued,
}

/// A good state: where it is, its applied index, its log time.
type Candidate = (Base, LogIndex, u64);

/// Reads everything.
pub(super) fn survey(
    data: &Path,
    disk: &Arc<dyn Disk>,
    identity: &Identity,
) -> Result<Evidence, RecoverError> {
    let pool = BufferPool::new(POOL_BYTES);
    let rescued = match rescue(&**disk, &wal_config(identity), &pool) {
        Ok(rescued) => rescued,
        Err(error) if !data.join(layout::LOG).exists() => {
            tracing::warn!(%error, "there is no log");
            Rescued::default()
        }
        Err(error) => return Err(failed("reading the log")(error)),
    };
    let exports = export::list(&**disk).map_err(failed("listing exports"))?;
    check_alone(identity, &rescued, !exports.is_empty())?;
    let mut refused = Vec::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    candidates.extend(store(data, identity, &mut refused)?);
    candidates.extend(newest_export(&**disk, identity, &exports, &mut refused));
    if rescued.purged == Some(BOOTSTRAP_INDEX) {
        candidates.push((Base::Beginning, BOOTSTRAP_INDEX, 0));
    }
    // The first of equals: the store needs no import.
    candidates.sort_by_key(|(_, index, _)| std::cmp::Reverse(*index));
    let Some(&(base, index, time)) = candidates.first() else {
        refused.extend(rescued.log.fault.clone());
        refused.push(format!(
            "the log begins behind entry {}",
            rescued.purged.unwrap_or_default()
        ));
        return Err(RecoverError::Nothing { reasons: refused });
    };
    let restored = rescued.reaches(index);
    let leads_on = rescued.purged.is_some_and(|purged| purged <= index);
    let survey = Survey {
        base: describe(base),
        base_index: index.0,
        restored: restored.0,
        restored_time: time_at(&rescued, index, restored).unwrap_or(time),
        refused,
        log_fault: rescued.log.fault.clone().unwrap_or_default(),
        lost: lost(&rescued, restored),
    };
    if leads_on && survey.log_fault.is_empty() && rescued.unknown == 0 && survey.lost.is_nothing() {
        return Err(RecoverError::Intact);
    }
    Ok(Evidence {
        survey,
        base,
        rescued,
    })
}

/// An export proves it: only a lone voter makes one, and it removes them when it is not alone any more.
fn check_alone(identity: &Identity, rescued: &Rescued, exported: bool) -> Result<(), RecoverError> {
    let others = |voters: &[NodeId]| voters.iter().any(|voter| *voter != identity.node);
    let reason = if exported {
        return Ok(());
    } else if rescued.membership_changed {
        "its log changes the membership, and it has made no export since".to_owned()
    } else if others(&rescued.voters) {
        format!("its log names {} voters", rescued.voters.len())
    } else if rescued.voters.is_empty() && (identity.joining || identity.voters.len() != 1) {
        "it was formatted as one of several".to_owned()
    } else {
        return Ok(());
    };
    Err(RecoverError::NotAlone { reason })
}

fn describe(base: Base) -> String {
    match base {
        Base::Store => "the state store".to_owned(),
        Base::Export(index) => format!("the export of index {index}"),
        Base::Beginning => "the beginning of the log".to_owned(),
    }
}

/// Every table of it is compared whole.
pub(super) fn open_store(data: &Path) -> Result<FjallStore, String> {
    let options = StoreOptions {
        cache_bytes: 32 << 20,
        check_bytes: u64::MAX,
        ..StoreOptions::default()
    };
    let directory = layout::current_state(data).map_err(|error| error.to_string())?;
    FjallStore::open(&directory, options).map_err(|error| error.to_string())
}

fn store(
    data: &Path,
    identity: &Identity,
    refused: &mut Vec<String>,
) -> Result<Option<Candidate>, RecoverError> {
    if !data.join("state").exists() {
        return Ok(None);
    }
    let directory = layout::current_state(data).map_err(failed("looking for the state"))?;
    if !directory.join("version").exists() {
        return Ok(None);
    }
    let opened = open_store(data).and_then(|store| {
        Namespace::open(Arc::new(store), settings(identity)).map_err(|error| error.to_string())
    });
    Ok(match opened {
        Ok(state) if state.applied().0 > 0 => Some((Base::Store, state.applied(), state.log_time())),
        Ok(_) => None,
        Err(reason) => {
            refused.push(format!("state store: {reason}"));
            None
        }
    })
}

fn newest_export(
    disk: &dyn Disk,
    identity: &Identity,
    names: &[LogIndex],
    refused: &mut Vec<String>,
) -> Option<Candidate> {
    for applied in names {
        match export::verify(disk, *applied, &settings(identity), &|| true) {
            Ok(found) => return Some((Base::Export(found.applied), found.applied, found.time)),
            Err(error) => refused.push(format!("export: {error}")),
        }
    }
    None
}

/// Log time of the last command restored.
fn time_at(rescued: &Rescued, base: LogIndex, restored: LogIndex) -> Option<u64> {
    let entries = rescued.entries.range(base.0 + 1..=restored.0.max(base.0 + 1));
    let commands = entries.rev().filter_map(|(_, entry)| entry.command.clone());
    commands
        .filter_map(|data| read_entry(data).ok())
        .map(|entry| entry.time)
        .find(|time| *time > 0)
}

fn lost(rescued: &Rescued, restored: LogIndex) -> Lost {
    let behind = rescued.entries.range(restored.0 + 1..);
    let (intact, last) = (
        behind.clone().count() as u64,
        behind.last().map(|(index, _)| *index),
    );
    let mut entries = last.map_or(0, |last| last - restored.0);
    let mut places = Vec::new();
    for gap in &rescued.log.gaps {
        let at_end = gap.first > rescued.last;
        if at_end {
            // Which of them were entries is not known.
            entries += gap.records;
        }
        places.push(format!(
            "{} at {}: {} records from number {} on cannot be read{}",
            gap.file,
            gap.offset,
            gap.records,
            gap.first,
            if entries == 0 {
                " (the restored state holds what they said)"
            } else {
                ""
            },
        ));
    }
    if let Some(from) = rescued.log.gone_from {
        places.push(format!(
            "the file of the log with the records from number {from} on is gone"
        ));
    }
    if rescued.log.unreadable_blocks > 0 {
        let blocks = rescued.log.unreadable_blocks;
        places.push(format!(
            "the disk refused to read {blocks} blocks of 4 KiB of the log"
        ));
    }
    if rescued.unknown > 0 {
        places.push(format!("{} records are of a newer version", rescued.unknown));
    }
    let tail = rescued.log.tail.as_ref();
    Lost {
        entries,
        intact,
        places,
        more: rescued.log.gone_from.is_some(),
        tail: tail.map(|tail| format!("{} at {}: {}", tail.file, tail.offset, tail.reason)),
    }
}
