//! CRC32C over blocks of 4 KiB: the checksums that travel with a payload and lie beside it on disk.

use drystone_types::CHECKSUM_BLOCK;

/// The checksum of each 4 KiB block of `data`; the last block may be shorter and is summed as it is.
pub fn block_checksums(data: &[u8]) -> Vec<u32> {
    data.chunks(CHECKSUM_BLOCK).map(crc32c::crc32c).collect()
}

/// The index of the first block of `data` whose checksum is not the one in `expected`, or `None` if all match.
/// A wrong number of checksums counts as a mismatch at the first block without a partner.
pub fn first_mismatch(data: &[u8], expected: &[u32]) -> Option<usize> {
    let blocks = data.len().div_ceil(CHECKSUM_BLOCK);
    let found = data.chunks(CHECKSUM_BLOCK).zip(expected).position(|(block, &sum)| crc32c::crc32c(block) != sum);
    found.or_else(|| (blocks != expected.len()).then(|| blocks.min(expected.len())))
}

/// The checksum of `length` bytes from the checksums of their 4 KiB blocks.
pub fn combine(blocks: &[u32], length: u64) -> u32 {
    let block = CHECKSUM_BLOCK as u64;
    let mut left = length;
    blocks.iter().fold(0, |sum, &next| {
        let here = left.min(block);
        left -= here;
        crc32c::crc32c_combine(sum, next, here as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_combine_to_the_whole() {
        let data: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
        let sums = block_checksums(&data);
        assert_eq!(combine(&sums, 10_000), crc32c::crc32c(&data));
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
