//! Keys of the one keyspace: a table byte, then big-endian numbers, so that byte order is the order we scan in.
//!
//! | byte | table | key | record |
//! |---|---|---|---|
//! | 00 | local to this store | 01: state, 02 n: chain of batch n, 03: installing | see [`crate::chain`] |
//! | 01 | inodes | inode | `InodeRecord` |
//! | 02 | names | parent, name | `DentryRecord` |
//! | 03 | extents | inode, file offset | `ExtentRecord` |
//! | 04 | chunks | chunk | `ChunkRecord` |
//! | 05 | replicas by disk | disk, incarnation, chunk, placement | `MarkRecord` |
//! | 06 | references by chunk | chunk, chunk offset, inode, file offset | `ReferenceRecord` |
//! | 07 | nodes | node | `NodeRecord` |
//! | 08 | allocated chunk ids | first id | `RangeRecord` |
//! | 09 | sessions | client | `SessionRecord` |
//! | 0a | answers | client, sequence | `AnswerRecord` |
//! | 0b | session checks | log time, client | `MarkRecord` |
//! | 0c | idempotency keys | caller length, caller, key | `KeyRecord` |
//! | 0d | key expiry | log time, caller length, caller, key | `MarkRecord` |
//! | 0e | keys per caller | caller | `KeyCountRecord` |
//! | 0f | reclaim queue | inode | `MarkRecord` |
//! | 10 | staging leases | log time, inode | `MarkRecord` |
//! | 11 | doomed chunks | chunk | `MarkRecord` |
//! | 12 | chunks by set of disks | disk, incarnation, replicas wanted (1 byte), the other disks with incarnations | `DiskSetRecord` |
//! | 13 | chunks below their policy | chunk | `MarkRecord` |
//! | 14 | closed sessions | log time at which to forget it, client | `MarkRecord` |
//! | 15 | chunks given up, until the grant floor has passed them | chunk | `MarkRecord` |

use drystone_types::DiskRef;
use std::fmt;

/// Bytes kept in the key itself; every key but those of long names fits.
const INLINE: usize = 46;

/// A key. Short ones are stored in place: the maps above the store compare millions of them.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Short { len: u8, bytes: [u8; INLINE] },
    Long(Box<[u8]>),
}

impl Key {
    /// A key of these bytes.
    pub fn from_slice(key: &[u8]) -> Self {
        Self::of(&[key])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > INLINE {
            return Self(Repr::Long(parts.concat().into_boxed_slice()));
        }
        let mut bytes = [0; INLINE];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Self(Repr::Short {
            len: len as u8,
            bytes,
        })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}
impl Eq for Key {}
impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}
impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.as_slice()))
    }
}

/// `key` for people.
pub(crate) fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Table bytes.
pub(crate) mod table {
    pub(crate) const LOCAL: u8 = 0x00;
    pub(crate) const INODE: u8 = 0x01;
    pub(crate) const DENTRY: u8 = 0x02;
    pub(crate) const EXTENT: u8 = 0x03;
    pub(crate) const CHUNK: u8 = 0x04;
    pub(crate) const REPLICA: u8 = 0x05;
    pub(crate) const REFERENCE: u8 = 0x06;
    pub(crate) const NODE: u8 = 0x07;
    pub(crate) const RANGE: u8 = 0x08;
    pub(crate) const SESSION: u8 = 0x09;
    pub(crate) const ANSWER: u8 = 0x0a;
    pub(crate) const SESSION_CHECK: u8 = 0x0b;
    pub(crate) const IDEMPOTENCY: u8 = 0x0c;
    pub(crate) const IDEMPOTENCY_EXPIRY: u8 = 0x0d;
    pub(crate) const IDEMPOTENCY_COUNT: u8 = 0x0e;
    pub(crate) const RECLAIM: u8 = 0x0f;
    pub(crate) const LEASE: u8 = 0x10;
    pub(crate) const DOOMED: u8 = 0x11;
    pub(crate) const DISK_SET: u8 = 0x12;
    pub(crate) const BELOW: u8 = 0x13;
    pub(crate) const CLOSED_SESSION: u8 = 0x14;
    pub(crate) const ABANDONED: u8 = 0x15;
    /// First byte above every table.
    pub(crate) const END: u8 = 0x16;
}

/// A key of a table byte and numbers.
pub(crate) fn numbers<const N: usize>(table: u8, numbers: [u64; N]) -> Key {
    const { assert!(N <= 5, "must fit in place") };
    let mut bytes = [0; INLINE];
    bytes[0] = table;
    for (i, number) in numbers.iter().enumerate() {
        bytes[1 + 8 * i..9 + 8 * i].copy_from_slice(&number.to_be_bytes());
    }
    Key(Repr::Short {
        len: (1 + 8 * N) as u8,
        bytes,
    })
}

