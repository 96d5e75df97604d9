//! Which chunks are to be moved from the journal to their runs, and the batch under way.

use crate::config::StoreConfig;
use crate::format::Runs;
use drystone_env::Monotonic;
use drystone_types::ChunkId;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Default)]
pub(crate) struct Mover {
    waiting: BTreeMap<ChunkId, u64>,
    waiting_bytes: u64,
    due: Option<Monotonic>,
    /// So many chunks were waiting when a batch began of those that were due: they are next.
    overdue: usize,
    pub(super) batch: Vec<MovedChunk>,
    /// Tokens of the batch's writes under way.
    pub(super) writes: BTreeSet<u64>,
    /// The batch's syncs, once its writes are done: arena and number of each.
    pub(super) syncs: Option<Vec<(u32, u64)>>,
    /// A checkpoint waits.
    urged: bool,
}

/// A chunk in the batch.
pub(crate) struct MovedChunk {
    pub(crate) chunk: ChunkId,
    pub(super) live: u64,
    pub(super) runs: Runs,
    /// What of them is written.
    pub(super) written: (u64, u64),
    /// Durable in the runs when the batch is done.
    pub(super) end: u64,
    pub(super) sealed: bool,
}

impl Mover {
    /// `bytes` of the chunk are durable in the journal only.
    pub(crate) fn add(&mut self, now: Monotonic, config: &StoreConfig, chunk: ChunkId, bytes: u64) {
        let old = self.waiting.insert(chunk, bytes).unwrap_or(0);
        self.waiting_bytes = self.waiting_bytes + bytes - old;
        self.due.get_or_insert(now.plus(config.move_after));
    }

    /// The next chunk to move.
    pub(super) fn pop(&mut self) -> Option<ChunkId> {
        let (chunk, bytes) = self.waiting.pop_first()?;
        self.waiting_bytes -= bytes;
        Some(chunk)
    }

    /// True if a batch should begin.
    pub(super) fn wants_batch(&self, now: Monotonic, config: &StoreConfig) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        let wanted = due || self.overdue > 0 || self.urged || self.waiting_bytes >= config.move_bytes;
        wanted && !self.waiting.is_empty()
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, now: Monotonic, config: &StoreConfig, batch: Vec<MovedChunk>) {
        // Those that one batch has no room for were due with it; who comes later waits its time.
        self.overdue = match self.due.is_some_and(|due| due <= now) {
            true => self.waiting.len(),
            false => self.overdue.saturating_sub(batch.len()).min(self.waiting.len()),
        };
        self.due = (!self.waiting.is_empty()).then(|| now.plus(config.move_after));
        self.batch = batch;
        self.syncs = None;
    }

    /// A write to runs has ended.
    pub(crate) fn written(&mut self, token: u64) {
        self.writes.remove(&token);
    }

    /// A checkpoint waits until everything is moved, or no longer.
    pub(crate) fn urge(&mut self, urged: bool) {
        self.urged = urged;
    }

    /// When the next batch begins; the end of the one under way is heard of without being woken.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.due.filter(|_| self.batch.is_empty())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.waiting.is_empty()
    }
}
