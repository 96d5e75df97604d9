//! The bytes of a chunk that are in memory.

use crate::format::BLOCK;
use bytes::Bytes;
use drystone_env::BufferPool;
use std::collections::VecDeque;

/// Bytes in order from `start` on.
#[derive(Debug, Default)]
pub(crate) struct ChunkBuffer {
    pub(crate) start: u64,
    length: u64,
    parts: VecDeque<Bytes>,
}

impl ChunkBuffer {
    pub(crate) fn starting_at(start: u64) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.length
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.length += part.len() as u64;
            self.parts.push_back(part);
        }
    }

    /// The bytes from `from` to `to`, which must be here.
    pub(crate) fn slice(&self, from: u64, to: u64) -> Vec<Bytes> {
        assert!(
            self.start <= from && from <= to && to <= self.end(),
            "{from}..{to} of {:?}",
            self.start..self.end()
        );
        let mut at = self.start;
        let mut found = Vec::new();
        for part in &self.parts {
            let end = at + part.len() as u64;
            let (low, high) = (from.max(at), to.min(end));
            if low < high {
                found.push(part.slice((low - at) as usize..(high - at) as usize));
            }
            at = end;
        }
        found
    }

    /// Takes what is before `to` off the front.
    pub(crate) fn take(&mut self, to: u64) -> Vec<Bytes> {
        let taken = self.slice(self.start, to);
        let mut left = to - self.start;
        while left > 0 {
            let Some(first) = self.parts.front_mut() else {
                break;
            };
            if first.len() as u64 > left {
                let _ = first.split_to(left as usize);
                break;
            }
            left -= first.len() as u64;
            self.parts.pop_front();
        }
        self.length -= to - self.start;
        self.start = to;
        taken
    }

    /// Cuts it at `end`.
    pub(crate) fn truncate(&mut self, end: u64) {
        if end <= self.start {
            *self = Self::starting_at(end);
        } else if end < self.end() {
            self.parts = self.slice(self.start, end).into();
            self.length = end - self.start;
        }
    }
}

/// `parts` such that each is of whole blocks, padded with zeros at the end; copied only if they are not.
pub(crate) fn whole_blocks(parts: Vec<Bytes>, pool: &BufferPool) -> Vec<Bytes> {
    if parts.iter().all(|part| (part.len() as u64).is_multiple_of(BLOCK)) {
        return parts;
    }
    let length: usize = parts.iter().map(Bytes::len).sum();
    let mut buffer = pool.take(length.next_multiple_of(BLOCK as usize));
    let mut at = 0;
    for part in &parts {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    buffer[at..].fill(0);
    vec![buffer.freeze()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_gives_back_what_it_took() {
        let mut buffer = ChunkBuffer::default();
        for part in ["abc", "", "defg", "h"] {
            buffer.push(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(buffer.slice(2, 5).concat(), b"cde");
        assert_eq!(buffer.take(4).concat(), b"abcd");
        assert_eq!((buffer.start, buffer.end()), (4, 8));
        assert_eq!(buffer.slice(4, 8).concat(), b"efgh");
        buffer.truncate(6);
        assert_eq!(buffer.slice(4, 6).concat(), b"ef");
        buffer.truncate(2);
        assert_eq!((buffer.start, buffer.end()), (2, 2));
    }
}