/// A name in a directory.
pub(crate) fn dentry(parent: u64, name: &str) -> Key {
    Key::of(&[&[table::DENTRY], &parent.to_be_bytes(), name.as_bytes()])
}

/// What the keys of the sets of disks begin with that are entered under `disk`.
pub(crate) fn disk_sets_of(disk: DiskRef) -> Key {
    numbers(table::DISK_SET, [disk.disk.0, disk.incarnation.0])
}

/// The chunks that want `wanted` replicas and have them on exactly `disks`, as entered under `disk`, which is one of
/// them (or no disk).
pub(crate) fn disk_set(disk: DiskRef, wanted: u32, disks: &[DiskRef]) -> Key {
    let mut key = Vec::with_capacity(18 + 16 * disks.len());
    key.push(table::DISK_SET);
    key.extend_from_slice(&disk.disk.0.to_be_bytes());
    key.extend_from_slice(&disk.incarnation.0.to_be_bytes());
    key.push(wanted.min(255) as u8);
    for other in disks.iter().filter(|other| **other != disk) {
        key.extend_from_slice(&other.disk.0.to_be_bytes());
        key.extend_from_slice(&other.incarnation.0.to_be_bytes());
    }
    Key::from_slice(&key)
}

/// A session.
pub(crate) fn session(client: &[u8; 16]) -> Key {
    Key::of(&[&[table::SESSION], client])
}

/// An answer of a session.
pub(crate) fn answer(client: &[u8; 16], sequence: u64) -> Key {
    Key::of(&[&[table::ANSWER], client, &sequence.to_be_bytes()])
}

/// When to look at a session again.
pub(crate) fn session_check(time: u64, client: &[u8; 16]) -> Key {
    Key::of(&[&[table::SESSION_CHECK], &time.to_be_bytes(), client])
}

/// When to forget a closed session.
pub(crate) fn closed_session(time: u64, client: &[u8; 16]) -> Key {
    Key::of(&[&[table::CLOSED_SESSION], &time.to_be_bytes(), client])
}

/// An idempotency key. `user` has at most 255 bytes.
pub(crate) fn idempotency(user: &str, key: &str) -> Key {
    Key::of(&[
        &[table::IDEMPOTENCY],
        &[user.len() as u8],
        user.as_bytes(),
        key.as_bytes(),
    ])
}

/// When an idempotency key may be forgotten; what follows the time is its key without the table byte.
pub(crate) fn idempotency_expiry(time: u64, user: &str, key: &str) -> Key {
    let time = time.to_be_bytes();
    Key::of(&[
        &[table::IDEMPOTENCY_EXPIRY],
        &time,
        &[user.len() as u8],
        user.as_bytes(),
        key.as_bytes(),
    ])
}

/// How many idempotency keys a caller has.
pub(crate) fn idempotency_count(user: &str) -> Key {
    Key::of(&[&[table::IDEMPOTENCY_COUNT], user.as_bytes()])
}

/// A record of this store alone.
pub(crate) fn local(kind: u8) -> Key {
    Key::of(&[&[table::LOCAL, kind]])
}

/// The chain record of a batch.
pub(crate) fn chain(number: u64) -> Key {
    Key::of(&[&[table::LOCAL, 2], &number.to_be_bytes()])
}

/// The first key above every key that begins with `prefix` (which is not all 0xff).
pub(crate) fn above(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The key directly above `key`.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// The big-endian number at byte `at` of a key.
pub(crate) fn number_at(key: &[u8], at: usize) -> Option<u64> {
    key.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_keys_compare_by_their_bytes() {
        let long = "x".repeat(255);
        assert!(dentry(1, "a") < dentry(1, &long));
        assert!(dentry(1, &long) < dentry(1, "y"));
        assert!(dentry(1, &long) < dentry(2, "a"));
        assert_eq!(dentry(1, &long).as_slice().len(), 264);
        assert_eq!(numbers(table::EXTENT, [1, 2]).as_slice().len(), 17);
    }

    #[test]
    fn above_ends_a_prefix() {
        assert_eq!(above(&[1, 2]), [1, 3]);
        assert_eq!(above(&[1, 0xff]), [2]);
        assert_eq!(number_at(numbers(1, [7, 9]).as_slice(), 9), Some(9));
        assert_eq!(number_at(&[1, 2], 1), None);
    }
}
