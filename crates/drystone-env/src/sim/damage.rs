//! Changes of a disk's contents that are told by bytes: what a fuzzer mutates to make damaged images.
//!
//! ```text
//! change, 8 bytes:
//!  0  u8   what % 9, see below; bit 7: checksums are made to fit afterwards (a forgery)
//!  1  u8   file: index among those of the disk, sorted by name, modulo their number
//!  2  u16  block in the file, modulo their number
//!  4  u16  byte in the block, modulo 4096
//!  6  u8   value
//!  7  u8   other: another file, as 1
//! what: 0 flip bit `value % 8`   1 fill the block with zeros   2 truncate   3 copy block `value` of `other` here
//!       4 remove the file   5 exchange the contents of file and `other`   6 append a block of zeros
//!       7 write the `value % 64 + 1` bytes that follow the change   8 write the extreme u64 number `value`
//! ```
//! Little-endian. What the bytes do not fill is zero, so that every input means something.

use super::SimDisk;
use crate::Disk;

const BLOCK: usize = 4096;
/// More changes than any two faults need: an input's time stays bounded.
const MOST_CHANGES: usize = 24;
const EXTREMES: [u64; 8] = [
    0,
    1,
    u64::MAX,
    u64::MAX - 1,
    1 << 63,
    1 << 32,
    u32::MAX as u64,
    1 << 16,
];

/// What a script did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// Changes.
    pub changes: usize,
    /// Bytes of the script's choice were written, or checksums made to fit: what opens may hold anything.
    pub forged: bool,
}

/// Makes the checksums of a file (its name and contents) fit again after a change at this offset.
pub type Reseal<'a> = &'a dyn Fn(&str, &mut [u8], usize);

struct Change<'a> {
    what: u8,
    file: u8,
    block: u16,
    byte: u16,
    value: u8,
    other: u8,
    literal: &'a [u8],
}

impl<'a> Change<'a> {
    fn take(script: &mut &'a [u8]) -> Self {
        let mut bytes = [0; 8];
        let count = script.len().min(8);
        bytes[..count].copy_from_slice(&script[..count]);
        *script = &script[count..];
        let [what, file, b0, b1, o0, o1, value, other] = bytes;
        let mut literal: &[u8] = &[];
        if what % 128 % 9 == 7 {
            (literal, *script) = script.split_at(script.len().min(usize::from(value % 64) + 1));
        }
        Self {
            what,
            file,
            block: u16::from_le_bytes([b0, b1]),
            byte: u16::from_le_bytes([o0, o1]),
            value,
            other,
            literal,
        }
    }
}

impl SimDisk {
    /// Changes the files as `script` says (see `sim/damage.rs`), durably.
    pub fn damage(&self, mut script: &[u8], reseal: Reseal<'_>) -> Damage {
        let mut done = Damage::default();
        while !script.is_empty() && done.changes < MOST_CHANGES {
            let change = Change::take(&mut script);
            let files = self.files();
            let pick = |index: u8| files.get(usize::from(index) % files.len().max(1));
            let (Some(name), Some(other)) = (pick(change.file), pick(change.other)) else {
                break;
            };
            done.changes += 1;
            done.forged |= self.change(&change, name, other, reseal);
        }
        done
    }

    /// True if it is a forgery.
    fn change(&self, change: &Change<'_>, name: &str, other: &str, reseal: Reseal<'_>) -> bool {
        let mut bytes = self.contents(name).unwrap_or_default();
        let start = usize::from(change.block) % bytes.len().div_ceil(BLOCK).max(1) * BLOCK;
        let at = (start + usize::from(change.byte) % BLOCK).min(bytes.len());
        let end = (start + BLOCK).min(bytes.len());
        let what = change.what % 128 % 9;
        match what {
            0 => bytes[at..]
                .iter_mut()
                .take(1)
                .for_each(|byte| *byte ^= 1 << (change.value % 8)),
            1 => bytes[start..end].fill(0),
            2 => bytes.truncate(at),
            3 => {
                let from = self.contents(other).unwrap_or_default();
                let blocks = from.len().div_ceil(BLOCK).max(1);
                let from = from
                    .get(usize::from(change.value) % blocks * BLOCK..)
                    .unwrap_or(&[]);
                overwrite(&mut bytes[start..end], from);
            }
            4 => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                self.unlink(name)
                    .and_then(|()| self.sync_dir(directory))
                    .expect("a disk without armed faults removes a file that it has");
                return false;
            }
            5 => {
                let theirs = self.contents(other).unwrap_or_default();
                self.set_contents(other, &bytes);
                bytes = theirs;
            }
            6 => bytes.resize(bytes.len() + BLOCK, 0),
            7 => overwrite(&mut bytes[at..], change.literal),
            _ => overwrite(
                &mut bytes[at..],
                &EXTREMES[usize::from(change.value % 8)].to_le_bytes(),
            ),
        }
        let resealed = change.what >= 128;
        if resealed {
            reseal(name, &mut bytes, at);
        }
        self.set_contents(name, &bytes);
        resealed || what >= 7
    }
}

/// As much of `from` as fits.
fn overwrite(to: &mut [u8], from: &[u8]) {
    let count = to.len().min(from.len());
    to[..count].copy_from_slice(&from[..count]);
}
