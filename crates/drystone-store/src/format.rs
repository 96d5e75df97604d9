//! Arenas: names, units and runs, and the tail of a chunk.
//!
//! An arena `arenas/NNNNNNNN` is a file of whole units of 64 KiB. A chunk owns *runs* of units; its bytes lie in them in
//! order:
//! ```text
//! data: from the first byte on; the last partial block of a sealed chunk is padded with zeros
//! tail: behind the last block of data: 64 bytes + 4 bytes for each 4 KiB block of data, rounded up to 4 KiB; written
//!       once, when it is sealed
//!   0 magic "DTAI"   4 version u16   6 zero 2 bytes
//!   8 chunk u64     16 placement u64   24 disk incarnation u64   32 length u64
//!  40 checksum of the content u32   44 number of block checksums u32   48 zero 12 bytes
//!  60 CRC32C of bytes 0..60 and of the block checksums
//!  64 block checksums u32 ...
//! ```
//! All numbers are little-endian. What a run holds is said by the index; the tail only lets a reader find out that
//! the blocks are another chunk's.

use bytes::Bytes;
use drystone_env::BufferPool;
use drystone_types::{ChunkId, Incarnation, PlacementIndex};
use std::sync::Arc;

/// Bytes of a block.
pub const BLOCK: u64 = 4096;
/// Bytes of a unit, the least that a chunk takes.
pub const UNIT: u64 = 64 << 10;
/// Directory of the arenas.
pub const ARENA_DIRECTORY: &str = "arenas";
/// Directory of the journal.
pub const JOURNAL_DIRECTORY: &str = "journal";
/// The two copies of the checkpoint.
pub const CHECKPOINT_FILES: [&str; 2] = ["checkpoint-a", "checkpoint-b"];
/// The two equal files of the index's leaves.
pub const INDEX_FILES: [&str; 2] = ["index-a", "index-b"];
const MAGIC: [u8; 4] = *b"DTAI";
const VERSION: u16 = 1;
const HEADER: usize = 64;

/// Units in a row in one arena.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Run {
    /// Number of the arena.
    pub arena: u32,
    /// The first unit.
    pub first: u32,
    /// How many; never 0.
    pub units: u32,
}

/// Numbers of arenas are below this.
pub const MOST_ARENAS: u32 = 1 << 26;
/// Units of an arena are fewer than this: 32 GiB.
pub const MOST_UNITS: u32 = 1 << 19;

impl Run {
    /// The unit behind it.
    pub fn end(&self) -> u32 {
        self.first + self.units
    }

    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Where it begins in the arena's file.
    pub fn offset(&self) -> u64 {
        u64::from(self.first) * UNIT
    }

    /// In one word: 26 bits of arena, 19 of first unit, 19 of units.
    pub fn packed(&self) -> u64 {
        u64::from(self.arena) << 38 | u64::from(self.first) << 19 | u64::from(self.units)
    }

    /// From one word; `None` if it is no run.
    pub fn unpacked(word: u64) -> Option<Self> {
        let low = |word: u64| (word & u64::from(MOST_UNITS - 1)) as u32;
        let run = Self {
            arena: (word >> 38) as u32,
            first: low(word >> 19),
            units: low(word),
        };
        (run.units > 0 && run.first + run.units < MOST_UNITS).then_some(run)
    }
}

/// Where a chunk lies: at least one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Runs {
    /// As it is for nearly all chunks.
    One(Run),
    /// On a disk whose free space is in pieces.
    Many(Arc<Vec<Run>>),
}

impl Runs {
    /// Of `runs`; `None` if there are none.
    pub fn of(runs: Vec<Run>) -> Option<Self> {
        match runs[..] {
            [] => None,
            [run] => Some(Runs::One(run)),
            _ => Some(Runs::Many(Arc::new(runs))),
        }
    }

    /// The runs, in the order of the bytes.
    pub fn as_slice(&self) -> &[Run] {
        match self {
            Runs::One(run) => std::slice::from_ref(run),
            Runs::Many(runs) => runs,
        }
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.as_slice().iter().map(Run::bytes).sum()
    }

    /// The first run, which tells these from all others that are owned.
    pub fn first(&self) -> Run {
        self.as_slice()[0]
    }

