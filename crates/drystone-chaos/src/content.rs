//! Files that say what they are: every block names its file, the operation that wrote it and its place, and has a
//! checksum, so that a read tells by itself whether bytes are whole, of one version, and where they belong.

use drystone_system::files::Seed;

/// Bytes of a block. Smaller than the blocks that the product checks, so that files end in the middle of those.
pub const BLOCK: usize = 512;
/// How every block begins.
pub const MAGIC: &[u8; 8] = b"DCHAOS01";
const HEAD: usize = 24;

/// What a file holds: for each block the operation that wrote it. `None`: there is no file.
pub type Content = Option<Vec<u32>>;

/// The bytes of blocks `first..` of a file, written by operation `sequence`.
pub fn write(file: u32, sequence: u32, first: u32, count: u32) -> Vec<u8> {
    (first..first + count)
        .flat_map(|index| block(file, sequence, index))
        .collect()
}

/// The bytes of a whole file.
#[cfg(test)]
fn whole(file: u32, sequences: &[u32]) -> Vec<u8> {
    (0..)
        .zip(sequences)
        .flat_map(|(index, sequence)| block(file, *sequence, index))
        .collect()
}

/// magic 8 | file 4 | sequence 4 | index 4 | crc32c of all but itself 4 | bytes of a seed
fn block(file: u32, sequence: u32, index: u32) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&file.to_le_bytes());
    out[12..16].copy_from_slice(&sequence.to_le_bytes());
    out[16..20].copy_from_slice(&index.to_le_bytes());
    let mut seed = Seed((u64::from(file) << 40) ^ (u64::from(sequence) << 20) ^ u64::from(index));
    for word in out[HEAD..].chunks_exact_mut(8) {
        word.copy_from_slice(&seed.draw().to_le_bytes());
    }
    let sum = checksum(&out);
    out[20..HEAD].copy_from_slice(&sum.to_le_bytes());
    out
}

fn checksum(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..20]), &block[HEAD..])
}

/// Which operations wrote the blocks of `bytes`.
///
/// # Errors
/// The first block that is damaged, of another file or in another place, in words.
pub fn read(file: u32, bytes: &[u8]) -> Result<Vec<u32>, String> {
    if !bytes.len().is_multiple_of(BLOCK) {
        return Err(format!("{} bytes are no whole number of blocks", bytes.len()));
    }
    let number = |block: &[u8], at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&block[at..at + 4]);
        u32::from_le_bytes(four)
    };
    (0..)
        .zip(bytes.chunks_exact(BLOCK))
        .map(|(index, block)| {
            if &block[..8] != MAGIC || number(block, 20) != checksum(block) {
                let zeros = if block.iter().all(|byte| *byte == 0) {
                    " (zeros)"
                } else {
                    ""
                };
                return Err(format!("block {index} is damaged{zeros}"));
            }
            if number(block, 8) != file || number(block, 16) != index {
                return Err(format!(
                    "in the place of block {index} is block {} of file {}, operation {}",
                    number(block, 16),
                    number(block, 8),
                    number(block, 12)
                ));
            }
            Ok(number(block, 12))
        })
        .collect()
}

/// Content in few words: runs of blocks of one operation.
pub fn describe(content: &Content) -> String {
    let Some(sequences) = content else {
        return "absent".to_owned();
    };
    let runs: Vec<String> = sequences
        .chunk_by(|a, b| a == b)
        .map(|run| format!("{}x{}", run[0], run.len()))
        .collect();
    format!("[{}]", runs.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_read_back_and_damage_is_named() {
        let bytes = whole(7, &[3, 3, 4]);
        assert_eq!(read(7, &bytes), Ok(vec![3, 3, 4]));
        assert_eq!(bytes[2 * BLOCK..], write(7, 4, 2, 1));
        assert!(read(8, &bytes).is_err(), "another file");
        assert!(read(7, &bytes[BLOCK..]).is_err(), "another place");
        assert!(read(7, &bytes[..700]).is_err(), "half a block");
        for at in [0, 13, 21, 100, 511, 900] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(read(7, &bytes).is_err(), "a flip at {at}");
        }
        assert_eq!(describe(&Some(vec![3, 3, 4])), "[3x2 4x1]");
    }
}
