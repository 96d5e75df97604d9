//! The bytes of a checkpoint: the whole index at one moment.
//!
//! ```text
//! head, one 4 KiB block:
//!   0 magic "DSCP"  4 version u32  8 generation u64  16 disk u64  24 incarnation u64
//!  32 journal record from which replay begins u64  40 grant floor u64  48 bytes of body u64
//!  56 number of the next arena u64  64 CRC32C of the body u32  68 CRC32C of bytes 0..68
//! body:
//!   entries u64, then for each: entry (see codec), and unless it is sealed or a marker:
//!     count u32, count checksums u32, length u32, bytes that are durable but not in the runs
//! ```
//! Padded with zeros to whole blocks; what an earlier, longer one left behind it is not read. The bytes of sealed
//! chunks that are not in their runs yet are in the journal from that record on.

use crate::format::BLOCK;
use crate::index::{ENTRY_BYTES, EntryState, FieldReader, IndexEntry, put_entry, put_sums};
use bytes::Bytes;
use drystone_types::{ChunkId, DiskId, DiskRef, Incarnation};
use drystone_wal::Lsn;
use std::collections::BTreeMap;

const MAGIC: [u8; 4] = *b"DSCP";
const VERSION: u32 = 2;
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
}

/// Builds the bytes of a checkpoint without holding its records twice.
pub(crate) struct CheckpointEncoder {
    body: Vec<u8>,
}

impl CheckpointEncoder {
    pub(crate) fn new(entries: usize) -> Self {
        let mut body = Vec::with_capacity(BLOCK as usize + 8 + entries * ENTRY_BYTES);
        body.resize(BLOCK as usize, 0);
        body.extend_from_slice(&(entries as u64).to_le_bytes());
        Self { body }
    }

    pub(crate) fn entry(&mut self, chunk: ChunkId, entry: &IndexEntry, sums: &[u32], data: &[Bytes]) {
        put_entry(&mut self.body, chunk, entry);
        if matches!(entry.state, EntryState::Open | EntryState::Fenced) {
            self.body.extend_from_slice(&(sums.len() as u32).to_le_bytes());
            put_sums(&mut self.body, sums);
            let length: usize = data.iter().map(Bytes::len).sum();
            self.body.extend_from_slice(&(length as u32).to_le_bytes());
            data.iter().for_each(|part| self.body.extend_from_slice(part));
        }
    }

    pub(crate) fn finish(
        mut self,
        generation: u64,
        me: DiskRef,
        replay_from: Lsn,
        floor: ChunkId,
        next_arena: u32,
    ) -> Bytes {
        let head_bytes = BLOCK as usize;
        let length = self.body.len() - head_bytes;
        let body_crc = crc32c::crc32c(&self.body[head_bytes..]);
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        for number in [
            generation,
            me.disk.0,
            me.incarnation.0,
            replay_from.0,
            floor.0,
            length as u64,
            u64::from(next_arena),
        ] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        self.body[..head.len()].copy_from_slice(&head);
        self.body.resize(self.body.len().next_multiple_of(head_bytes), 0);
        self.body.into()
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
    let (entries, open) = decode_body(body).ok_or("body makes no sense")?;
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
    })
}

type Body = (BTreeMap<ChunkId, IndexEntry>, BTreeMap<ChunkId, OpenChunkPart>);

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
    reader.0.is_empty().then_some((entries, open))
}