    /// What `units` units take of these from the beginning, and what is left.
    pub fn split(&self, units: u64) -> (Vec<Run>, Vec<Run>) {
        let (mut kept, mut rest, mut left) = (Vec::new(), Vec::new(), units);
        for run in self.as_slice() {
            let here = left.min(u64::from(run.units)) as u32;
            left -= u64::from(here);
            if here > 0 {
                kept.push(Run { units: here, ..*run });
            }
            if here < run.units {
                rest.push(Run {
                    first: run.first + here,
                    units: run.units - here,
                    ..*run
                });
            }
        }
        (kept, rest)
    }

    /// The pieces of files in which the bytes from `start` to `end` lie: arena, offset, length.
    ///
    /// # Panics
    /// If they are not all inside.
    pub fn pieces(&self, start: u64, end: u64) -> Vec<Piece> {
        assert!(
            start < end && end <= self.bytes(),
            "bytes {start} to {end} are not inside {self:?}"
        );
        let mut at = 0;
        let mut pieces = Vec::with_capacity(1);
        for run in self.as_slice() {
            let (low, high) = (start.max(at), end.min(at + run.bytes()));
            if low < high {
                pieces.push(Piece {
                    arena: run.arena,
                    offset: run.offset() + (low - at),
                    length: high - low,
                });
            }
            at += run.bytes();
        }
        pieces
    }
}

/// Bytes in a row in an arena's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Number of the arena.
    pub arena: u32,
    /// Where in its file.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// Bytes of the tail of a chunk of `length` bytes.
pub fn tail_bytes(length: u64) -> u64 {
    (HEADER as u64 + length.div_ceil(BLOCK) * 4).next_multiple_of(BLOCK)
}

/// Where the tail of a chunk of `length` bytes begins.
pub fn tail_offset(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

/// Units that a chunk of `length` bytes takes when it is sealed.
pub fn units_for(length: u64) -> u64 {
    units_to(tail_offset(length), length)
}

/// Units to the end of the tail of a chunk of `length` bytes that begins at `tail_at`.
pub fn units_to(tail_at: u64, length: u64) -> u64 {
    (tail_at + tail_bytes(length)).div_ceil(UNIT)
}

/// The name of an arena, with its directory.
pub fn arena_name(number: u32) -> String {
    format!("{ARENA_DIRECTORY}/{number:08}")
}

/// The number from a name without its directory.
pub fn parse_arena_name(name: &str) -> Option<u32> {
    let number = name.parse().ok().filter(|number| *number < MOST_ARENAS)?;
    let whole = arena_name(number);
    (whole.strip_prefix(ARENA_DIRECTORY)?.strip_prefix('/')? == name).then_some(number)
}

/// Whose data lies before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// Chunk.
    pub chunk: ChunkId,
    /// Placement.
    pub placement: PlacementIndex,
    /// Formatting of the disk.
    pub incarnation: Incarnation,
    /// Sealed length.
    pub length: u64,
    /// CRC32C of the content.
    pub checksum: u32,
}

