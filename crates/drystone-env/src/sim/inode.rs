//! One file: what is durable of it, and what only the page cache knows.

use crate::rng::{Rng, SeededRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const BLOCK: u64 = 4096;
const SECTOR: usize = 512;
/// Versions of one block that a crash chooses from; a longer history adds nothing that a test would see.
const VERSIONS: usize = 3;

/// `None` is a block of zeros. Copies of a disk share it.
type Block = Option<Arc<Bytes>>;
type Bytes = [u8; BLOCK as usize];

static ZEROS: Bytes = [0; BLOCK as usize];

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) length: u64,
    durable_length: u64,
    durable: BTreeMap<u64, Block>,
    // Written and not synced, oldest version first.
    pending: BTreeMap<u64, Vec<Block>>,
    // What a failed sync has left in the cache: still read, never to become durable.
    ghosts: BTreeMap<u64, Block>,
    // Blocks that cannot be read until they are written again.
    broken: BTreeSet<u64>,
}

fn block_of(bytes: &Bytes) -> Block {
    (bytes != &ZEROS).then(|| Arc::new(*bytes))
}

fn bytes_of(block: &Block) -> &Bytes {
    block.as_deref().unwrap_or(&ZEROS)
}

/// The parts of `offset..offset + length` by block: block number, start within it, length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (block, start) = (at / BLOCK, at % BLOCK);
            let here = (BLOCK - start).min(end - at);
            at += here;
            (block, start as usize, here as usize)
        })
    })
}

impl Inode {
    fn visible(&self, block: u64) -> &Bytes {
        let pending = self.pending.get(&block).and_then(|versions| versions.last());
        let found = pending
            .or_else(|| self.ghosts.get(&block))
            .or_else(|| self.durable.get(&block));
        found.map_or(&ZEROS, bytes_of)
    }

    fn put(&mut self, block: u64, bytes: &Bytes) {
        self.ghosts.remove(&block);
        self.broken.remove(&block);
        let versions = self.pending.entry(block).or_default();
        if versions.len() == VERSIONS {
            versions.remove(0);
        }
        versions.push(block_of(bytes));
    }

    /// True if a block in the range cannot be read.
    pub(super) fn is_broken(&self, offset: u64, length: usize) -> bool {
        parts(offset, length).any(|(block, _, _)| self.broken.contains(&block))
    }

    pub(super) fn break_block(&mut self, block: u64) {
        self.broken.insert(block);
    }

    /// The range must lie within the length.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) {
        let mut at = 0;
        for (block, start, here) in parts(offset, buffer.len()) {
            buffer[at..at + here].copy_from_slice(&self.visible(block)[start..start + here]);
            at += here;
        }
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        let mut at = 0;
        for (block, start, here) in parts(offset, data.len()) {
            let data = &data[at..at + here];
            at += here;
            if let Ok(whole) = data.try_into() {
                self.put(block, whole);
            } else {
                let mut bytes = *self.visible(block);
                bytes[start..start + here].copy_from_slice(data);
                self.put(block, &bytes);
            }
        }
        self.length = self.length.max(offset + data.len() as u64);
    }

    pub(super) fn truncate(&mut self, length: u64) {
        if length < self.length {
            let first = length / BLOCK;
            let touched: BTreeSet<u64> = self
                .durable
                .keys()
                .chain(self.pending.keys())
                .copied()
                .filter(|block| *block >= first)
                .collect();
            for block in touched {
                let mut bytes = *self.visible(block);
                let keep = if block == first {
                    (length % BLOCK) as usize
                } else {
                    0
                };
                bytes[keep..].fill(0);
                self.put(block, &bytes);
            }
        }
        self.length = length;
    }

    pub(super) fn sync(&mut self) {
        for (block, mut versions) in std::mem::take(&mut self.pending) {
            self.durable.insert(block, versions.pop().flatten());
        }
        self.durable_length = self.length;
    }

    /// A sync that failed: each block may have reached the disk or not. What did not is never tried again; whether
    /// the cache still shows it is chance.
    pub(super) fn sync_failed(&mut self, rng: &mut SeededRng) {
        let evicted = rng.chance(1, 2);
        for (block, mut versions) in std::mem::take(&mut self.pending) {
            let last = versions.pop().flatten();
            if rng.chance(1, 2) {
                self.durable.insert(block, last);
            } else if !evicted {
                self.ghosts.insert(block, last);
            }
        }
    }

    /// Power is lost: of what was not synced any subset stays, torn at sectors.
    pub(super) fn crash(&mut self, rng: &mut SeededRng) {
        // Some crashes keep nearly all, some nearly nothing: otherwise long writes never survive whole.
        let keep_percent = [0, 5, 50, 95, 100][rng.below(5) as usize];
        self.ghosts.clear();
        for (block, versions) in std::mem::take(&mut self.pending) {
            if rng.chance(1, 16) {
                let mut torn = *self.durable.get(&block).map_or(&ZEROS, bytes_of);
                let new = versions.last().map_or(&ZEROS, bytes_of);
                for (old, new) in torn.chunks_mut(SECTOR).zip(new.chunks(SECTOR)) {
                    if rng.chance(1, 2) {
                        old.copy_from_slice(new);
                    }
                }
                self.durable.insert(block, block_of(&torn));
            } else if rng.chance(keep_percent, 100) {
                // Mostly the newest version, sometimes one that it replaced.
                let back = if rng.chance(1, 8) {
                    rng.below(versions.len() as u64) as usize
                } else {
                    0
                };
                let kept = versions.into_iter().rev().nth(back).flatten();
                self.durable.insert(block, kept);
            }
        }
        if self.length != self.durable_length && rng.chance(1, 2) {
            self.durable_length = self.length;
        }
        self.length = self.durable_length;
        self.cut();
    }

    /// Nothing lies beyond the length, so that a later extension reads as zeros.
    fn cut(&mut self) {
        let (whole, rest) = (self.length.div_ceil(BLOCK), (self.length % BLOCK) as usize);
        self.durable.split_off(&whole);
        if rest > 0
            && let Some(Some(last)) = self.durable.get_mut(&(whole - 1))
        {
            Arc::make_mut(last)[rest..].fill(0);
        }
    }

    /// Changes a bit wherever it is held.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let (block, at) = (offset / BLOCK, (offset % BLOCK) as usize);
        let flip = |held: &mut Block| {
            let mut bytes = *bytes_of(held);
            bytes[at] ^= 1 << bit;
            *held = block_of(&bytes);
        };
        flip(self.durable.entry(block).or_default());
        self.ghosts.get_mut(&block).into_iter().for_each(flip);
        self.pending.get_mut(&block).into_iter().flatten().for_each(flip);
    }

    /// Blocks that are not durable.
    pub(super) fn unsynced(&self) -> u64 {
        self.pending.len() as u64
    }
}
