//! What the journal says on top of the checkpoint.

use crate::checkpoint::CheckpointImage;
use crate::format::{BLOCK, Runs};
use crate::index::{EntryState, Index, IndexEntry, Leaf};
use crate::journal::JournalRecord;
use bytes::Bytes;
use drystone_types::ChunkId;
use drystone_wal::Lsn;
use std::collections::BTreeMap;

/// What replay knows of a chunk that is not (wholly) in its runs.
#[derive(Default)]
pub(super) struct ReplayedPart {
    pub(super) sums: Vec<u32>,
    /// Begins at `start`, without gaps.
    pub(super) data: Vec<Bytes>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Bytes that are known to be durable in the runs, also beyond what the record at hand says of the length.
    stored: u64,
    pub(super) from: Option<Lsn>,
}

impl ReplayedPart {
    /// Takes bytes at `offset`; what is here already stays.
    fn add(&mut self, offset: u64, data: &Bytes, stored: u64, lsn: Lsn) {
        let end = offset + data.len() as u64;
        if self.data.is_empty() {
            // Earlier bytes than those in the runs are not needed; whole blocks are kept.
            let start = offset.max((stored / BLOCK * BLOCK).min(end));
            (self.start, self.end) = (start, start);
        }
        if offset <= self.end && end > self.end {
            // A pooled buffer of a whole batch must not live as long as the chunk is open.
            self.data
                .push(Bytes::copy_from_slice(&data[(self.end - offset) as usize..]));
            self.end = end;
            self.from = self.from.or(Some(lsn));
        }
    }
}

pub(super) struct JournalReplay {
    pub(super) index: Index,
    pub(super) parts: BTreeMap<ChunkId, ReplayedPart>,
    pub(super) floor: ChunkId,
    /// Above every number that an arena was given.
    pub(super) next_arena: u32,
    from: Lsn,
    pub(super) records: u64,
}

impl JournalReplay {
    pub(super) fn new(image: CheckpointImage, leaves: Vec<(ChunkId, Leaf)>, leaf_bytes: usize) -> Self {
        let index = Index::load(leaf_bytes, leaves, image.entries);
        let mut parts = BTreeMap::new();
        for (chunk, open) in image.open {
            // Its leaf was written later than this, and may have it sealed.
            let entry = index.get(chunk).filter(|e| e.state != EntryState::Sealed);
            let Some(stored) = entry.map(|e| e.stored) else {
                continue;
            };
            let mut part = ReplayedPart {
                sums: open.sums,
                start: stored,
                end: stored,
                ..ReplayedPart::default()
            };
            if !open.data.is_empty() {
                // These bytes are in no record: whoever asks how far back the journal is needed for them is told
                // further than it goes, so that the next checkpoint waits until they are moved.
                part.add(stored, &open.data, stored, Lsn(0));
            }
            parts.insert(chunk, part);
        }
        Self {
            index,
            parts,
            floor: image.floor,
            next_arena: image.next_arena,
            from: image.replay_from,
            records: 0,
        }
    }

    pub(super) fn visit(&mut self, lsn: Lsn, bytes: &Bytes) -> Result<(), String> {
        if lsn < self.from {
            return Ok(());
        }
        self.records += 1;
        match JournalRecord::decode(bytes).ok_or("it is no journal record")? {
            JournalRecord::Floor { floor } => self.floor = self.floor.max(floor),
            JournalRecord::Delete { chunk, placement } => {
                if self.index.get(chunk).is_some_and(|e| e.placement <= placement) {
                    self.index.put(chunk, None);
                    self.parts.remove(&chunk);
                }
            }
            JournalRecord::Replica {
                chunk,
                entry,
                first,
                sums,
                offset,
                data,
            } => {
                self.replica(lsn, chunk, entry, first, &sums, offset, &data)?;
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn replica(
        &mut self,
        lsn: Lsn,
        chunk: ChunkId,
        mut entry: IndexEntry,
        first: u32,
        sums: &[u32],
        offset: u64,
        data: &[Bytes],
    ) -> Result<(), String> {
        // An arena may have come and gone since the checkpoint: its number is not given again.
        for run in entry.runs.iter().flat_map(Runs::as_slice) {
            self.next_arena = self.next_arena.max(run.arena + 1);
        }
        match self.index.get(chunk) {
            // A record from before what the checkpoint knows: the chunk was deleted and placed again.
            Some(old) if old.placement > entry.placement => return Ok(()),
            Some(old) if old.placement == entry.placement => {
                // The checkpoint may know more than this record, whose length must not take that back.
                let part = self.parts.entry(chunk).or_default();
                part.stored = part.stored.max(old.stored);
                entry.stored = entry.stored.max(part.stored.min(entry.length));
                entry.epoch = entry.epoch.max(old.epoch);
                // The checkpoint may be newer than this record; no record takes a seal back.
                if old.state == EntryState::Sealed && entry.state != EntryState::Sealed {
                    let kept = IndexEntry {
                        epoch: entry.epoch,
                        ..old
                    };
                    self.harvest(lsn, chunk, offset, data, kept.stored);
                    self.index.put(chunk, Some(kept));
                    return Ok(());
                }
            }
            _ => {
                self.parts.remove(&chunk);
            }
        }
        let part = self.parts.entry(chunk).or_default();
        // Checksums before these can be missing only if the checkpoint knew that the chunk was deleted, which the
        // journal is about to say; otherwise `adopt` finds too few.
        if first as usize <= part.sums.len() {
            for (i, sum) in sums.iter().enumerate() {
                match part.sums.get_mut(first as usize + i) {
                    Some(place) => *place = *sum,
                    None => part.sums.push(*sum),
                }
            }
        }
        self.harvest(lsn, chunk, offset, data, entry.stored);
        self.index.put(chunk, Some(entry));
        Ok(())
    }

    fn harvest(&mut self, lsn: Lsn, chunk: ChunkId, offset: u64, data: &[Bytes], stored: u64) {
        let part = self.parts.entry(chunk).or_default();
        for piece in data {
            // Everything until here is in the runs: what was gathered before it is not needed.
            if offset > part.end && offset <= stored {
                part.data.clear();
            }
            part.add(offset, piece, stored, lsn);
        }
    }
}
