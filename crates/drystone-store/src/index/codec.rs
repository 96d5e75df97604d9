//! Little-endian numbers out of bytes that may be anything.

use drystone_types::SizeClass;

use super::entry::{EntryState, IndexEntry};
use crate::format::SlotRef;
use drystone_types::{ChunkId, Epoch, PlacementIndex};

/// Takes numbers off the front; `None` when the bytes end.
pub(crate) struct FieldReader<'a>(pub(crate) &'a [u8]);

impl<'a> FieldReader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn sums(&mut self, count: u32) -> Option<Vec<u32>> {
        let bytes = self.take(count as usize * 4)?;
        Some(
            bytes
                .chunks_exact(4)
                .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        )
    }

    /// An entry, [`ENTRY_BYTES`] long.
    pub(crate) fn entry(&mut self) -> Option<(ChunkId, IndexEntry)> {
        let chunk = ChunkId(self.u64()?);
        let placement = PlacementIndex(self.u64()?);
        let epoch = Epoch(self.u64()?);
        let state = EntryState::from_number(self.u8()?)?;
        let place = self.u8()?;
        let (file, index) = (self.u32()?, self.u32()?);
        let length = self.u64()?;
        let slot_len = self.u64()?;
        let checksum = self.u32()?;
        let slot = match place {
            NO_SLOT => None,
            class => Some(SlotRef {
                class: SizeClass::from_number(u32::from(class))?,
                file,
                index,
            }),
        };
        let most = slot.map_or(0, |s| s.class.bytes());
        let fits = length <= most && slot_len <= length && (slot.is_some() || state == EntryState::Marker);
        fits.then_some((
            chunk,
            IndexEntry {
                placement,
                epoch,
                state,
                slot,
                length,
                slot_len,
                checksum,
            },
        ))
    }
}

/// Bytes of an encoded entry.
pub(crate) const ENTRY_BYTES: usize = 54;
const NO_SLOT: u8 = 255;

/// Appends chunk and entry:
/// ```text
/// chunk u64  placement u64  epoch u64  state u8  class u8 (255: no slot)  file u32  index u32
/// length u64  length in the slot u64  checksum u32
/// ```
pub(crate) fn put_entry(out: &mut Vec<u8>, chunk: ChunkId, entry: &IndexEntry) {
    out.extend_from_slice(&chunk.0.to_le_bytes());
    out.extend_from_slice(&entry.placement.0.to_le_bytes());
    out.extend_from_slice(&entry.epoch.0.to_le_bytes());
    out.push(entry.state.number());
    out.push(entry.slot.map_or(NO_SLOT, |s| s.class.number() as u8));
    out.extend_from_slice(&entry.slot.map_or(0, |s| s.file).to_le_bytes());
    out.extend_from_slice(&entry.slot.map_or(0, |s| s.index).to_le_bytes());
    out.extend_from_slice(&entry.length.to_le_bytes());
    out.extend_from_slice(&entry.slot_len.to_le_bytes());
    out.extend_from_slice(&entry.checksum.to_le_bytes());
}

pub(crate) fn put_sums(out: &mut Vec<u8>, sums: &[u32]) {
    sums.iter()
        .for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
}
