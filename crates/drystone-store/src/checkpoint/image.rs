//! The bytes of a checkpoint: what is not in leaves at one moment, and where each leaf lies.
//!
//! ```text
//! head, one 4 KiB block:
//!   0 magic "DSCP"  4 version u32  8 generation u64  16 disk u64  24 incarnation u64
//!  32 journal record from which replay begins u64  40 grant floor u64  48 bytes of body u64
//!  56 number of the next arena u64  64 CRC32C of the body u32  68 CRC32C of bytes 0..68
//! body:
//!   entries u64, then for each: entry (see codec), and unless it is sealed or a marker:
//!     count u32, count checksums u32, length u32, bytes that are durable but not in the runs
//!   leaves u64, then for each, in order: chunk u64 from which on it covers, place u32, checksum u32
//! ```
//! Padded with zeros to whole blocks; what an earlier, longer one left behind it is not read. The bytes of sealed
//! chunks that are not in their runs yet are in the journal from that record on. Leaves were written later than the rest was
//! told: what happened between is in the journal from that record on, too.

use crate::format::BLOCK;
use crate::index::{EntryState, FieldReader, IndexEntry, LeafImage, put_entry, put_sums};
use bytes::Bytes;
use drystone_types::{ChunkId, DiskId, DiskRef, Incarnation};
use drystone_wal::Lsn;
use std::collections::BTreeMap;

const MAGIC: [u8; 4] = *b"DSCP";
const VERSION: u32 = 3;
const HEAD: usize = 72;

/// What is in memory of a chunk that is not sealed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct OpenChunkPart {
    /// Of whole blocks of durable bytes.
    pub(crate) sums: Vec<u32>,
    /// Durable bytes from the entry's `stored` on.
    pub(crate) data: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CheckpointImage {
    pub(crate) generation: u64,
    pub(crate) me: DiskRef,
    pub(crate) replay_from: Lsn,
    pub(crate) floor: ChunkId,
    /// Above every number that an arena was given.
    pub(crate) next_arena: u32,
    pub(crate) entries: BTreeMap<ChunkId, IndexEntry>,
    pub(crate) open: BTreeMap<ChunkId, OpenChunkPart>,
    /// From which chunk on each leaf covers, in order, and where it lies.
    pub(crate) leaves: Vec<(ChunkId, LeafImage)>,
}

/// What all of a checkpoint is about, but for the leaves.
#[derive(Clone, Copy)]
pub(crate) struct CheckpointHead {
    pub(crate) generation: u64,
    pub(crate) me: DiskRef,
    pub(crate) replay_from: Lsn,
    pub(crate) floor: ChunkId,
    pub(crate) next_arena: u32,
}

/// Builds the bytes of a checkpoint: first the entries, then the leaves.
pub(crate) struct CheckpointEncoder {
    head: CheckpointHead,
    bytes: Vec<u8>,
    entries: u64,
    leaves: Vec<(ChunkId, LeafImage)>,
}

const BODY: usize = BLOCK as usize;

impl CheckpointEncoder {
    pub(crate) fn new(head: CheckpointHead) -> Self {
        Self {
            head,
            // The number of entries comes first in the body.
            bytes: vec![0; BODY + 8],
            entries: 0,
            leaves: Vec::new(),
        }
    }

    pub(crate) fn entry(&mut self, chunk: ChunkId, entry: &IndexEntry, sums: &[u32], data: &[Bytes]) {
        self.entries += 1;
        put_entry(&mut self.bytes, chunk, entry);
        if matches!(entry.state, EntryState::Open | EntryState::Fenced) {
            self.bytes.extend_from_slice(&(sums.len() as u32).to_le_bytes());
            put_sums(&mut self.bytes, sums);
            let length: usize = data.iter().map(Bytes::len).sum();
            self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
            data.iter().for_each(|part| self.bytes.extend_from_slice(part));
        }
    }

