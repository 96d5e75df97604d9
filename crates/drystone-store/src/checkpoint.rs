//! Checkpoints: when one is due, when the index can be taken, and how both copies are written.
//!
//! A copy is written and synced, then the other, then the journal below is let go: at any moment one of the two is
//! whole and the journal holds everything since, so a crash loses nothing and a damaged copy is absorbed.

use crate::Store;
use crate::index::{Entry, State};
use crate::live::Live;
use crate::snapshot::Encoder;
use crate::store::Doing;
use bytes::Bytes;
use drystone_env::{DiskFile, IoOp, IoOutput};
use drystone_types::ChunkId;
use drystone_wal::Lsn;
use std::io;
use std::sync::Arc;

/// Written in pieces of this size, so that other work gets its turn.
const PIECE: usize = 1 << 20;

/// The checkpoint files and the checkpoint under way.
pub(crate) struct Checkpoint {
    pub(crate) files: [Arc<dyn DiskFile>; 2],
    pub(crate) generation: u64,
    state: Phase,
}

enum Phase {
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
    pub(crate) fn new(files: [Arc<dyn DiskFile>; 2], generation: u64) -> Self {
        Self {
            files,
            generation,
            state: Phase::Idle,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, Phase::Idle)
    }
}

impl Store {
    pub(crate) fn run_checkpoint(&mut self) {
        if self.checkpoint.is_idle() && self.journal.wal.held_bytes() >= self.config.checkpoint_bytes {
            let cut = self.journal.wal.durable().next();
            // Nothing new would be let go: a checkpoint must have something to say.
            if cut > self.journal.wal.released() {
                self.checkpoint.state = Phase::Draining { cut };
            }
        }
        let Phase::Draining { cut } = self.checkpoint.state else {
            return;
        };
        let ready = self.live.iter().all(|(chunk, live)| {
            self.index
                .get(chunk)
                .is_none_or(|entry| live.recorded && is_ready(live, entry, cut))
        });
        // A chunk whose delete is on its way is not in memory any more: it must be whole without.
        let ready = ready
            && self
                .deleting
                .keys()
                .filter_map(|chunk| self.index.get(chunk))
                .all(|entry| match entry.state {
                    State::Sealed => entry.slot_len == entry.length,
                    State::Marker => true,
                    State::Open | State::Fenced => false,
                });
        if !ready {
            self.mover.urged = true;
            return;
        }
        self.mover.urged = false;
        self.checkpoint.generation += 1;
        let bytes = self.encode_checkpoint(cut);
        self.checkpoint.state = Phase::Writing {
            cut,
            bytes,
            copy: 0,
            at: 0,
        };
        self.write_piece();
    }

    /// Begins a checkpoint now, for tests and an orderly end.
    pub fn begin_checkpoint(&mut self) {
        if self.checkpoint.is_idle() && self.failed.is_none() {
            self.checkpoint.state = Phase::Draining {
                cut: self.journal.wal.durable().next(),
            };
        }
    }

    pub(crate) fn encode_checkpoint(&self, cut: Lsn) -> Bytes {
        let mut encoder = Encoder::new(self.index.len());
        for (chunk, entry) in &self.index {
            match self.live.get(chunk) {
                Some(live) if matches!(entry.state, State::Open | State::Fenced) => {
                    let mut entry = *entry;
                    entry.slot_len = entry
                        .slot_len
                        .max(live.slot_synced.min(whole_blocks(entry.length)));
                    let whole = (entry.length / crate::format::BLOCK) as usize;
                    let data = live
                        .durable_from(entry.slot_len, entry.length)
                        .unwrap_or_default();
                    encoder.entry(*chunk, &entry, &live.sums[..whole], &data);
                }
                _ => encoder.entry(*chunk, entry, &[], &[]),
            }
        }
        encoder.finish(self.checkpoint.generation, self.me, cut, self.floor)
    }

    fn write_piece(&mut self) {
        let Phase::Writing { bytes, copy, at, .. } = &self.checkpoint.state else {
            return;
        };
        let (copy, at) = (*copy, *at);
        let piece = bytes.slice(at..bytes.len().min(at + PIECE));
        let file = Arc::clone(&self.checkpoint.files[copy]);
        self.request(
            IoOp::Write {
                file,
                offset: at as u64,
                parts: vec![piece],
            },
            Doing::Checkpoint,
        );
    }

    pub(crate) fn on_checkpoint_io(&mut self, result: io::Result<IoOutput>) {
        if let Err(error) = result {
            self.fail(format!("checkpoint: {error}"));
            return;
        }
        match std::mem::replace(&mut self.checkpoint.state, Phase::Idle) {
            Phase::Writing { cut, bytes, copy, at } if at + PIECE < bytes.len() => {
                self.checkpoint.state = Phase::Writing {
                    cut,
                    bytes,
                    copy,
                    at: at + PIECE,
                };
                self.write_piece();
            }
            Phase::Writing { cut, bytes, copy, .. } => {
                let file = Arc::clone(&self.checkpoint.files[copy]);
                self.checkpoint.state = Phase::Syncing { cut, bytes, copy };
                self.request(IoOp::Sync { file }, Doing::Checkpoint);
            }
            Phase::Syncing { cut, bytes, copy: 0 } => {
                self.checkpoint.state = Phase::Writing {
                    cut,
                    bytes,
                    copy: 1,
                    at: 0,
                };
                self.write_piece();
            }
            Phase::Syncing { cut, .. } => self.journal.wal.release(cut),
            other => self.checkpoint.state = other,
        }
    }
}

/// True if the chunk can be told without what the journal says of it below `cut`.
fn is_ready(live: &Live, entry: &Entry, cut: Lsn) -> bool {
    match entry.state {
        State::Sealed => entry.slot_len == entry.length || live.journal_from.is_some_and(|from| from >= cut),
        State::Marker => true,
        State::Open | State::Fenced => {
            let in_slot = entry
                .slot_len
                .max(live.slot_synced.min(whole_blocks(entry.length)));
            let sums = live.sums.len() as u64 >= entry.length / crate::format::BLOCK;
            sums && live.durable_from(in_slot, entry.length).is_some()
        }
    }
}

impl Store {
    /// The chunk ids for which a checkpoint would have to wait; for tests.
    #[doc(hidden)]
    pub fn unmoved(&self) -> Vec<ChunkId> {
        self.live
            .iter()
            .filter(|(_, live)| live.journal_from.is_some())
            .map(|(chunk, _)| *chunk)
            .collect()
    }
}

fn whole_blocks(length: u64) -> u64 {
    length / crate::format::BLOCK * crate::format::BLOCK
}
