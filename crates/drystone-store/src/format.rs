//! Slot files: names, geometry, and the head of a slot.
//!
//! A slot file `slots/CLASS-NNNNNNNN` holds slots of one class one behind another. A slot is
//! ```text
//! head: 64 bytes + 4 bytes for each 4 KiB block of data, rounded up to 4 KiB; written once, when it is sealed
//!   0 magic "DSLT"   4 version u16   6 class u8   7 zero
//!   8 chunk u64     16 placement u64   24 disk incarnation u64   32 length u64
//!  40 checksum of the content u32   44 number of block checksums u32   48 zero 12 bytes
//!  60 CRC32C of bytes 0..60 and of the block checksums
//!  64 block checksums u32 ...
//! data: the class's bytes; the last partial block of a sealed chunk is padded with zeros
//! ```
//! All numbers are little-endian. What a slot holds is said by the index; the head only lets a reader find out that
//! the blocks are another chunk's.

use bytes::Bytes;
use drystone_env::BufferPool;
use drystone_types::{ChunkId, Incarnation, PlacementIndex, SizeClass};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;
/// Directory of the slot files.
pub const SLOT_DIRECTORY: &str = "slots";
/// Directory of the journal.
pub const JOURNAL_DIRECTORY: &str = "journal";
/// The two copies of the checkpoint.
pub const CHECKPOINT_FILES: [&str; 2] = ["checkpoint-a", "checkpoint-b"];
const MAGIC: [u8; 4] = *b"DSLT";
const VERSION: u16 = 1;
const HEADER: usize = 64;

/// A place for one chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlotRef {
    /// Its class.
    pub class: SizeClass,
    /// Number of the file among those of the class.
    pub file: u32,
    /// Place in the file.
    pub index: u32,
}

impl SlotRef {
    /// Where the head is in the file.
    pub fn head_offset(&self) -> u64 {
        u64::from(self.index) * slot_bytes(self.class)
    }

    /// Where the data begins in the file.
    pub fn data_offset(&self) -> u64 {
        self.head_offset() + head_bytes(self.class, self.class.bytes())
    }
}

/// Bytes of the head that `length` bytes of data need.
fn head_need(length: u64) -> u64 {
    (HEADER as u64 + length.div_ceil(BLOCK) * 4).next_multiple_of(BLOCK)
}

/// Bytes from the start of the head that hold the checksums of `length` bytes.
pub fn head_bytes(class: SizeClass, length: u64) -> u64 {
    head_need(length.min(class.bytes()))
}

/// Bytes of a slot in its file.
pub fn slot_bytes(class: SizeClass) -> u64 {
    head_need(class.bytes()) + class.bytes()
}

fn class_name(class: SizeClass) -> &'static str {
    match class {
        SizeClass::K64 => "64k",
        SizeClass::M1 => "1m",
        SizeClass::M8 => "8m",
        SizeClass::M64 => "64m",
    }
}

/// The name of a slot file, with its directory.
pub fn slot_file_name(class: SizeClass, file: u32) -> String {
    format!("{SLOT_DIRECTORY}/{}-{file:08}", class_name(class))
}

/// Class and number from a name without its directory.
pub fn parse_slot_file_name(name: &str) -> Option<(SizeClass, u32)> {
    let (class, number) = name.split_once('-')?;
    let class = SizeClass::ALL.into_iter().find(|c| class_name(*c) == class)?;
    let parsed = number.parse().ok()?;
    (slot_file_name(class, parsed)
        .strip_prefix(SLOT_DIRECTORY)?
        .strip_prefix('/')?
        == name)
        .then_some((class, parsed))
}

/// Whose data a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
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

impl Head {
    /// The head's blocks.
    pub fn encode(&self, class: SizeClass, sums: &[u32], pool: &BufferPool) -> Bytes {
        let mut buffer = pool.take(head_bytes(class, self.length) as usize);
        buffer.fill(0);
        buffer[0..4].copy_from_slice(&MAGIC);
        buffer[4..6].copy_from_slice(&VERSION.to_le_bytes());
        buffer[6] = class.number() as u8;
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
    /// What the stored and the computed checksum of the head are; equal if it is sound but of another chunk.
    pub fn decode_sums(&self, class: SizeClass, bytes: &[u8]) -> Result<Vec<u32>, (u32, u32)> {
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
            && u32::from(header[6]) == class.number()
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
        for class in SizeClass::ALL {
            let name = slot_file_name(class, 17);
            assert_eq!(
                parse_slot_file_name(name.strip_prefix("slots/").unwrap()),
                Some((class, 17))
            );
        }
        for bad in [
            "",
            "64k-",
            "64k-17",
            "64k-000000170",
            "2m-00000017",
            "64k-+0000017",
        ] {
            assert_eq!(parse_slot_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_head_is_read_back_and_every_damaged_bit_is_found() {
        let pool = BufferPool::new(1 << 20);
        let head = Head {
            chunk: ChunkId(7),
            placement: PlacementIndex(9),
            incarnation: Incarnation(11),
            length: 9000,
            checksum: 13,
        };
        let bytes = head.encode(SizeClass::K64, &[1, 2, 3], &pool);
        assert_eq!(bytes.len(), 4096);
        assert_eq!(head.decode_sums(SizeClass::K64, &bytes), Ok(vec![1, 2, 3]));
        let golden = "44534c5401000000070000000000000009000000000000000b0000000000000028230000000000000d00000003000000";
        let text: String = bytes[..48].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(text, golden);
        for bit in 0..(64 + 12) * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(head.decode_sums(SizeClass::K64, &damaged).is_err(), "bit {bit}");
        }
        assert!(
            Head {
                chunk: ChunkId(8),
                ..head
            }
            .decode_sums(SizeClass::K64, &bytes)
            .is_err()
        );
        assert!(head.decode_sums(SizeClass::K64, &bytes[..70]).is_err());
    }

    #[test]
    fn geometry_is_of_whole_blocks() {
        for class in SizeClass::ALL {
            assert_eq!(slot_bytes(class) % BLOCK, 0);
            let slot = SlotRef {
                class,
                file: 0,
                index: 1,
            };
            assert_eq!(slot.data_offset() + class.bytes(), 2 * slot_bytes(class));
        }
        assert_eq!(slot_bytes(SizeClass::K64), 68 << 10);
    }
}