    /// The leaf behind those before it.
    pub(crate) fn leaf(&mut self, first: ChunkId, image: LeafImage) {
        self.leaves.push((first, image));
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.bytes[BODY..BODY + 8].copy_from_slice(&self.entries.to_le_bytes());
        self.bytes
            .extend_from_slice(&(self.leaves.len() as u64).to_le_bytes());
        for (first, image) in &self.leaves {
            self.bytes.extend_from_slice(&first.0.to_le_bytes());
            self.bytes.extend_from_slice(&image.place.to_le_bytes());
            self.bytes.extend_from_slice(&image.checksum.to_le_bytes());
        }
        let length = self.bytes.len() - BODY;
        let body_crc = crc32c::crc32c(&self.bytes[BODY..]);
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        for number in [
            self.head.generation,
            self.head.me.disk.0,
            self.head.me.incarnation.0,
            self.head.replay_from.0,
            self.head.floor.0,
            length as u64,
            u64::from(self.head.next_arena),
        ] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        self.bytes[..head.len()].copy_from_slice(&head);
        self.bytes.resize(self.bytes.len().next_multiple_of(BODY), 0);
        self.bytes.into()
    }
}

/// Reads a checkpoint file; the words say why there is none.
pub(crate) fn decode(bytes: &[u8]) -> Result<CheckpointImage, &'static str> {
    let head = bytes.get(..HEAD).ok_or("no head")?;
    let mut reader = FieldReader(head);
    if reader.take(4) != Some(&MAGIC) {
        return Err("no checkpoint");
    }
    let version = reader.u32().ok_or("head is short")?;
    if version != VERSION {
        return Err("of a version that this program does not know");
    }
    let mut numbers = [0; 7];
    for number in &mut numbers {
        *number = reader.u64().ok_or("head is short")?;
    }
    let body_crc = reader.u32().ok_or("head is short")?;
    if reader.u32() != Some(crc32c::crc32c(&head[..HEAD - 4])) {
        return Err("head does not match its checksum");
    }
    let [
        generation,
        disk,
        incarnation,
        replay_from,
        floor,
        length,
        next_arena,
    ] = numbers;
    let end = usize::try_from(length)
        .ok()
        .and_then(|l| l.checked_add(BLOCK as usize))
        .ok_or("length")?;
    let body = bytes.get(BLOCK as usize..end).ok_or("body is cut off")?;
    if crc32c::crc32c(body) != body_crc {
        return Err("body does not match its checksum");
    }
    let (entries, open, leaves) = decode_body(body).ok_or("body makes no sense")?;
    let me = DiskRef {
        disk: DiskId(disk),
        incarnation: Incarnation(incarnation),
    };
    Ok(CheckpointImage {
        generation,
        me,
        replay_from: Lsn(replay_from),
        floor: ChunkId(floor),
        next_arena: u32::try_from(next_arena).map_err(|_| "the number of the next arena")?,
        entries,
        open,
        leaves,
    })
}

type Body = (
    BTreeMap<ChunkId, IndexEntry>,
    BTreeMap<ChunkId, OpenChunkPart>,
    Vec<(ChunkId, LeafImage)>,
);

fn decode_body(body: &[u8]) -> Option<Body> {
    let mut reader = FieldReader(body);
    let (mut entries, mut open) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..reader.u64()? {
        let (chunk, entry) = reader.entry()?;
        if matches!(entry.state, EntryState::Open | EntryState::Fenced) {
            let count = reader.u32()?;
            let sums = reader.sums(count)?;
            let length = reader.u32()?;
            let data = reader.take(length as usize)?;
            if u64::from(length) != entry.length - entry.stored || u64::from(count) != entry.length / BLOCK {
                return None;
            }
            open.insert(
                chunk,
                OpenChunkPart {
                    sums,
                    data: Bytes::copy_from_slice(data),
                },
            );
        }
        entries.insert(chunk, entry);
    }
    let count = reader.u64()?;
    let mut leaves = Vec::new();
    for _ in 0..count {
        let first = ChunkId(reader.u64()?);
        let (place, checksum) = (reader.u32()?, reader.u32()?);
        leaves.push((first, LeafImage { place, checksum }));
    }
    let is_sorted = leaves.is_sorted_by(|(one, _), (two, _)| one < two);
    // What comes before the first leaf would belong to none.
    let begins = leaves.first().is_none_or(|(first, _)| *first == ChunkId(0));
    (is_sorted && begins && reader.0.is_empty()).then_some((entries, open, leaves))
}
