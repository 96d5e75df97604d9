//! Checkpoints: when one is due, when it can be begun, and in which order it is written.
//!
//! 1. *Draining*: what is only in the journal below the cut is moved.
//! 2. At one moment: what is not in leaves is told ([`CheckpointEncoder::entry`]).
//! 3. *Leaves*: a sweep over all leaves writes those that have changed to free places of both files of the index, as they are
//!    when it comes to them; the others stay where they are. Then both files are synced. What changes during the sweep
//!    is in the journal above the cut, and replay brings it to either state.
//! 4. *Copies*: one copy of the checkpoint is written and synced, then the other.
//! 5. The journal below the cut is let go, and the places that the checkpoint does not name are free.
//!
//! At any moment one of the two copies is whole, every leaf that it names is where it says, twice, and the journal holds
//! everything since its cut: a crash loses nothing, and one damaged file is absorbed.

use super::image::{CheckpointEncoder, CheckpointHead};
use super::places::Places;
use crate::active::{ActiveChunk, ActiveChunks};
use crate::class::IoClass;
use crate::format::BLOCK;
use crate::index::{EntryState, Index, IndexEntry, LEAF_BYTES, LeafImage};
use crate::journal::Journal;
use crate::work::{DiskTask, DiskWork};
use bytes::Bytes;
use drystone_env::{BufferPool, DiskFile, IoOp, Monotonic};
use drystone_types::{ChunkId, DiskRef};
use drystone_wal::Lsn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A copy is written in pieces of this size, so that other work gets its turn.
const PIECE: usize = 1 << 20;

/// The files of checkpoints.
pub(crate) struct CheckpointFiles {
    pub(crate) copies: [Arc<dyn DiskFile>; 2],
    pub(crate) index: [Arc<dyn DiskFile>; 2],
}

impl CheckpointFiles {
    /// What makes the files so long that on a disk which others fill the next checkpoint finds room: every leaf again, and a
    /// copy twice as long as one of `copy_bytes`.
    pub(crate) fn room(&self, places: &Places, copy_bytes: u64) -> Vec<IoOp> {
        let index = Places::offset(places.wanted());
        let copy = (2 * copy_bytes + LEAST_COPY_BYTES).next_multiple_of(BLOCK);
        let index = self.index.iter().map(|file| (file, index));
        let files = index.chain(self.copies.iter().map(|file| (file, copy)));
        files
            .map(|(file, length)| IoOp::Allocate {
                file: Arc::clone(file),
                length,
            })
            .collect()
    }
}

/// A copy's file is at least so long.
const LEAST_COPY_BYTES: u64 = 64 << 10;

/// The files and the checkpoint under way.
pub(crate) struct Checkpoint {
    files: CheckpointFiles,
    generation: u64,
    places: Places,
    /// Leaves that are written at a time.
    step: usize,
    phase: CheckpointPhase,
    under_way: BTreeMap<u64, IoOp>,
    /// Writes for which the disk had no room: nothing that a checkpoint names is lost by them, and they are tried again.
    waiting: Vec<IoOp>,
    try_at: Option<Monotonic>,
}

/// After so long a write is tried again for which the disk had no room.
const TRY_AFTER: Duration = Duration::from_millis(500);

enum CheckpointPhase {
    Idle,
    /// Bytes that are only in the journal below this record must be moved first, among others of this chunk.
    Draining {
        cut: Lsn,
        waits_for: Option<ChunkId>,
    },
    Leaves(Box<Sweep>),
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

struct Sweep {
    cut: Lsn,
    copy: CheckpointEncoder,
    /// Where it goes on; `None`: all leaves were seen.
    from: Option<ChunkId>,
    /// Writes or syncs of the files of the index that have not come back.
    under_way: usize,
    has_written: bool,
    is_syncing: bool,
}

impl Checkpoint {
    /// The next one is written to the first of the copies first, with a generation above `generation`.
    pub(crate) fn new(files: CheckpointFiles, generation: u64, places: Places, step_bytes: usize) -> Self {
        Self {
            step: (step_bytes.min(PIECE) / LEAF_BYTES).max(1),
            files,
            generation,
            places,
            phase: CheckpointPhase::Idle,
            under_way: BTreeMap::new(),
            waiting: Vec::new(),
            try_at: None,
        }
    }

    fn request(&mut self, op: IoOp, work: &mut DiskWork) {
        let token = work.request(IoClass::Foreground, op.clone(), DiskTask::Checkpoint);
        self.under_way.insert(token, op);
    }

