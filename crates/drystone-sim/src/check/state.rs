//! What must hold of a metadata server's stored records, whatever commands came: what only grows grows from batch to
//! batch, and indexes equal what they index.

use bytes::Bytes;
use drystone_namespace::placements::NOWHERE;
use drystone_namespace::records::{DiskSetRecord, StateRecord};
use drystone_proto::Message;
use drystone_proto::record::{ChunkRecord, ChunkState, ExtentRecord, HOLE, InodeRecord, NodeRecord};
use drystone_types::DiskRef;
use std::collections::{BTreeMap, BTreeSet};

/// Records by key, as a store holds them.
pub type Map = BTreeMap<Vec<u8>, Bytes>;

/// Table bytes, as `drystone_namespace::key` has them.
const LOCAL: u8 = 0x00;
const INODE: u8 = 0x01;
const EXTENT: u8 = 0x03;
const CHUNK: u8 = 0x04;
const REPLICA: u8 = 0x05;
const REFERENCE: u8 = 0x06;
const NODE: u8 = 0x07;
const DOOMED: u8 = 0x11;
const DISK_SET: u8 = 0x12;
const BELOW: u8 = 0x13;
/// The one record of totals.
const STATE: &[u8] = &[LOCAL, 1];
/// There while a snapshot is being installed.
const INSTALLING: &[u8] = &[LOCAL, 3];

