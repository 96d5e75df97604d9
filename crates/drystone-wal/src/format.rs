//! The bytes of a log: a segment is a file of 4 KiB blocks, filled with batches; a batch is a header, records and
//! zeros to the end of its last block. All numbers are little-endian.
//!
//! ```text
//! batch header, 96 bytes, at the start of a block
//!  0  4  magic "DWAL"
//!  4  2  format version, 1
//!  6  2  kind: 1 records, 2 mark (no records), 3 turn (no records, and no batch: see below)
//!  8  4  CRC-32C of this header without these four bytes
//! 12  4  CRC-32C of the rest of the batch: records and zeros
//! 16  8  identity of the log
//! 24  8  generation of the segment: 1, 2, ... in the order of use; a recycled file gets a new one
//! 32  8  number of the batch: 1, 2, ... without gaps
//! 40  8  synced: every batch up to this number was durable before this one was written (the mark)
//! 48  8  first: number of the first record (of the next one if there is none)
//! 56  8  released: records below this number are not needed
//! 64  8  oldest: generation of the oldest segment that is needed
//! 72  4  records in the batch
//! 76  4  bytes of records, with their framing
//! 80  4  place of the batch in its segment, in blocks
//! 84  4  length of the segment, in blocks
//! 88  4  header CRC of the batch before; 0 in the first one
//! 92  4  zero
//! record
//!  0  4  length
//!  4     bytes
//! ```
//!
//! The last block of a segment is for a *turn*, written once the first batch of the next segment is durable. It has the
//! number of that batch. The log does not run through turns: one is the proof, outside of the newest segment, that this
//! segment was there. Logs of earlier versions have none, and may have a mark in that place, which stays.
//!
//! The header lies within one 512-byte sector: it is whole or it is not there. A block counts as part of the log
//! only through the header CRC, identity, generation, place and number of its batch, so nothing that an earlier
//! use of the file left behind reads as present.

/// Everything is written in blocks of this size.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 96;
/// Bytes in front of each record.
pub const RECORD_HEADER_BYTES: usize = 4;
/// The newest format that this program knows, and the one it writes.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"DWAL";
const KIND_RECORDS: u16 = 1;
const KIND_MARK: u16 = 2;
const KIND_TURN: u16 = 3;
/// No log ever gets here: numbers below it can be counted on for longer than a disk lives.
const MOST: u64 = u64::MAX >> 1;

/// A batch header. See the page of this module for each field.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Header {
    pub body_crc: u32,
    pub identity: u64,
    pub generation: u64,
    pub number: u64,
    pub synced: u64,
    pub first: u64,
    pub released: u64,
    pub oldest: u64,
    pub records: u32,
    pub body_bytes: u32,
    pub place_blocks: u32,
    pub segment_blocks: u32,
    pub previous_crc: u32,
    pub is_turn: bool,
}

/// Why a block does not begin with a batch header.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Too short, or another magic.
    #[error("no batch")]
    NoBatch,
    /// The magic is there, the checksum does not fit.
    #[error("a damaged batch header")]
    Damaged,
    /// Intact, and of a version that this program does not know.
    #[error("format version {0}")]
    Version(u16),
    /// Intact, and yet impossible.
    #[error("a batch header with impossible {0}")]
    Impossible(&'static str),
}

impl Header {
    /// The turn in the segment before, of `blocks` blocks, for this first batch of a segment.
    pub fn turn(&self, blocks: u32) -> Header {
        Header {
            identity: self.identity,
            generation: self.generation - 1,
            number: self.number,
            synced: self.synced,
            first: self.first,
            released: self.released,
            oldest: self.generation - 1,
            place_blocks: blocks - 1,
            segment_blocks: blocks,
            is_turn: true,
            ..Header::default()
        }
    }

    /// Bytes of the whole batch on the disk.
    pub fn batch_bytes(&self) -> u64 {
        u64::from(self.blocks()) * BLOCK_BYTES as u64
    }

