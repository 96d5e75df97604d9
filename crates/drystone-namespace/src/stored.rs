//! What a record must be to stand under its key, checked on both sides of the store: before it is written, where a fault
//! is one of the program, and after it was read, where it is damage.

use crate::key::{number_at, table};
use crate::records::{
    AnswerRecord, ChainRecord, DiskSetRecord, KeyCountRecord, KeyRecord, MarkRecord, RangeRecord,
    ReferenceRecord, SessionRecord, StateRecord,
};
use drystone_proto::record::{ChunkRecord, DentryRecord, ExtentRecord, InodeRecord, NodeRecord};
use prost::Message;

/// See the module.
pub(crate) trait Stored: Message + Default {
    /// What `key` should have instead of this record, if it is not one of its own.
    fn fault_under(&self, _key: &[u8]) -> Option<&'static str> {
        None
    }
}

fn is_of(key: &[u8], table: u8, id: u64) -> bool {
    key.first() == Some(&table) && number_at(key, 1) == Some(id)
}

impl Stored for InodeRecord {
    fn fault_under(&self, key: &[u8]) -> Option<&'static str> {
        (!is_of(key, table::INODE, self.id)).then_some("the inode of its id")
    }
}

impl Stored for ChunkRecord {
    fn fault_under(&self, key: &[u8]) -> Option<&'static str> {
        if !is_of(key, table::CHUNK, self.id) {
            return Some("the chunk of its id");
        }
        self.replicas.is_empty().then_some("a chunk with replicas")
    }
}

impl Stored for NodeRecord {
    fn fault_under(&self, key: &[u8]) -> Option<&'static str> {
        if !is_of(key, table::NODE, self.id) {
            return Some("the node of its id");
        }
        if self.removing && (self.removed || !self.fenced) {
            return Some("a node that is being removed is fenced, and not removed yet");
        }
        let is_gone = self.fenced && self.disks.is_empty();
        (self.removed && !is_gone).then_some("a removed node that is fenced and has no disks")
    }
}

impl Stored for DentryRecord {
    fn fault_under(&self, _key: &[u8]) -> Option<&'static str> {
        (self.inode == 0).then_some("the name of an inode")
    }
}

impl Stored for DiskSetRecord {
    fn fault_under(&self, _key: &[u8]) -> Option<&'static str> {
        (self.chunks == 0).then_some("a set of disks with chunks")
    }
}

impl Stored for RangeRecord {
    fn fault_under(&self, _key: &[u8]) -> Option<&'static str> {
        (self.count == 0 || self.index == 0).then_some("a range of ids that an entry took")
    }
}

impl Stored for ExtentRecord {}
impl Stored for ReferenceRecord {}
impl Stored for SessionRecord {}
impl Stored for AnswerRecord {}
impl Stored for KeyRecord {}
impl Stored for KeyCountRecord {}
impl Stored for MarkRecord {}
impl Stored for StateRecord {}
impl Stored for ChainRecord {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, numbers};
    use crate::memory::MemoryStore;
    use crate::records::{decode, decode_slice, encode};
    use crate::tables::Tables;
    use drystone_proto::record::PlacedReplica;
    use std::sync::Arc;

    fn chunk(id: u64) -> ChunkRecord {
        ChunkRecord {
            id,
            replicas: vec![PlacedReplica::default()],
            ..ChunkRecord::default()
        }
    }

    #[test]
    fn a_record_under_the_key_of_another_is_damage() {
        let removed = NodeRecord {
            id: 7,
            removed: true,
            ..NodeRecord::default()
        };
        let released = NodeRecord {
            id: 7,
            removing: true,
            ..NodeRecord::default()
        };
        fn check<R: Stored + std::fmt::Debug>(record: R, key: Key) {
            let value = encode(&record);
            assert!(decode::<R>(key.as_slice(), &value).is_err(), "{record:?}");
            assert!(decode_slice::<R>(key.as_slice(), &value).is_err(), "{record:?}");
        }
        check(chunk(7), numbers(table::CHUNK, [8]));
        check(chunk(7), numbers(table::INODE, [7]));
        check(
            ChunkRecord {
                replicas: Vec::new(),
                ..chunk(7)
            },
            numbers(table::CHUNK, [7]),
        );
        check(removed, numbers(table::NODE, [7]));
        check(released, numbers(table::NODE, [7]));
        check(
            InodeRecord {
                id: 7,
                ..InodeRecord::default()
            },
            numbers(table::INODE, [8]),
        );
        check(DentryRecord::default(), crate::key::dentry(1, "a"));
        let right = numbers(table::CHUNK, [7]);
        assert_eq!(
            decode::<ChunkRecord>(right.as_slice(), &encode(&chunk(7))).unwrap(),
            chunk(7)
        );
    }

    #[test]
    #[should_panic(expected = "the chunk of its id")]
    fn a_record_under_the_key_of_another_is_not_written() {
        let mut tables = Tables::new(Arc::new(MemoryStore::new()));
        tables.put(numbers(table::CHUNK, [8]), &chunk(7));
    }
}