    /// A write or sync has ended: which.
    pub(crate) fn end(&mut self, token: u64) -> Option<IoOp> {
        self.under_way.remove(&token)
    }

    /// The disk had no room for it: it is tried again. False if it is no write.
    pub(crate) fn wait_for_room(&mut self, op: Option<IoOp>, now: Monotonic) -> bool {
        let Some(op) = op.filter(|op| matches!(op, IoOp::Write { .. })) else {
            return false;
        };
        self.waiting.push(op);
        self.try_at.get_or_insert(now.plus(TRY_AFTER));
        true
    }

    /// Tries writes again for which the disk had no room, when it is time.
    pub(crate) fn try_again(&mut self, now: Monotonic, work: &mut DiskWork) {
        if self.try_at.is_some_and(|at| at <= now) {
            self.try_at = None;
            for op in std::mem::take(&mut self.waiting) {
                self.request(op, work);
            }
        }
    }

    /// When writes are tried again.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.try_at
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
                self.phase = draining(cut);
            }
        }
    }

    /// Wants one now.
    pub(crate) fn begin(&mut self, journal: &Journal) {
        if self.is_idle() {
            let cut = journal.durable_end();
            self.phase = draining(cut);
        }
    }

    /// Begins to write, if a checkpoint is wanted and everything is where it must be. Otherwise, if one is wanted,
    /// `Some(true)`: bytes must be moved first. `Some(false)`: it was begun.
    pub(crate) fn run(
        &mut self,
        me: DiskRef,
        index: &mut Index,
        active: &ActiveChunks,
        next_arena: u32,
        pool: &BufferPool,
        work: &mut DiskWork,
    ) -> Option<bool> {
        let CheckpointPhase::Draining { cut, waits_for } = &mut self.phase else {
            return None;
        };
        let cut = *cut;
        // All are looked at once more when the one is ready that was not.
        let known = waits_for.filter(|chunk| !is_told(index, active, *chunk, cut));
        *waits_for = known.or_else(|| first_untold(index, active, cut));
        if waits_for.is_some() {
            return Some(true);
        }
        self.generation += 1;
        let head = CheckpointHead {
            generation: self.generation,
            me,
            replay_from: cut,
            floor: index.floor(),
            next_arena,
        };
        self.phase = CheckpointPhase::Leaves(Box::new(Sweep {
            cut,
            copy: tell_unsettled(head, index, active),
            from: Some(ChunkId(0)),
            under_way: 0,
            has_written: false,
            is_syncing: false,
        }));
        self.go_on(index, pool, work);
        Some(false)
    }

    /// Bytes that the files of the index take.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.places.file_bytes()
    }

    /// Goes on with the leaves, and behind them with the first copy.
    fn go_on(&mut self, index: &mut Index, pool: &BufferPool, work: &mut DiskWork) {
        let CheckpointPhase::Leaves(sweep) = &mut self.phase else {
            return;
        };
        if sweep.under_way > 0 {
            return;
        }
        let mut ops = Vec::new();
        for (offset, bytes) in sweep.write_leaves(index, &mut self.places, self.step, pool) {
            ops.extend(self.files.index.iter().map(|file| IoOp::Write {
                file: Arc::clone(file),
                offset,
                parts: vec![bytes.clone()],
            }));
            sweep.has_written = true;
        }
        if ops.is_empty() && sweep.has_written && !sweep.is_syncing {
            sweep.is_syncing = true;
            ops.extend(self.files.index.iter().map(|file| IoOp::Sync {
                file: Arc::clone(file),
            }));
        }
        sweep.under_way = ops.len();
        if !ops.is_empty() {
            ops.into_iter().for_each(|op| self.request(op, work));
            return;
        }
        if let CheckpointPhase::Leaves(sweep) = std::mem::replace(&mut self.phase, CheckpointPhase::Idle) {
            self.phase = CheckpointPhase::Writing {
                cut: sweep.cut,
                bytes: sweep.copy.finish(),
                copy: 0,
                at: 0,
            };
            self.write_piece(work);
        }
    }

    fn write_piece(&mut self, work: &mut DiskWork) {
        let CheckpointPhase::Writing { bytes, copy, at, .. } = &self.phase else {
            return;
        };
        let (copy, at) = (*copy, *at);
        let piece = bytes.slice(at..bytes.len().min(at + PIECE));
        let file = Arc::clone(&self.files.copies[copy]);
        let op = IoOp::Write {
            file,
            offset: at as u64,
            parts: vec![piece],
        };
        self.request(op, work);
    }

    /// A write or sync has succeeded. When both copies are durable: the journal below this record is superfluous.
    pub(crate) fn on_io(&mut self, index: &mut Index, pool: &BufferPool, work: &mut DiskWork) -> Option<Lsn> {
        match std::mem::replace(&mut self.phase, CheckpointPhase::Idle) {
            CheckpointPhase::Leaves(mut sweep) => {
                sweep.under_way -= 1;
                self.phase = CheckpointPhase::Leaves(sweep);
                self.go_on(index, pool, work);
            }
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
                let file = Arc::clone(&self.files.copies[copy]);
                self.phase = CheckpointPhase::Syncing { cut, bytes, copy };
                self.request(IoOp::Sync { file }, work);
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
            CheckpointPhase::Syncing { cut, bytes, .. } => {
                self.places.made();
                for op in self.files.room(&self.places, bytes.len() as u64) {
                    self.request(op, work);
                }
                self.places.grown(self.places.wanted());
                return Some(cut);
            }
            other => self.phase = other,
        }
        None
    }
}

