//! Contents that say which write they come from, so that a mixture of two is seen at any byte.

use bytes::Bytes;
use std::collections::BTreeMap;

/// Bytes `offset..offset + length` of what one write wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Piece {
    /// Number of the write; every write has its own.
    pub write: u32,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}

/// Size and checksum of some bytes: what a reader saw.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Digest {
    /// Bytes.
    pub size: u64,
    /// CRC32C.
    pub checksum: u32,
}

/// Word `index` of what `write` wrote (SplitMix64's finalizer over both).
fn word(write: u32, index: u32) -> u64 {
    let mut z = (u64::from(write) << 32 | u64::from(index)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Piece {
    /// All of a write.
    pub fn whole(write: u32, length: u32) -> Self {
        Self {
            write,
            offset: 0,
            length,
        }
    }

    /// Its bytes.
    pub fn bytes(self) -> Bytes {
        let end = self.offset + self.length;
        let first = self.offset / 8;
        let mut bytes = Vec::with_capacity(self.length as usize + 16);
        for index in first..end.div_ceil(8) {
            bytes.extend_from_slice(&word(self.write, index).to_le_bytes());
        }
        let skip = (self.offset - first * 8) as usize;
        Bytes::from(bytes).slice(skip..skip + self.length as usize)
    }

    /// It without its first `count` bytes, of which it has at least as many.
    fn after(self, count: u32) -> Self {
        Self {
            offset: self.offset + count,
            length: self.length - count,
            ..self
        }
    }
}

/// The digest of bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest {
        size: bytes.len() as u64,
        checksum: crc32c::crc32c(bytes),
    }
}

/// What `pieces` are with the bytes from `offset` on replaced by `piece`; `None` if it would leave a gap.
pub fn overwrite(pieces: &[Piece], offset: u64, piece: Piece) -> Option<Vec<Piece>> {
    let size = size(pieces);
    if offset > size {
        return None;
    }
    let mut out = Vec::with_capacity(pieces.len() + 2);
    let (mut at, end) = (0, offset + u64::from(piece.length));
    for old in pieces {
        let next = at + u64::from(old.length);
        if at < offset {
            let keep = (offset.min(next) - at) as u32;
            out.push(Piece { length: keep, ..*old });
        }
        at = next;
    }
    if piece.length > 0 {
        out.push(piece);
    }
    at = 0;
    for old in pieces {
        let next = at + u64::from(old.length);
        if next > end {
            out.push(old.after(end.max(at).saturating_sub(at) as u32));
        }
        at = next;
    }
    Some(out)
}

/// Bytes of all pieces.
pub fn size(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| u64::from(piece.length)).sum()
}

/// Digests of contents, computed once each.
#[derive(Default)]
pub struct Digests(BTreeMap<Vec<Piece>, Digest>);

impl Digests {
    /// The digest of the content that consists of `pieces`.
    pub fn of(&mut self, pieces: &[Piece]) -> Digest {
        if let Some(known) = self.0.get(pieces) {
            return *known;
        }
        let mut checksum = 0;
        for piece in pieces {
            checksum = crc32c::crc32c_append(checksum, &piece.bytes());
        }
        let digest = Digest {
            size: size(pieces),
            checksum,
        };
        self.0.insert(pieces.to_vec(), digest);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(pieces: &[Piece]) -> Vec<u8> {
        pieces.iter().flat_map(|piece| piece.bytes()).collect()
    }

    #[test]
    fn an_overwrite_is_what_it_is_on_plain_bytes() {
        let base = [Piece::whole(1, 100), Piece::whole(2, 51), Piece::whole(3, 7)];
        for offset in 0..=158_u64 {
            for length in [0, 1, 49, 60, 200] {
                let piece = Piece::whole(9, length);
                let pieces = overwrite(&base, offset, piece).unwrap();
                let mut expected = flat(&base);
                let end = (offset as usize + length as usize).min(expected.len());
                expected.splice(offset as usize..end, piece.bytes());
                assert_eq!(flat(&pieces), expected, "{offset} {length}");
                assert_eq!(Digests::default().of(&pieces), digest(&expected));
            }
        }
        assert_eq!(overwrite(&base, 159, Piece::whole(9, 1)), None);
    }
}