impl Tail {
    /// The tail's blocks.
    pub fn encode(&self, sums: &[u32], pool: &BufferPool) -> Bytes {
        let mut buffer = pool.take(tail_bytes(self.length) as usize);
        buffer.fill(0);
        buffer[0..4].copy_from_slice(&MAGIC);
        buffer[4..6].copy_from_slice(&VERSION.to_le_bytes());
        buffer[8..16].copy_from_slice(&self.chunk.0.to_le_bytes());
        buffer[16..24].copy_from_slice(&self.placement.0.to_le_bytes());
        buffer[24..32].copy_from_slice(&self.incarnation.0.to_le_bytes());
        buffer[32..40].copy_from_slice(&self.length.to_le_bytes());
        buffer[40..44].copy_from_slice(&self.checksum.to_le_bytes());
        buffer[44..48].copy_from_slice(&(sums.len() as u32).to_le_bytes());
        for (place, sum) in buffer[HEADER..].chunks_exact_mut(4).zip(sums) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        let end = HEADER + sums.len() * 4;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&buffer[..60]), &buffer[HEADER..end]);
        buffer[60..64].copy_from_slice(&crc.to_le_bytes());
        buffer.freeze()
    }

    /// The block checksums in `bytes` if they are those of exactly this chunk; otherwise (expected, found) CRC.
    ///
    /// # Errors
    /// What the stored and the computed checksum of the tail are; equal if it is sound but of another chunk.
    pub fn decode_sums(&self, bytes: &[u8]) -> Result<Vec<u32>, (u32, u32)> {
        let blocks = self.length.div_ceil(BLOCK) as usize;
        let (Some(header), Some(sums)) = (bytes.get(..HEADER), bytes.get(HEADER..HEADER + blocks * 4)) else {
            return Err((0, 0));
        };
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let stored = word(60);
        let computed = crc32c::crc32c_append(crc32c::crc32c(&header[..60]), sums);
        let same = header[..4] == MAGIC
            && header[4..6] == VERSION.to_le_bytes()
            && long(8) == self.chunk.0
            && long(16) == self.placement.0
            && long(24) == self.incarnation.0
            && long(32) == self.length
            && word(40) == self.checksum
            && word(44) as usize == blocks;
        if stored != computed || !same {
            return Err((stored, computed));
        }
        Ok(sums
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        let name = arena_name(17);
        assert_eq!(parse_arena_name(name.strip_prefix("arenas/").unwrap()), Some(17));
        for bad in ["", "17", "000000170", "+0000017", "0000001x", "99999999"] {
            assert_eq!(parse_arena_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn runs_are_read_back_from_one_word() {
        for run in [(0, 0, 1), (MOST_ARENAS - 1, 5, 7), (3, MOST_UNITS - 2, 1)] {
            let (arena, first, units) = run;
            let run = Run { arena, first, units };
            assert_eq!(Run::unpacked(run.packed()), Some(run));
        }
        for (first, units) in [(0, 0), (MOST_UNITS - 1, 1), (7, MOST_UNITS - 7)] {
            let run = Run {
                arena: 1,
                first,
                units,
            };
            assert_eq!(Run::unpacked(run.packed()), None, "{run:?}");
        }
    }

    #[test]
    fn bytes_lie_in_the_runs_in_order() {
        let run = |arena, first, units| Run { arena, first, units };
        let runs = Runs::of(vec![run(1, 5, 2), run(0, 9, 1), run(1, 0, 3)]).unwrap();
        assert_eq!(runs.bytes(), 6 * UNIT);
        let piece = |arena, offset, length| Piece {
            arena,
            offset,
            length,
        };
        assert_eq!(runs.pieces(0, 10), vec![piece(1, 5 * UNIT, 10)]);
        assert_eq!(
            runs.pieces(2 * UNIT - 3, 3 * UNIT + 4),
            vec![
                piece(1, 7 * UNIT - 3, 3),
                piece(0, 9 * UNIT, UNIT),
                piece(1, 0, 4)
            ]
        );
        assert_eq!(
            runs.split(4),
            (vec![run(1, 5, 2), run(0, 9, 1), run(1, 0, 1)], vec![run(1, 1, 2)])
        );
        assert_eq!(runs.split(6).1, vec![]);
        assert_eq!(Runs::of(Vec::new()), None);
    }

    #[test]
    fn a_chunk_takes_its_blocks_and_its_tail() {
        for (length, units) in [
            (1, 1),
            (60 << 10, 1),
            ((60 << 10) + 1, 2),
            (64 << 10, 2),
            (1 << 20, 17),
            (64 << 20, 1026),
        ] {
            assert_eq!(units_for(length), units, "{length} bytes");
        }
    }

    #[test]
    fn a_tail_is_read_back_and_every_damaged_bit_is_found() {
        let pool = BufferPool::new(1 << 20);
        let tail = Tail {
            chunk: ChunkId(7),
            placement: PlacementIndex(9),
            incarnation: Incarnation(11),
            length: 9000,
            checksum: 13,
        };
        let bytes = tail.encode(&[1, 2, 3], &pool);
        assert_eq!(bytes.len(), 4096);
        assert_eq!(tail.decode_sums(&bytes), Ok(vec![1, 2, 3]));
        let golden = "445441490100000007000000000000000900000000000000\
                      0b0000000000000028230000000000000d00000003000000";
        let text: String = bytes[..48].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(text, golden);
        for bit in 0..(64 + 12) * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(tail.decode_sums(&damaged).is_err(), "bit {bit}");
        }
        let other = Tail {
            chunk: ChunkId(8),
            ..tail
        };
        assert!(other.decode_sums(&bytes).is_err());
        assert!(tail.decode_sums(&bytes[..70]).is_err());
    }
}