impl Sweep {
    /// Goes on until `step` leaves are to be written: what goes where, in both files.
    fn write_leaves(
        &mut self,
        index: &mut Index,
        places: &mut Places,
        step: usize,
        pool: &BufferPool,
    ) -> Vec<(u64, Bytes)> {
        let mut changed: Vec<u32> = Vec::new();
        let mut buffer = pool.take(step * LEAF_BYTES);
        while changed.len() < step
            && let Some(from) = self.from
        {
            let Some((first, leaf, next)) = index.sweep(from) else {
                self.from = None;
                break;
            };
            let kept = leaf.image().inspect(|image| places.keep(image.place));
            let image = kept.unwrap_or_else(|| {
                let place = places.take();
                let at = changed.len() * LEAF_BYTES;
                changed.push(place);
                let checksum = leaf.encode(&mut buffer[at..at + LEAF_BYTES]);
                LeafImage { place, checksum }
            });
            leaf.set_image(image);
            self.copy.leaf(first, image);
            self.from = next;
        }
        let bytes = buffer.freeze();
        // Places in a row are written at once.
        let mut at = 0;
        let runs = changed.chunk_by(|one, two| one + 1 == *two);
        runs.map(|run| {
            let start = at;
            at += run.len() * LEAF_BYTES;
            (Places::offset(run[0]), bytes.slice(start..at))
        })
        .collect()
    }
}

fn draining(cut: Lsn) -> CheckpointPhase {
    CheckpointPhase::Draining { cut, waits_for: None }
}

/// The first chunk that cannot be told without what the journal says below `cut`.
fn first_untold(index: &Index, active: &ActiveChunks, cut: Lsn) -> Option<ChunkId> {
    let active_ids = active.iter().map(|(chunk, _)| *chunk);
    active_ids
        .chain(index.deleting())
        .find(|chunk| !is_told(index, active, *chunk, cut))
}

/// True if the chunk can be told without what the journal says below `cut`.
fn is_told(index: &Index, active: &ActiveChunks, chunk: ChunkId, cut: Lsn) -> bool {
    let Some(entry) = index.get(chunk) else {
        return true;
    };
    match active.get(chunk) {
        Some(live) => live.recorded && is_ready(live, &entry, cut),
        // Its delete is on its way: it must be whole without what was in memory.
        None => entry.is_settled() || entry.state == EntryState::Marker,
    }
}

/// True if the chunk can be told without what the journal says of it below `cut`.
fn is_ready(live: &ActiveChunk, entry: &IndexEntry, cut: Lsn) -> bool {
    match entry.state {
        EntryState::Sealed => entry.is_settled() || live.journal_from.is_some_and(|from| from >= cut),
        EntryState::Marker => true,
        EntryState::Open | EntryState::Fenced => {
            let stored = entry.stored.max(live.stored.min(whole_blocks(entry.length)));
            let sums = live.sums.len() as u64 >= entry.length / BLOCK;
            sums && live.durable_from(stored, entry.length).is_some()
        }
    }
}

fn tell_unsettled(head: CheckpointHead, index: &Index, active: &ActiveChunks) -> CheckpointEncoder {
    let mut encoder = CheckpointEncoder::new(head);
    for (chunk, entry) in index.unsettled() {
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
    encoder
}

fn whole_blocks(length: u64) -> u64 {
    length / BLOCK * BLOCK
}
