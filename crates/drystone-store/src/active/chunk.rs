//! What is in memory of a chunk that is not sealed, or sealed but not moved to its runs.

use super::buffer::ChunkBuffer;
use crate::class::IoClass;
use crate::format::{BLOCK, Runs};
use crate::held::Sealed;
use crate::input::RequestId;
use bytes::Bytes;
use drystone_types::{Epoch, PlacementIndex};
use drystone_wal::Lsn;
use std::collections::{BTreeMap, VecDeque};

/// Where an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpStage {
    Start,
    /// A block in the runs is read to cut it.
    Cut,
    /// Waits for writes to the runs.
    Writes,
    /// Waits for the syncs of its arenas.
    Syncing,
    /// Waits for the journal.
    Journal,
    /// The record is durable.
    Durable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChunkOpKind {
    /// Space for the chunk; everything up to `end` is received.
    Space { end: u64 },
    /// Everything up to `end` durable.
    Sync { end: u64 },
    /// Immutable at `length`.
    Seal {
        length: u64,
        expect: Option<u32>,
        epoch: Epoch,
        as_append: bool,
    },
    /// No appends any more.
    Fence { epoch: Epoch },
}

/// A request that waits for durability, or for space. Those of a chunk are done one after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChunkOp {
    pub(crate) request: RequestId,
    pub(crate) kind: ChunkOpKind,
    pub(crate) stage: OpStage,
    /// The length that it makes durable, fixed when it starts.
    pub(crate) target: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ActiveChunk {
    /// Tells a chunk from one of the same id that was deleted.
    pub(crate) id: u64,
    pub(crate) placement: PlacementIndex,
    pub(crate) epoch: Epoch,
    /// How long it can become.
    pub(crate) max_bytes: u64,
    /// Of its writes.
    pub(crate) io_class: IoClass,
    /// Until it is sealed, space for all that it can become.
    pub(crate) runs: Option<Runs>,
    /// Takes no appends: fenced, or being sealed.
    pub(crate) stopped: bool,
    pub(crate) fenced: bool,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) received: u64,
    /// Of whole blocks below `received`.
    pub(crate) sums: Vec<u32>,
    /// Of the partial block at the end of a chunk of this length, when it is not in memory.
    pub(crate) cut_sum: Option<(u64, u32)>,
    /// What is not on its way to the runs. Begins at a block, holds the partial block at the end.
    pub(crate) buffer: ChunkBuffer,
    /// Below this everything is durable in the runs.
    pub(crate) stored: u64,
    /// Below this everything is durable, in the runs or the journal.
    pub(crate) durable: u64,
    /// How many of `sums` the journal knows.
    pub(crate) sums_logged: usize,
    /// Writes to the runs under way: token to (start, end) in the chunk.
    pub(crate) writes: BTreeMap<u64, (u64, u64)>,
    pub(crate) writing_bytes: u64,
    /// Where the tail is, or will be, in the runs.
    pub(crate) tail_at: u64,
    /// The syncs that its first operation waits for: arena and number.
    pub(crate) syncs: Vec<(u32, u64)>,
    pub(crate) ops: VecDeque<ChunkOp>,
    /// A journal record speaks of it, durable or on its way.
    pub(crate) recorded: bool,
    /// The first record that holds bytes of it which are not durable in the runs.
    pub(crate) journal_from: Option<Lsn>,
    /// The durable bytes behind the last whole block of `durable`: the block may go to the runs before its end is
    /// known to the journal, and a checkpoint must tell them all the same.
    pub(crate) durable_tail: Bytes,
    /// Of the length that is on its way to being durable.
    pub(crate) next_tail: Bytes,
    /// What it counts in the store's memory.
    pub(crate) accounted: u64,
    /// Reads that wait until what they read is written.
    pub(crate) waiting_reads: Vec<u64>,
}