    /// Blocks of the whole batch.
    pub fn blocks(&self) -> u32 {
        (HEADER_BYTES as u64 + u64::from(self.body_bytes)).div_ceil(BLOCK_BYTES as u64) as u32
    }

    /// The number of the record after the batch.
    pub fn next_lsn(&self) -> u64 {
        self.first.saturating_add(u64::from(self.records))
    }

    /// The bytes of the header and its CRC.
    pub fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        let kind = match (self.is_turn, self.records) {
            (true, _) => KIND_TURN,
            (false, 0) => KIND_MARK,
            (false, _) => KIND_RECORDS,
        };
        put(&kind.to_le_bytes());
        put(&[0; 4]);
        put(&self.body_crc.to_le_bytes());
        for field in [
            self.identity,
            self.generation,
            self.number,
            self.synced,
            self.first,
            self.released,
            self.oldest,
        ] {
            put(&field.to_le_bytes());
        }
        for field in [
            self.records,
            self.body_bytes,
            self.place_blocks,
            self.segment_blocks,
            self.previous_crc,
            0,
        ] {
            put(&field.to_le_bytes());
        }
        let crc = header_crc(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// Reads the header at the start of `block`, with its CRC.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn decode(block: &[u8]) -> Result<(Header, u32), HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = block.first_chunk().ok_or(HeaderError::NoBatch)?;
        if bytes[..4] != MAGIC {
            return Err(HeaderError::NoBatch);
        }
        let mut fields = Fields(&bytes[4..]);
        let (version, kind, crc) = (fields.u16(), fields.u16(), fields.u32());
        if crc != header_crc(bytes) {
            return Err(HeaderError::Damaged);
        }
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let header = Header {
            body_crc: fields.u32(),
            identity: fields.u64(),
            generation: fields.u64(),
            number: fields.u64(),
            synced: fields.u64(),
            first: fields.u64(),
            released: fields.u64(),
            oldest: fields.u64(),
            records: fields.u32(),
            body_bytes: fields.u32(),
            place_blocks: fields.u32(),
            segment_blocks: fields.u32(),
            previous_crc: fields.u32(),
            is_turn: kind == KIND_TURN,
        };
        header.check(kind)?;
        Ok((header, crc))
    }

    fn check(&self, kind: u16) -> Result<(), HeaderError> {
        let fault = |what| Err(HeaderError::Impossible(what));
        let fits = match kind {
            KIND_RECORDS => self.records > 0,
            KIND_MARK | KIND_TURN => self.records == 0,
            _ => false,
        };
        if !fits {
            return fault("kind");
        }
        if self.oldest > self.generation || self.generation > MOST || self.oldest == 0 {
            return fault("generations");
        }
        if self.number > MOST || self.synced >= self.number {
            return fault("numbers");
        }
        if self.first == 0 || self.released > self.first || self.first > MOST {
            return fault("record numbers");
        }
        if u64::from(self.place_blocks) + u64::from(self.blocks()) > u64::from(self.segment_blocks) {
            return fault("place");
        }
        if u64::from(self.records) * RECORD_HEADER_BYTES as u64 > u64::from(self.body_bytes) {
            return fault("length");
        }
        Ok(())
    }
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..])
}

/// Takes little-endian numbers from the front; the caller has checked the length.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a header has this many bytes");
        self.0 = rest;
        *field
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// The records of a batch body as ranges in it; `None` if the framing does not come out even.
pub fn records(body: &[u8], count: u32) -> Option<Vec<std::ops::Range<usize>>> {
    let mut ranges = Vec::with_capacity((count as usize).min(body.len() / RECORD_HEADER_BYTES));
    let mut at = 0;
    while at < body.len() {
        let length = u32::from_le_bytes(*body.get(at..)?.first_chunk()?) as usize;
        let start = at + RECORD_HEADER_BYTES;
        at = start.checked_add(length).filter(|end| *end <= body.len())?;
        ranges.push(start..at);
    }
    (ranges.len() == count as usize).then_some(ranges)
}
