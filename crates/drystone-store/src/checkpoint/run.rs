//! Checkpoints: when one is due, when the index can be taken, and how both copies are written.
//!
//! A copy is written and synced, then the other, then the journal below is let go: at any moment one of the two is
//! whole and the journal holds everything since, so a crash loses nothing and a damaged copy is absorbed.

use super::image::CheckpointEncoder;
use crate::active::{ActiveChunk, ActiveChunks};
use crate::class::IoClass;
use crate::format::BLOCK;
use crate::index::{EntryState, Index, IndexEntry};
use crate::journal::Journal;
use crate::work::{DiskTask, DiskWork};
use bytes::Bytes;
use drystone_env::{DiskFile, IoOp};
use drystone_types::DiskRef;
use drystone_wal::Lsn;
use std::sync::Arc;

/// Written in pieces of this size, so that other work gets its turn.
const PIECE: usize = 1 << 20;

/// The checkpoint files and the checkpoint under way.
pub(crate) struct Checkpoint {
    files: [Arc<dyn DiskFile>; 2],
    generation: u64,
    phase: CheckpointPhase,
}

enum CheckpointPhase {
    Idle,
    /// Bytes that are only in the journal below this record must be moved first.
    Draining {
        cut: Lsn,
    },
    Writing {
        cut: Lsn,
        bytes: Bytes,
        copy: usize,
        at: usize,
    },
    Syncing {
        cut: Lsn,
        bytes: Bytes,
        copy: usize,
    },
}

impl Checkpoint {
    /// The next one is written to the first of `files` first, with a generation above `generation`.
    pub(crate) fn new(files: [Arc<dyn DiskFile>; 2], generation: u64) -> Self {
        Self {
            files,
            generation,
            phase: CheckpointPhase::Idle,
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.phase, CheckpointPhase::Idle)
    }

    /// Wants one if the journal has grown beyond `limit` bytes.
    pub(crate) fn begin_if_due(&mut self, journal: &Journal, limit: u64) {
        if self.is_idle() && journal.held_bytes() >= limit {
            let cut = journal.durable_end();
            // Nothing new would be let go: a checkpoint must have something to say.
            if cut > journal.released() {
                self.phase = CheckpointPhase::Draining { cut };
            }
        }
    }

    /// Wants one now.
    pub(crate) fn begin(&mut self, journal: &Journal) {
        if self.is_idle() {
            let cut = journal.durable_end();
            self.phase = CheckpointPhase::Draining { cut };
        }
    }

    /// Takes the index and begins to write, if one is wanted and everything is where it must be. Otherwise, if one
    /// is wanted, `Some(true)`: bytes must be moved first. `Some(false)`: it was begun.
    pub(crate) fn run(
        &mut self,
        me: DiskRef,
        index: &Index,
        active: &ActiveChunks,
        next_arena: u32,
        work: &mut DiskWork,
    ) -> Option<bool> {
        let CheckpointPhase::Draining { cut } = self.phase else {
            return None;
        };
        if !is_complete(index, active, cut) {
            return Some(true);
        }
        self.generation += 1;
        let bytes = encode((self.generation, me, cut, next_arena), index, active);
        self.phase = CheckpointPhase::Writing {
            cut,
            bytes,
            copy: 0,
            at: 0,
        };
        self.write_piece(work);
        Some(false)
    }

    fn write_piece(&mut self, work: &mut DiskWork) {
        let CheckpointPhase::Writing { bytes, copy, at, .. } = &self.phase else {
            return;
        };
        let (copy, at) = (*copy, *at);
        let piece = bytes.slice(at..bytes.len().min(at + PIECE));
        let file = Arc::clone(&self.files[copy]);
        let op = IoOp::Write {
            file,
            offset: at as u64,
            parts: vec![piece],
        };
        work.request(IoClass::Foreground, op, DiskTask::Checkpoint);
    }

    /// A write or sync has succeeded. When both copies are durable: the journal below this record is superfluous.
    pub(crate) fn on_io(&mut self, work: &mut DiskWork) -> Option<Lsn> {
        match std::mem::replace(&mut self.phase, CheckpointPhase::Idle) {
            CheckpointPhase::Writing { cut, bytes, copy, at } if at + PIECE < bytes.len() => {
                self.phase = CheckpointPhase::Writing {
                    cut,
                    bytes,
                    copy,
                    at: at + PIECE,
                };
                self.write_piece(work);
            }
            CheckpointPhase::Writing { cut, bytes, copy, .. } => {
                let file = Arc::clone(&self.files[copy]);
                self.phase = CheckpointPhase::Syncing { cut, bytes, copy };
                work.request(IoClass::Foreground, IoOp::Sync { file }, DiskTask::Checkpoint);
            }
            CheckpointPhase::Syncing { cut, bytes, copy: 0 } => {
                self.phase = CheckpointPhase::Writing {
                    cut,
                    bytes,
                    copy: 1,
                    at: 0,
                };
                self.write_piece(work);
            }
            CheckpointPhase::Syncing { cut, .. } => return Some(cut),
            other => self.phase = other,
        }
        None
    }
}

/// True if every chunk can be told without what the journal says below `cut`.
fn is_complete(index: &Index, active: &ActiveChunks, cut: Lsn) -> bool {
    let ready = active.iter().all(|(chunk, live)| {
        index
            .get(*chunk)
            .is_none_or(|entry| live.recorded && is_ready(live, entry, cut))
    });
    // A chunk whose delete is on its way is not in memory any more: it must be whole without.
    ready
        && index
            .deleting()
            .filter_map(|chunk| index.get(chunk))
            .all(|entry| match entry.state {
                EntryState::Sealed => entry.stored == entry.length,
                EntryState::Marker => true,
                EntryState::Open | EntryState::Fenced => false,
            })
}

/// True if the chunk can be told without what the journal says of it below `cut`.
fn is_ready(live: &ActiveChunk, entry: &IndexEntry, cut: Lsn) -> bool {
    match entry.state {
        EntryState::Sealed => {
            entry.stored == entry.length || live.journal_from.is_some_and(|from| from >= cut)
        }
        EntryState::Marker => true,
        EntryState::Open | EntryState::Fenced => {
            let stored = entry.stored.max(live.stored.min(whole_blocks(entry.length)));
            let sums = live.sums.len() as u64 >= entry.length / BLOCK;
            sums && live.durable_from(stored, entry.length).is_some()
        }
    }
}

fn encode(
    (generation, me, cut, next_arena): (u64, DiskRef, Lsn, u32),
    index: &Index,
    active: &ActiveChunks,
) -> Bytes {
    let mut encoder = CheckpointEncoder::new(index.len());
    for (chunk, entry) in index.iter() {
        match active.get(*chunk) {
            Some(live) if matches!(entry.state, EntryState::Open | EntryState::Fenced) => {
                let mut entry = entry.clone();
                entry.stored = entry.stored.max(live.stored.min(whole_blocks(entry.length)));
                let whole = (entry.length / BLOCK) as usize;
                let data = live.durable_from(entry.stored, entry.length).unwrap_or_default();
                encoder.entry(*chunk, &entry, &live.sums[..whole], &data);
            }
            _ => encoder.entry(*chunk, entry, &[], &[]),
        }
    }
    encoder.finish(generation, me, cut, index.floor(), next_arena)
}

fn whole_blocks(length: u64) -> u64 {
    length / BLOCK * BLOCK
}