impl ActiveChunk {
    pub(crate) fn new(id: u64, placement: PlacementIndex, epoch: Epoch, max_bytes: u64) -> Self {
        Self {
            id,
            placement,
            epoch,
            max_bytes,
            io_class: IoClass::Foreground,
            runs: None,
            stopped: false,
            fenced: false,
            sealed: None,
            received: 0,
            sums: Vec::new(),
            cut_sum: None,
            buffer: ChunkBuffer::default(),
            stored: 0,
            durable: 0,
            sums_logged: 0,
            writes: BTreeMap::new(),
            writing_bytes: 0,
            tail_at: 0,
            syncs: Vec::new(),
            ops: VecDeque::new(),
            recorded: false,
            journal_from: None,
            durable_tail: Bytes::new(),
            next_tail: Bytes::new(),
            accounted: 0,
            waiting_reads: Vec::new(),
        }
    }

    /// Takes bytes at the end; `checksums` are those of the 4 KiB pieces of `data`.
    pub(crate) fn push(&mut self, data: Bytes, checksums: &[u32]) {
        let block = BLOCK as usize;
        let partial = (self.received % BLOCK) as usize;
        if partial == 0 {
            self.sums.extend_from_slice(&checksums[..data.len() / block]);
        } else {
            let fill = (block - partial).min(data.len());
            if partial + fill == block {
                let tail = self.buffer.slice(self.received - partial as u64, self.received);
                let sum = tail.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part));
                self.sums.push(crc32c::crc32c_append(sum, &data[..fill]));
                self.sums
                    .extend(data[fill..].chunks_exact(block).map(crc32c::crc32c));
            }
        }
        self.received += data.len() as u64;
        self.buffer.push(data);
    }

    /// The checksum of the partial block at the end, if there is one.
    pub(crate) fn tail_sum(&self) -> Option<u32> {
        self.tail_sum_at(self.received)
    }

    /// The checksum of the partial block at `length`, if there is one and it is known.
    fn tail_sum_at(&self, length: u64) -> Option<u32> {
        let start = length / BLOCK * BLOCK;
        if start == length {
            return None;
        }
        let known = self.cut_sum.filter(|(of, _)| *of == length).map(|(_, sum)| sum);
        known.or_else(|| {
            let here = self.buffer.start <= start && length <= self.buffer.end();
            here.then(|| {
                let tail = self.buffer.slice(start, length);
                tail.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part))
            })
        })
    }

    /// The checksums of all blocks of the first `length` bytes, the partial one too.
    pub(crate) fn sums_at(&self, length: u64) -> Vec<u32> {
        let whole = (length / BLOCK) as usize;
        self.sums
            .iter()
            .take(whole)
            .copied()
            .chain(self.tail_sum_at(length))
            .collect()
    }

    /// The checksums of all blocks, the partial one too.
    pub(crate) fn all_sums(&self) -> Vec<u32> {
        self.sums_at(self.received)
    }

    /// True if writes to the runs below `end` are under way.
    pub(crate) fn is_writing_below(&self, end: u64) -> bool {
        self.writes.values().any(|(start, _)| *start < end)
    }

    /// A copy of the bytes of the partial block before `end`, which must be in memory. At most 4 KiB.
    pub(crate) fn copy_tail(&self, end: u64) -> Bytes {
        self.buffer.slice(end / BLOCK * BLOCK, end).concat().into()
    }

    /// Durable bytes from `from` on, if they are all in memory.
    pub(crate) fn durable_from(&self, from: u64, length: u64) -> Option<Vec<Bytes>> {
        if from >= length {
            return Some(Vec::new());
        }
        if self.buffer.start <= from && self.buffer.end() >= length {
            return Some(self.buffer.slice(from, length));
        }
        let tail = from == length / BLOCK * BLOCK && self.durable_tail.len() as u64 == length - from;
        tail.then(|| vec![self.durable_tail.clone()])
    }

    pub(crate) fn memory(&self) -> u64 {
        self.buffer.len() + self.writing_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_do_not_depend_on_how_the_bytes_came() {
        let data: Vec<u8> = (0..20_000u32).map(|i| ((i * 31) >> 2) as u8).collect();
        let whole = drystone_proto::checksum::block_checksums(&data);
        for step in [1, 100, 4095, 4096, 4097, 9000] {
            let mut live = ActiveChunk::new(1, PlacementIndex(1), Epoch::FIRST, 65_536);
            for part in data.chunks(step) {
                let sums = drystone_proto::checksum::block_checksums(part);
                live.push(Bytes::copy_from_slice(part), &sums);
            }
            assert_eq!(live.all_sums(), whole, "{step}");
        }
    }
}
