//! Little-endian numbers out of bytes that may be anything.

use super::entry::{EntryState, IndexEntry};
use crate::format::{BLOCK, Run, Runs};
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

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    /// An entry, [`ENTRY_BYTES`] long if it has one run.
    pub(crate) fn entry(&mut self) -> Option<(ChunkId, IndexEntry)> {
        let chunk = ChunkId(self.u64()?);
        let placement = PlacementIndex(self.u64()?);
        let epoch = Epoch(self.u64()?);
        let state = EntryState::from_number(self.u8()?)?;
        let length = self.u64()?;
        let stored = self.u64()?;
        let checksum = self.u32()?;
        let tail_at = u64::from(self.u32()?) * BLOCK;
        let runs = Runs::of(self.runs()?);
        let entry = IndexEntry {
            placement,
            epoch,
            state,
            runs,
            length,
            stored,
            checksum,
            tail_at,
        };
        let is_sound =
            stored <= length && entry.fits() && (entry.runs.is_some() || state == EntryState::Marker);
        is_sound.then_some((chunk, entry))
    }

    pub(super) fn runs(&mut self) -> Option<Vec<Run>> {
        let count = self.u16()?;
        (0..count).map(|_| Run::unpacked(self.u64()?)).collect()
    }
}

/// Bytes of an encoded entry of one run.
pub(crate) const ENTRY_BYTES: usize = 59;

/// Appends chunk and entry:
/// ```text
/// chunk u64  placement u64  epoch u64  state u8  length u64  length in the runs u64  checksum u32  block of the tail u32
/// count of runs u16, then for each: 26 bits of arena, 19 of first unit, 19 of units, in a u64
/// ```
pub(crate) fn put_entry(out: &mut Vec<u8>, chunk: ChunkId, entry: &IndexEntry) {
    out.extend_from_slice(&chunk.0.to_le_bytes());
    out.extend_from_slice(&entry.placement.0.to_le_bytes());
    out.extend_from_slice(&entry.epoch.0.to_le_bytes());
    out.push(entry.state.number());
    out.extend_from_slice(&entry.length.to_le_bytes());
    out.extend_from_slice(&entry.stored.to_le_bytes());
    out.extend_from_slice(&entry.checksum.to_le_bytes());
    out.extend_from_slice(&((entry.tail_at / BLOCK) as u32).to_le_bytes());
    let runs = entry.runs.as_ref().map_or(&[][..], Runs::as_slice);
    out.extend_from_slice(&(runs.len() as u16).to_le_bytes());
    runs.iter()
        .for_each(|run| out.extend_from_slice(&run.packed().to_le_bytes()));
}

pub(crate) fn put_sums(out: &mut Vec<u8>, sums: &[u32]) {
    sums.iter()
        .for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
}
