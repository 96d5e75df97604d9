//! CRC32C over blocks of 4 KiB: the checksums that travel with a payload and lie beside it on disk.

use drystone_types::CHECKSUM_BLOCK;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// The checksums of the 4 KiB blocks of a payload, shared: a clone copies none of them, and none of them cost nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checksums(Option<Arc<[u32]>>);

impl Checksums {
    /// Those of `data`, see [`block_checksums`].
    pub fn of(data: &[u8]) -> Self {
        data.chunks(CHECKSUM_BLOCK).map(crc32c::crc32c).collect()
    }
}

impl Deref for Checksums {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl FromIterator<u32> for Checksums {
    fn from_iter<I: IntoIterator<Item = u32>>(sums: I) -> Self {
        let mut sums = sums.into_iter().peekable();
        Self(sums.peek().is_some().then(|| sums.collect()))
    }
}

impl From<&[u32]> for Checksums {
    fn from(sums: &[u32]) -> Self {
        Self((!sums.is_empty()).then(|| sums.into()))
    }
}

impl From<Vec<u32>> for Checksums {
    fn from(sums: Vec<u32>) -> Self {
        Self::from(&sums[..])
    }
}

impl PartialEq<Vec<u32>> for Checksums {
    fn eq(&self, other: &Vec<u32>) -> bool {
        self[..] == other[..]
    }
}

/// The checksum of each 4 KiB block of `data`; the last block may be shorter and is summed as it is.
pub fn block_checksums(data: &[u8]) -> Vec<u32> {
    data.chunks(CHECKSUM_BLOCK).map(crc32c::crc32c).collect()
}

/// The index of the first block of `data` whose checksum is not the one in `expected`, or `None` if all match.
/// A wrong number of checksums counts as a mismatch at the first block without a partner.
pub fn first_mismatch(data: &[u8], expected: &[u32]) -> Option<usize> {
    let blocks = data.len().div_ceil(CHECKSUM_BLOCK);
    let found = data
        .chunks(CHECKSUM_BLOCK)
        .zip(expected)
        .position(|(block, &sum)| crc32c::crc32c(block) != sum);
    found.or_else(|| (blocks != expected.len()).then(|| blocks.min(expected.len())))
}

type Tables = [[u32; 256]; 4];

/// What a checksum becomes when 4 KiB of zeros follow, for each value of each of its bytes: a checksum is linear in
/// its bits, so four look-ups do what a general combination needs some hundred steps for.
fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = [[0; 256]; 4];
        for (byte, table) in tables.iter_mut().enumerate() {
            let bits: Vec<u32> = (0..8)
                .map(|bit| crc32c::crc32c_combine(1 << (8 * byte + bit), 0, CHECKSUM_BLOCK))
                .collect();
            for (value, slot) in table.iter_mut().enumerate() {
                let set = bits.iter().enumerate().filter(|(bit, _)| value >> bit & 1 == 1);
                *slot = set.fold(0, |sum, (_, bits)| sum ^ bits);
            }
        }
        tables
    })
}

/// The checksum of what `sum` covers followed by the whole 4 KiB block with checksum `block`.
pub fn append_block(sum: u32, block: u32) -> u32 {
    let [a, b, c, d] = sum.to_le_bytes();
    let [t0, t1, t2, t3] = tables();
    t0[a as usize] ^ t1[b as usize] ^ t2[c as usize] ^ t3[d as usize] ^ block
}

/// The checksum of `length` bytes from the checksums of their 4 KiB blocks, the last of which may be shorter.
pub fn combine(blocks: &[u32], length: u64) -> u32 {
    let whole = (length / CHECKSUM_BLOCK as u64) as usize;
    let sum = blocks
        .iter()
        .take(whole)
        .fold(0, |sum, &block| append_block(sum, block));
    match blocks.get(whole) {
        Some(&last) => crc32c::crc32c_combine(sum, last, (length % CHECKSUM_BLOCK as u64) as usize),
        None => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_checksums_are_those_of_the_blocks_and_none_are_equal_to_none() {
        let data = [7; 10_000];
        assert_eq!(Checksums::of(&data), block_checksums(&data));
        assert_eq!(Checksums::from(block_checksums(&data)), Checksums::of(&data));
        assert_eq!(Checksums::of(&[]), Checksums::default());
        assert_eq!(Checksums::from(Vec::new()), Checksums::default());
        assert!(Checksums::default().is_empty());
    }

    #[test]
    fn blocks_combine_to_the_whole() {
        let data: Vec<u8> = (0..40_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        for length in [0, 1, 4095, 4096, 4097, 8192, 10_000, 40_000] {
            let sums = block_checksums(&data[..length]);
            assert_eq!(
                combine(&sums, length as u64),
                crc32c::crc32c(&data[..length]),
                "{length}"
            );
        }
        assert_eq!(combine(&[], 0), 0);
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_block() {
        let mut data = vec![3; 9000];
        let sums = block_checksums(&data);
        assert_eq!(first_mismatch(&data, &sums), None);
        data[5000] ^= 1;
        assert_eq!(first_mismatch(&data, &sums), Some(1));
        data[5000] ^= 1;
        assert_eq!(first_mismatch(&data, &sums[..2]), Some(2));
    }
}
