//! The bytes of one stretch of a stream that may still have to be sent again.

use bytes::Bytes;
use drystone_proto::checksum::{Checksums, combine};
use drystone_types::CHECKSUM_BLOCK;
use std::collections::VecDeque;

/// At most 1 MiB of the stream with the checksums of its 4 KiB blocks, summed once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StretchFrame {
    pub(crate) data: Bytes,
    pub(crate) checksums: Checksums,
}

impl StretchFrame {
    /// Sums `data`.
    pub(crate) fn new(data: Bytes) -> Self {
        let checksums = Checksums::of(&data);
        Self { data, checksums }
    }

    pub(crate) fn len(&self) -> u64 {
        self.data.len() as u64
    }

    /// CRC32C of the whole frame.
    fn sum(&self) -> u32 {
        combine(&self.checksums, self.len())
    }

    /// The frame from `at` on. Only a cut between blocks keeps the checksums.
    fn tail(&self, at: usize) -> Self {
        let data = self.data.slice(at..);
        match at.is_multiple_of(CHECKSUM_BLOCK) {
            true => Self {
                data,
                checksums: self.checksums.iter().skip(at / CHECKSUM_BLOCK).copied().collect(),
            },
            false => Self::new(data),
        }
    }
}

/// Frames of a stretch in order. Positions count from the beginning of the stretch. Three marks only grow:
/// `base` (the present chunk begins), `released` (bytes before it can no longer be sent again), `end`.
#[derive(Debug, Default)]
pub(crate) struct StretchBuffer {
    frames: VecDeque<(u64, StretchFrame)>,
    base: u64,
    released: u64,
    end: u64,
    // CRC32C of base..position for frame boundaries after base: at most one per frame of a chunk.
    sums: Vec<(u64, u32)>,
}

impl StretchBuffer {
    pub(crate) fn push(&mut self, frame: StretchFrame) {
        let start = self.end;
        self.end += frame.len();
        let before = self.sums.last().map_or(0, |&(_, sum)| sum);
        self.sums.push((
            self.end,
            crc32c::crc32c_combine(before, frame.sum(), frame.data.len()),
        ));
        self.frames.push_back((start, frame));
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// True while every byte of the present chunk can be sent again.
    pub(crate) fn whole(&self) -> bool {
        self.released == self.base
    }

    /// The frame that begins at `position`.
    pub(crate) fn frame_at(&self, position: u64) -> Option<&StretchFrame> {
        let index = self.frames.partition_point(|&(start, _)| start < position);
        self.frames
            .get(index)
            .filter(|&&(start, _)| start == position)
            .map(|(_, frame)| frame)
    }

    /// Where the newest frame begins.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.frames.back().map(|&(start, _)| start)
    }

    /// CRC32C of base..`position`; `None` if it is not known any more or not yet.
    pub(crate) fn sum_to(&self, position: u64) -> Option<u32> {
        if position == self.base {
            return Some(0);
        }
        let index = self.sums.partition_point(|&(end, _)| end < position);
        let &(end, sum) = self.sums.get(index)?;
        if end == position {
            return Some(sum);
        }
        let (start, frame) = self
            .frames
            .iter()
            .find(|(start, frame)| start + frame.len() == end)?;
        let before = if *start <= self.base {
            Some(0)
        } else {
            self.sum_to(*start)
        }?;
        let part = frame.data.get(..usize::try_from(position - start).ok()?)?;
        Some(crc32c::crc32c_append(before, part))
    }

    /// Forgets whole frames before `position`; gives the bytes forgotten.
    pub(crate) fn release(&mut self, position: u64) -> u64 {
        let mut freed = 0;
        while let Some((start, frame)) = self.frames.front() {
            let end = start + frame.len();
            if end > position {
                break;
            }
            freed += frame.len();
            self.released = end;
            self.frames.pop_front();
        }
        freed
    }

    /// The next chunk begins at `position`, which is not before `released`. Gives the bytes forgotten.
    pub(crate) fn rebase(&mut self, position: u64) -> u64 {
        assert!(
            position >= self.released && position <= self.end,
            "a chunk begins where bytes are still buffered"
        );
        let mut freed = self.release(position);
        if let Some((start, frame)) = self.frames.front_mut()
            && *start < position
        {
            let cut = position - *start;
            *frame = frame.tail(cut as usize);
            *start = position;
            freed += cut;
        }
        self.base = position;
        self.released = position;
        self.sums.clear();
        let mut sum = 0;
        for (start, frame) in &self.frames {
            sum = crc32c::crc32c_combine(sum, frame.sum(), frame.data.len());
            self.sums.push((start + frame.len(), sum));
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::checksum::block_checksums;

    fn filled() -> (StretchBuffer, Vec<u8>) {
        let data: Vec<u8> = (0..30_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let mut buffer = StretchBuffer::default();
        for part in data.chunks(8192) {
            buffer.push(StretchFrame::new(Bytes::copy_from_slice(part)));
        }
        (buffer, data)
    }

    #[test]
    fn sums_are_known_at_every_buffered_position() {
        let (mut buffer, data) = filled();
        for position in [0, 1, 4096, 8192, 8193, 20_000, 30_000] {
            assert_eq!(
                buffer.sum_to(position),
                Some(crc32c::crc32c(&data[..position as usize])),
                "{position}"
            );
        }
        assert_eq!(buffer.release(16_384), 16_384);
        assert_eq!(buffer.sum_to(8192), Some(crc32c::crc32c(&data[..8192])));
        assert_eq!(buffer.sum_to(100), None);
        assert_eq!(buffer.sum_to(20_000), Some(crc32c::crc32c(&data[..20_000])));
        assert_eq!(buffer.sum_to(30_001), None);
    }

    #[test]
    fn a_new_chunk_may_begin_inside_a_frame() {
        for cut in [0u64, 4096, 10_000, 16_384, 30_000] {
            let (mut buffer, data) = filled();
            assert_eq!(buffer.rebase(cut), cut);
            assert_eq!(
                (buffer.base(), buffer.released(), buffer.end()),
                (cut, cut, 30_000)
            );
            assert_eq!(
                buffer.sum_to(30_000),
                Some(crc32c::crc32c(&data[cut as usize..])),
                "{cut}"
            );
            if cut < 30_000 {
                let frame = buffer.frame_at(cut).unwrap();
                assert_eq!(frame.checksums, block_checksums(&frame.data));
            }
        }
    }
}
