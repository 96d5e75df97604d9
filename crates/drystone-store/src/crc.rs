//! The checksum of a whole chunk from those of its blocks, at the cost of four table look-ups a block.

use drystone_types::CHECKSUM_BLOCK;
use std::sync::OnceLock;

type Tables = [[u32; 256]; 4];

/// What a checksum becomes when 4 KiB of zeros follow, for each of its bytes.
fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = [[0; 256]; 4];
        for (byte, table) in tables.iter_mut().enumerate() {
            let bits: Vec<u32> = (0..8)
                .map(|bit| crc32c::crc32c_combine(1 << (8 * byte + bit), 0, CHECKSUM_BLOCK))
                .collect();
            for (value, slot) in table.iter_mut().enumerate() {
                *slot = bits
                    .iter()
                    .enumerate()
                    .filter(|(bit, _)| value >> bit & 1 == 1)
                    .fold(0, |sum, (_, b)| sum ^ b);
            }
        }
        tables
    })
}

/// The checksum of what `sum` covers followed by the 4 KiB block with checksum `block`.
pub(crate) fn append_block(sum: u32, block: u32) -> u32 {
    let [a, b, c, d] = sum.to_le_bytes();
    let [t0, t1, t2, t3] = tables();
    t0[a as usize] ^ t1[b as usize] ^ t2[c as usize] ^ t3[d as usize] ^ block
}

/// The checksum of `length` bytes from the checksums of their blocks, the last of which may be shorter.
pub(crate) fn combine(blocks: &[u32], length: u64) -> u32 {
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
    fn blocks_combine_to_the_whole() {
        let data: Vec<u8> = (0..40_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        for length in [0, 1, 4095, 4096, 4097, 8192, 40_000] {
            let sums = drystone_proto::checksum::block_checksums(&data[..length]);
            assert_eq!(
                combine(&sums, length as u64),
                crc32c::crc32c(&data[..length]),
                "{length}"
            );
        }
    }
}
