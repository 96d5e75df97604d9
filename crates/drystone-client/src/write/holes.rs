//! Holes of a file that is written: runs of zeros that are not stored, and how they lie between its extents.
//!
//! Chunks hold the data alone, one after the other; a hole is known by how many bytes of data lie before it.

use super::chunk::SealedPart;
use super::parts::content;
use bytes::Bytes;
use drystone_proto::command::{Content, NewExtent};
use drystone_proto::record::HOLE;

/// Zeros become a hole by whole blocks of this size: two extents in the metadata weigh less.
const BLOCK: usize = 64 << 10;
/// Holes among the data of a chunk: twice as many extents are less than what one command brings (1,024).
const MAX_OF_CHUNK: u32 = 400;
/// Holes of a file: twice as many extents are less than what a file may have (1,000,000).
const MAX_OF_FILE: u32 = 300_000;
/// Extents that are put into one command, unless one chunk alone has more.
const MAX_EXTENTS: usize = 1_000;

/// A piece of what is written, and whether it is all zeros.
pub(super) struct SparsePiece {
    pub(super) data: Bytes,
    pub(super) is_zero: bool,
}

/// Cuts `data` where runs of zeros begin and end.
pub(super) fn pieces(mut data: Bytes) -> Vec<SparsePiece> {
    let mut pieces = Vec::new();
    while !data.is_empty() {
        let is_zero = |block: &[u8]| block.len() == BLOCK && zeros(block);
        let mut blocks = data.chunks(BLOCK);
        let first = blocks.next().is_some_and(is_zero);
        let alike = blocks
            .take_while(|block| is_zero(block) == first)
            .map(<[u8]>::len);
        let length = BLOCK.min(data.len()) + alike.sum::<usize>();
        pieces.push(SparsePiece {
            data: data.split_to(length),
            is_zero: first,
        });
    }
    pieces
}

fn zeros(block: &[u8]) -> bool {
    // Most blocks that are not zero show it at once; the comparison with itself, shifted, is a memcmp.
    block.first() == Some(&0) && block[1..] == block[..block.len() - 1]
}

/// How many holes there are, so that they stay within what the metadata takes: what is beyond is stored as zeros.
#[derive(Default)]
pub(super) struct HoleCount {
    of_file: u32,
    of_chunk: u32,
    last_at: Option<u64>,
}

impl HoleCount {
    /// A chunk begins.
    pub(super) fn chunk_begins(&mut self) {
        self.of_chunk = 0;
    }

    /// True if there may be a hole behind `at` bytes of data; it is counted.
    pub(super) fn takes(&mut self, at: u64) -> bool {
        if self.last_at == Some(at) {
            // The same one goes on.
            return true;
        }
        if self.of_chunk >= MAX_OF_CHUNK || self.of_file >= MAX_OF_FILE {
            return false;
        }
        (self.of_chunk, self.of_file, self.last_at) = (self.of_chunk + 1, self.of_file + 1, Some(at));
        true
    }
}

/// A hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hole {
    /// Bytes of data before it.
    pub(super) at: u64,
    pub(super) length: u64,
}

/// All holes of a file, in order.
#[derive(Default)]
pub(super) struct Holes {
    list: Vec<Hole>,
}