fn number(key: &[u8], field: usize) -> u64 {
    let bytes = key.get(1 + 8 * field..9 + 8 * field);
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

/// A record behind its version byte.
fn record<R: Message + Default>(value: &Bytes) -> R {
    R::decode(value.slice(1.min(value.len())..)).unwrap_or_default()
}

/// What is wrong with a batch of changes to `before`.
pub fn step(before: &Map, changes: &[(Vec<u8>, Option<Bytes>)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, value) in changes {
        if let (Some(old), Some(new)) = (before.get(key), value) {
            for (what, old, new) in grown(key, old, new) {
                if new < old {
                    faults.push(format!("record {key:02x?}: {what} went from {old} to {new}"));
                }
            }
        }
    }
    faults
}

/// The numbers of a record that never sink.
fn grown(key: &[u8], old: &Bytes, new: &Bytes) -> Vec<(&'static str, u64, u64)> {
    match key.first() {
        Some(&LOCAL) if key == STATE => {
            let (old, new): (StateRecord, StateRecord) = (record(old), record(new));
            vec![
                ("applied", old.applied, new.applied),
                ("log time", old.time, new.time),
                ("grant floor", old.grant_floor, new.grant_floor),
                ("next inode", old.next_inode, new.next_inode),
                ("next chunk", old.next_chunk, new.next_chunk),
            ]
        }
        Some(&INODE) => {
            let (old, new): (InodeRecord, InodeRecord) = (record(old), record(new));
            vec![
                ("since", old.since, new.since),
                ("version", old.version, new.version),
            ]
        }
        Some(&CHUNK) => {
            let (old, new): (ChunkRecord, ChunkRecord) = (record(old), record(new));
            vec![
                ("since", old.since, new.since),
                ("epoch", old.epoch, new.epoch),
                ("length", old.length, new.length),
                // A sealed one has its bytes, and a doomed one no way back.
                ("length, back", new.length, old.length),
                ("checksum", old.checksum.into(), new.checksum.into()),
                ("checksum, back", new.checksum.into(), old.checksum.into()),
                ("doomed at", old.doomed_at, new.doomed_at),
            ]
        }
        Some(&NODE) => {
            let (old, new): (NodeRecord, NodeRecord) = (record(old), record(new));
            vec![
                ("since", old.since, new.since),
                ("boot", old.boot_counter, new.boot_counter),
            ]
        }
        _ => Vec::new(),
    }
}

/// True if there is a record of the node.
pub fn has_node(state: &Map, node: u64) -> bool {
    let mut key = vec![NODE];
    key.extend_from_slice(&node.to_be_bytes());
    state.contains_key(&key)
}

/// What is wrong with the whole: indexes that do not equal what they index, chunks in no file that are not doomed.
/// Nothing is said of a snapshot that is half installed.
pub fn whole(map: &Map) -> Vec<String> {
    if map.contains_key(INSTALLING) {
        return Vec::new();
    }
    let table = |table: u8| map.range(vec![table]..vec![table + 1]);
    let chunks: Vec<ChunkRecord> = table(CHUNK).map(|(_, value)| record(value)).collect();
    let mut faults = Vec::new();
    let mut same = |what: &str, index: BTreeSet<Vec<u64>>, indexed: BTreeSet<Vec<u64>>| {
        if let Some(odd) = index.symmetric_difference(&indexed).next() {
            faults.push(format!("the index of {what} is not what it indexes: {odd:?}"));
        }
    };
    let keys = |name: u8, fields: usize| {
        let keys = table(name).map(|(key, _)| (0..fields).map(|field| number(key, field)).collect());
        keys.collect::<BTreeSet<Vec<u64>>>()
    };
    let replicas = chunks.iter().flat_map(|chunk| {
        let replicas = chunk.holders();
        replicas.map(|replica| vec![replica.disk, replica.incarnation, chunk.id, replica.placement])
    });
    same("replicas by disk", keys(REPLICA, 4), replicas.collect());
    let extents: Vec<(Vec<u64>, ExtentRecord)> = table(EXTENT)
        .map(|(key, value)| (vec![number(key, 0), number(key, 1)], record(value)))
        .collect();
    let in_chunks = || extents.iter().filter(|(_, extent)| extent.chunk != HOLE);
    let references = in_chunks().map(|(at, extent)| vec![extent.chunk, extent.chunk_offset, at[0], at[1]]);
    same("references by chunk", keys(REFERENCE, 4), references.collect());
    let of_state = |state: ChunkState| {
        let chunks = chunks.iter().filter(move |chunk| chunk.state() == state);
        chunks.map(|chunk| vec![chunk.id]).collect::<BTreeSet<_>>()
    };
    let is_below = |chunk: &&ChunkRecord| !chunk.is_doomed() && chunk.redundancy(|_| true) < chunk.wanted();
    let below = chunks.iter().filter(is_below).map(|chunk| vec![chunk.id]);
    same("chunks below their policy", keys(BELOW, 1), below.collect());
    same("doomed chunks", keys(DOOMED, 1), of_state(ChunkState::Doomed));
    let referred = in_chunks().map(|(_, extent)| vec![extent.chunk]).collect();
    same("chunks in files", referred, of_state(ChunkState::Sealed));
    if sets(&chunks) != stored_sets(map) {
        faults.push("the counts of chunks by set of disks are not what the records say".to_owned());
    }
    faults
}

/// How many chunks have their verified replicas on a set of disks, and their bytes, by the key's bytes behind the table.
type Sets = BTreeMap<Vec<u8>, (u64, u64)>;

fn stored_sets(map: &Map) -> Sets {
    let set = |(key, value): (&Vec<u8>, &Bytes)| {
        let set: DiskSetRecord = record(value);
        (key[1..].to_vec(), (set.chunks, set.bytes))
    };
    map.range(vec![DISK_SET]..vec![DISK_SET + 1]).map(set).collect()
}

/// The same from the records of the chunks.
fn sets(chunks: &[ChunkRecord]) -> Sets {
    let bytes = |disk: &DiskRef| [disk.disk.0.to_be_bytes(), disk.incarnation.0.to_be_bytes()].concat();
    let mut sets = Sets::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_doomed()) {
        let disks: BTreeSet<DiskRef> = chunk.verified_disks().collect();
        let is_below = (disks.len() as u32) < chunk.wanted();
        for disk in disks.iter().copied().chain(is_below.then_some(NOWHERE)) {
            let mut key = bytes(&disk);
            key.push(chunk.wanted().min(255) as u8);
            key.extend(disks.iter().filter(|other| **other != disk).flat_map(bytes));
            let set = sets.entry(key).or_default();
            *set = (set.0 + 1, set.1 + chunk.length);
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::record::{
        PlacedReplica, PlacementState, PolicyRecord, RECORD_VERSION, ReplicaRecord,
    };

    fn key(table: u8, numbers: &[u64]) -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
        [table].into_iter().chain(numbers).collect()
    }

    fn value(record: &impl Message) -> Bytes {
        [vec![RECORD_VERSION], record.encode_to_vec()].concat().into()
    }

    fn chunk(id: u64, state: ChunkState) -> ChunkRecord {
        let replica = ReplicaRecord {
            disk: 5,
            incarnation: 6,
            placement: 7,
        };
        ChunkRecord {
            id,
            epoch: 2,
            state: state as i32,
            length: 10,
            since: 9,
            policy: Some(PolicyRecord {
                replicas: 2,
                ..PolicyRecord::default()
            }),
            replicas: vec![PlacedReplica::new(replica, PlacementState::Verified)],
            ..ChunkRecord::default()
        }
    }

    fn good() -> Map {
        let extent = ExtentRecord {
            length: 10,
            chunk: 3,
            ..ExtentRecord::default()
        };
        let nothing = Bytes::from_static(&[RECORD_VERSION]);
        let counted = DiskSetRecord { chunks: 1, bytes: 10 };
        let set = |disk: &[u64], others: &[u64]| {
            [key(DISK_SET, disk), vec![2], key(0, others)[1..].to_vec()].concat()
        };
        Map::from([
            (key(CHUNK, &[3]), value(&chunk(3, ChunkState::Sealed))),
            (key(CHUNK, &[4]), value(&chunk(4, ChunkState::Doomed))),
            (key(DOOMED, &[4]), nothing.clone()),
            (key(REPLICA, &[5, 6, 3, 7]), nothing.clone()),
            (key(REPLICA, &[5, 6, 4, 7]), nothing.clone()),
            (key(EXTENT, &[1, 0]), value(&extent)),
            (key(REFERENCE, &[3, 0, 1, 0]), nothing.clone()),
            (key(BELOW, &[3]), nothing),
            (set(&[5, 6], &[]), value(&counted)),
            (set(&[0, 0], &[5, 6]), value(&counted)),
        ])
    }

    #[test]
    fn an_index_that_lacks_or_has_too_much_is_told() {
        assert_eq!(whole(&good()), Vec::<String>::new());
        for table in [REPLICA, DOOMED, REFERENCE, EXTENT, CHUNK, DISK_SET, BELOW] {
            let mut map = good();
            map.retain(|key, _| key[0] != table);
            assert!(!whole(&map).is_empty(), "without table {table}");
        }
    }

    #[test]
    fn what_sinks_is_told() {
        let fault = |key: Vec<u8>, old: Bytes, new: Bytes| {
            let before = Map::from([(key.clone(), old.clone())]);
            assert!(step(&before, &[(key.clone(), Some(old))]).is_empty());
            assert!(step(&before, &[(key.clone(), None)]).is_empty());
            step(&before, &[(key, Some(new))]).len()
        };
        let state = |applied, grant_floor| {
            value(&StateRecord {
                applied,
                grant_floor,
                ..StateRecord::default()
            })
        };
        assert_eq!(fault(STATE.to_vec(), state(9, 9), state(8, 9)), 1);
        assert_eq!(fault(STATE.to_vec(), state(9, 9), state(9, 8)), 1);
        let old = chunk(3, ChunkState::Sealed);
        let with = |change: fn(&mut ChunkRecord)| {
            let mut new = old.clone();
            change(&mut new);
            fault(key(CHUNK, &[3]), value(&old), value(&new))
        };
        assert_eq!(with(|chunk| chunk.epoch = 1), 1);
        assert_eq!(with(|chunk| chunk.length = 11), 1);
        assert_eq!(with(|chunk| chunk.since = 8), 1);
        assert_eq!(with(|chunk| chunk.doomed_at = 8), 0);
    }
}
