//! A leaf of the index: sealed chunks whose bytes are all in their runs, packed, in order of ids.
//!
//! As bytes, in a place of [`LEAF_BYTES`]:
//! ```text
//!  0 magic "DSLF"  4 number of entries u32  8 bytes of the leaf u32  12 CRC32C of bytes 0..12 and of what follows
//! 16 for each chunk, ids ascending:
//!      chunk u64  placement u64  run u64, 0: several  length u32  checksum u32  epoch u32  block of the tail u32
//!    for each chunk of several runs, in the same order: count u16, then each run u64
//! ```

use super::codec::FieldReader;
use super::entry::{EntryState, IndexEntry};
use crate::format::{BLOCK, Run, Runs};
use drystone_types::{ChunkId, Epoch, PlacementIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a leaf at most, and of its place on the disk.
pub(crate) const LEAF_BYTES: usize = 16 << 10;
const MAGIC: [u8; 4] = *b"DSLF";
const HEAD: usize = 16;
/// Bytes of an entry of one run in a leaf, and in memory.
pub(crate) const PACKED: usize = 40;
/// Room for entries grows by so many, so that little of it is unused.
const ROOM: usize = 32;

/// Where a leaf lies on the disk, and the checksum of what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeafImage {
    pub(crate) place: u32,
    pub(crate) checksum: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Packed {
    chunk: u64,
    placement: u64,
    /// 0: there are several, which lie elsewhere.
    run: u64,
    length: u32,
    checksum: u32,
    epoch: u32,
    tail_block: u32,
}

/// An entry that fits into a leaf.
pub(super) struct LeafEntry {
    packed: Packed,
    several: Option<Arc<Vec<Run>>>,
}

impl LeafEntry {
    /// `None` if a leaf cannot say what the entry says.
    pub(super) fn of(chunk: ChunkId, entry: &IndexEntry) -> Option<Self> {
        if !entry.is_settled() {
            return None;
        }
        let (run, several) = match entry.runs.as_ref()? {
            Runs::One(run) => (run.packed(), None),
            Runs::Many(runs) => (0, Some(Arc::clone(runs))),
        };
        let packed = Packed {
            chunk: chunk.0,
            placement: entry.placement.0,
            run,
            length: u32::try_from(entry.length).ok()?,
            checksum: entry.checksum,
            epoch: u32::try_from(entry.epoch.0).ok()?,
            tail_block: u32::try_from(entry.tail_at / BLOCK).ok()?,
        };
        let entry = Self { packed, several };
        (HEAD + entry.bytes() <= LEAF_BYTES).then_some(entry)
    }

    /// Bytes that it takes in a leaf.
    fn bytes(&self) -> usize {
        PACKED + self.several.as_ref().map_or(0, |runs| bytes_of(runs))
    }
}

fn bytes_of(runs: &[Run]) -> usize {
    2 + runs.len() * 8
}

/// See the module.
pub(crate) struct Leaf {
    entries: Vec<Packed>,
    several: BTreeMap<u64, Arc<Vec<Run>>>,
    /// Of the leaf when it is written.
    bytes: usize,
    /// `None`: the disk does not have it as it is.
    image: Option<LeafImage>,
}

impl Leaf {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            several: BTreeMap::new(),
            bytes: HEAD,
            image: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the disk has exactly this.
    pub(crate) fn image(&self) -> Option<LeafImage> {
        self.image
    }

    /// The disk has it here.
    pub(crate) fn set_image(&mut self, image: LeafImage) {
        self.image = Some(image);
    }

    /// The disk does not have it as it must be.
    pub(crate) fn forget_image(&mut self) {
        self.image = None;
    }

    fn find(&self, chunk: ChunkId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&chunk.0, |packed| packed.chunk)
    }

    pub(super) fn get(&self, chunk: ChunkId) -> Option<IndexEntry> {
        let at = self.find(chunk).ok()?;
        self.entry(&self.entries[at])
    }

    fn entry(&self, packed: &Packed) -> Option<IndexEntry> {
        let runs = match packed.run {
            0 => Runs::Many(Arc::clone(self.several.get(&packed.chunk)?)),
            word => Runs::One(Run::unpacked(word)?),
        };
        Some(IndexEntry {
            placement: PlacementIndex(packed.placement),
            epoch: Epoch(u64::from(packed.epoch)),
            state: EntryState::Sealed,
            runs: Some(runs),
            length: u64::from(packed.length),
            stored: u64::from(packed.length),
            checksum: packed.checksum,
            tail_at: u64::from(packed.tail_block) * BLOCK,
        })
    }

    /// The entries from `chunk` on.
    pub(super) fn from(&self, chunk: ChunkId) -> impl Iterator<Item = (ChunkId, IndexEntry)> + '_ {
        let at = self.find(chunk).unwrap_or_else(|at| at);
        let rest = self.entries[at..].iter();
        rest.filter_map(|packed| Some((ChunkId(packed.chunk), self.entry(packed)?)))
    }

    /// True if the entry can be added without making the leaf longer than `most` bytes; to an empty one it always can.
    pub(super) fn has_room(&self, entry: &LeafEntry, most: usize) -> bool {
        self.is_empty() || self.bytes + entry.bytes() <= most
    }

    /// Enters what is not here.
    pub(super) fn add(&mut self, entry: LeafEntry) {
        let chunk = ChunkId(entry.packed.chunk);
        self.image = None;
        self.bytes += entry.bytes();
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(ROOM);
        }
        let at = self.find(chunk).unwrap_or_else(|at| at);
        self.entries.insert(at, entry.packed);
        if let Some(runs) = entry.several {
            self.several.insert(chunk.0, runs);
        }
    }

    pub(super) fn remove(&mut self, chunk: ChunkId) {
        if let Ok(at) = self.find(chunk) {
            self.image = None;
            self.entries.remove(at);
            let several = self.several.remove(&chunk.0);
            self.bytes -= PACKED + several.map_or(0, |runs| bytes_of(&runs));
        }
    }

    /// Takes off what goes into a new leaf so that there is room for `chunk`, and where that leaf begins.
    pub(super) fn split(&mut self, chunk: ChunkId) -> (ChunkId, Leaf) {
        let mut right = Leaf::new();
        // Ids come in order, nearly: what is full stays full.
        if self.entries.last().is_none_or(|last| last.chunk < chunk.0) {
            return (chunk, right);
        }
        let half = (self.bytes - HEAD) / 2;
        let (mut at, mut bytes) = (0, 0);
        for packed in &self.entries {
            if bytes >= half {
                break;
            }
            bytes += PACKED + self.several.get(&packed.chunk).map_or(0, |runs| bytes_of(runs));
            at += 1;
        }
        // A single long entry goes as a whole.
        let at = at.min(self.entries.len() - 1);
        let first = self.entries[at].chunk;
        right.entries = self.entries.split_off(at);
        right.several = self.several.split_off(&first);
        self.entries.shrink_to_fit();
        right.recount();
        self.recount();
        self.image = None;
        (ChunkId(first), right)
    }

    fn recount(&mut self) {
        let several: usize = self.several.values().map(|runs| bytes_of(runs)).sum();
        self.bytes = HEAD + self.entries.len() * PACKED + several;
    }

    /// True if both together are so small, and one of them is to be written anyway, that they should be one leaf.
    pub(super) fn joins(&self, next: &Leaf, most: usize) -> bool {
        let is_written = self.image.is_none() || next.image.is_none();
        is_written && self.bytes + next.bytes <= most / 4 * 3
    }

    /// Takes the entries of the leaf behind this one.
    pub(super) fn join(&mut self, mut next: Leaf) {
        self.entries.reserve_exact(next.entries.len());
        self.entries.append(&mut next.entries);
        self.several.append(&mut next.several);
        self.recount();
        self.image = None;
    }

    /// Writes the leaf to the beginning of `place`, with zeros behind it: the checksum for its image.
    pub(crate) fn encode(&self, place: &mut [u8]) -> u32 {
        let mut body = Vec::with_capacity(self.bytes - HEAD);
        for packed in &self.entries {
            for long in [packed.chunk, packed.placement, packed.run] {
                body.extend_from_slice(&long.to_le_bytes());
            }
            for word in [packed.length, packed.checksum, packed.epoch, packed.tail_block] {
                body.extend_from_slice(&word.to_le_bytes());
            }
        }
        for runs in self.several.values() {
            body.extend_from_slice(&(runs.len() as u16).to_le_bytes());
            let words = runs.iter().map(|run| run.packed().to_le_bytes());
            words.for_each(|word| body.extend_from_slice(&word));
        }
        assert_eq!(
            HEAD + body.len(),
            self.bytes,
            "the bytes of a leaf follow its entries"
        );
        place[0..4].copy_from_slice(&MAGIC);
        place[4..8].copy_from_slice(&(self.entries.len() as u32).to_le_bytes());
        place[8..12].copy_from_slice(&(self.bytes as u32).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&place[..12]), &body);
        place[12..16].copy_from_slice(&checksum.to_le_bytes());
        place[HEAD..self.bytes].copy_from_slice(&body);
        place[self.bytes..].fill(0);
        checksum
    }

    /// The leaf in a place, if it is that of `image` and all its ids are at least `first` and below `end`; otherwise
    /// the words say why not.
    pub(crate) fn decode(
        place: &[u8],
        image: LeafImage,
        first: ChunkId,
        end: Option<ChunkId>,
    ) -> Result<Leaf, &'static str> {
        let mut head = FieldReader(place);
        if head.take(4) != Some(&MAGIC) {
            return Err("it is no leaf");
        }
        let (Some(count), Some(bytes), Some(stored)) = (head.u32(), head.u32(), head.u32()) else {
            return Err("it is cut off");
        };
        let body = place.get(HEAD..bytes as usize).ok_or("it is cut off")?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&place[..12]), body);
        if checksum != stored {
            return Err("it does not match its checksum");
        }
        if checksum != image.checksum {
            return Err("it is another leaf, or an older one");
        }
        let mut leaf = decode_body(count, body).ok_or("it makes no sense")?;
        leaf.image = Some(image);
        let is_sorted = leaf.entries.is_sorted_by(|one, two| one.chunk < two.chunk);
        let begins = leaf.entries.first().is_none_or(|entry| entry.chunk >= first.0);
        let ends = leaf
            .entries
            .last()
            .is_none_or(|entry| end.is_none_or(|end| entry.chunk < end.0));
        if is_sorted && begins && ends {
            Ok(leaf)
        } else {
            Err("its chunks are not those that it is for")
        }
    }
}

fn decode_body(count: u32, body: &[u8]) -> Option<Leaf> {
    let mut reader = FieldReader(body);
    let mut leaf = Leaf::new();
    leaf.entries
        .reserve_exact((count as usize).min(LEAF_BYTES / PACKED));
    for _ in 0..count {
        let packed = Packed {
            chunk: reader.u64()?,
            placement: reader.u64()?,
            run: reader.u64()?,
            length: reader.u32()?,
            checksum: reader.u32()?,
            epoch: reader.u32()?,
            tail_block: reader.u32()?,
        };
        leaf.entries.push(packed);
    }
    for packed in &leaf.entries {
        if packed.run == 0 {
            let runs = reader.runs().filter(|runs| runs.len() > 1)?;
            leaf.several.insert(packed.chunk, Arc::new(runs));
        }
        let entry = leaf.entry(packed)?;
        entry.fits().then_some(())?;
    }
    leaf.recount();
    reader.0.is_empty().then_some(leaf)
}

#[cfg(test)]
mod tests;