impl Holes {
    /// Behind `at` bytes of data, which is not before the last one.
    pub(super) fn add(&mut self, at: u64, length: u64) {
        match self.list.last_mut() {
            Some(last) if last.at == at => last.length += length,
            last => {
                assert!(last.is_none_or(|last| last.at < at), "holes are met in order");
                self.list.push(Hole { at, length });
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Hole> {
        self.list.iter().copied()
    }

    fn from(&self, at: u64) -> impl Iterator<Item = Hole> {
        let first = self.list.partition_point(|hole| hole.at < at);
        self.list.iter().skip(first).copied()
    }

    /// True if there are any behind `at` bytes of data or more.
    pub(super) fn reach(&self, at: u64) -> bool {
        self.from(at).next().is_some()
    }

    /// What a command brings of `parts`, before which lie `from` bytes of data: with the holes among them, and, if they
    /// are the last ones, those behind.
    pub(super) fn content(&self, parts: &[SealedPart], from: u64, is_last: bool) -> Content {
        let mut extents = Vec::new();
        let mut holes = self.from(from).peekable();
        let hole_of = |hole: Hole| NewExtent {
            length: hole.length,
            chunk: HOLE,
            chunk_offset: 0,
        };
        let mut begin = from;
        for part in parts {
            let (mut at, end) = (begin, begin + part.length);
            let piece = |from: u64, to: u64| NewExtent {
                length: to - from,
                chunk: part.chunk.chunk,
                chunk_offset: from - begin,
            };
            while let Some(hole) = holes.next_if(|hole| hole.at < end) {
                if at < hole.at {
                    extents.push(piece(at, hole.at));
                }
                extents.push(hole_of(hole));
                at = hole.at;
            }
            extents.push(piece(at, end));
            begin = end;
        }
        if is_last {
            extents.extend(holes.map(hole_of));
        }
        Content {
            extents,
            ..content(parts)
        }
    }

    /// How many of `parts`, before which lie `from` bytes of data, go into one command: at most `most`, at least one.
    pub(super) fn batch(&self, parts: &[SealedPart], from: u64, most: usize) -> usize {
        let (mut count, mut extents, mut at) = (0, 0, from);
        for part in parts.iter().take(most) {
            let end = at + part.length;
            extents += 1 + 2 * self.from(at).take_while(|hole| hole.at < end).count();
            if count > 0 && extents > MAX_EXTENTS {
                break;
            }
            (count, at) = (count + 1, end);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_env::Monotonic;
    use drystone_proto::command::{NewChunk, Receipt};
    use drystone_proto::record::ReplicaRecord;

    fn part(chunk: u64, length: u64) -> SealedPart {
        let receipt = Receipt {
            chunk,
            length,
            replica: Some(ReplicaRecord::default()),
            ..Receipt::default()
        };
        SealedPart {
            length,
            chunk: NewChunk {
                chunk,
                receipts: vec![receipt],
                policy: None,
            },
            members: Vec::new(),
            stage_at: Monotonic(0),
        }
    }

    #[test]
    fn data_is_cut_at_whole_blocks_of_zeros() {
        let mut data = vec![0; 5 * BLOCK + 7];
        data[2 * BLOCK + 5] = 1;
        let cut: Vec<(usize, bool)> = pieces(data.into())
            .iter()
            .map(|piece| (piece.data.len(), piece.is_zero))
            .collect();
        // Less than a block of zeros at the end is stored.
        assert_eq!(
            cut,
            [(2 * BLOCK, true), (BLOCK, false), (2 * BLOCK, true), (7, false)]
        );
    }

    #[test]
    fn holes_lie_between_the_extents_of_any_batch() {
        let mut holes = Holes::default();
        for (at, length) in [(0, 100), (5, 50), (5, 1), (10, 7), (30, 9)] {
            holes.add(at, length);
        }
        let parts = [part(1, 10), part(2, 20)];
        let told = |content: Content| -> Vec<(u64, u64, u64)> {
            let extents = content.extents.iter();
            extents
                .map(|extent| (extent.chunk, extent.chunk_offset, extent.length))
                .collect()
        };
        let first = [(0, 0, 100), (1, 0, 5), (0, 0, 51), (1, 5, 5)];
        let second = [(0, 0, 7), (2, 0, 20)];
        assert_eq!(told(holes.content(&parts[..1], 0, false)), first);
        assert_eq!(told(holes.content(&parts[1..], 10, false)), second);
        let last = [(0, 0, 9)];
        assert_eq!(told(holes.content(&[], 30, true)), last);
        let all = [&first[..], &second, &last].concat();
        assert_eq!(told(holes.content(&parts, 0, true)), all);
        assert!(holes.reach(30) && !holes.reach(31));
    }

    #[test]
    fn a_batch_has_no_more_extents_than_a_command_takes() {
        let mut holes = Holes::default();
        (0..800).for_each(|at| holes.add(at, 1));
        let parts: Vec<SealedPart> = (1..=8).map(|chunk| part(chunk, 200)).collect();
        assert_eq!(holes.batch(&parts, 0, 128), 2);
        assert_eq!(holes.batch(&parts, 800, 128), 8);
        assert_eq!(holes.batch(&parts, 800, 3), 3);
        let whole = [part(1, 800)];
        assert_eq!(holes.batch(&whole, 0, 128), 1, "one at least");
    }

    #[test]
    fn the_number_of_holes_is_bounded() {
        let mut count = HoleCount::default();
        assert!((0..u64::from(MAX_OF_CHUNK)).all(|at| count.takes(at)));
        assert!(count.takes(u64::from(MAX_OF_CHUNK) - 1), "it goes on");
        assert!(!count.takes(5_000));
        count.chunk_begins();
        assert!(count.takes(5_000));
    }
}
