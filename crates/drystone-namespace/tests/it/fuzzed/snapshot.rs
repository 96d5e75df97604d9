//! Any stream that claims to be a snapshot.

use super::{BASE, Pair};
use crate::cluster::{at, settings};
use bytes::Bytes;
use drystone_namespace::{
    Caller, ImportError, MemoryStore, Namespace, OrderedStore, SnapshotSummary, StoreError, View, Want,
    export,
};
use drystone_proto::command::Target;
use drystone_types::{ChunkId, InodeId};
use std::sync::Arc;

const MAGIC: &[u8] = b"DRYSNAP1";
/// More than there are tables: each can be changed.
const MOST_CHANGES: usize = 24;

/// FNV-1a over words and lengths, as the format has it; written here once more.
fn digest<'a>(records: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut word = |word: u64| {
        sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        sum ^= sum >> 29;
    };
    for part in records.flat_map(|(key, value)| [key, value]) {
        word(part.len() as u64);
        let (words, rest) = part.as_chunks::<8>();
        words.iter().for_each(|bytes| word(u64::from_le_bytes(*bytes)));
        rest.iter().for_each(|byte| word(u64::from(*byte)));
    }
    sum
}

/// A stream of these records that an import takes for whole.
fn stream(records: &[Pair]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        body.extend_from_slice(&(key.len() as u32).to_le_bytes());
        body.extend_from_slice(&(value.len() as u32).to_le_bytes());
        body.extend_from_slice(key);
        body.extend_from_slice(value);
    }
    let sum = digest(records.iter().map(|(key, value)| (&key[..], &value[..])));
    let trailer = [(records.len() as u64).to_le_bytes(), sum.to_le_bytes()].concat();
    let mut bytes = MAGIC.to_vec();
    for (length, part) in [(body.len() as u32, &body), (u32::MAX, &trailer)] {
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(part).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The blocks of a stream with checksums that fit their lengths.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = MAGIC.len();
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let length = if length == u32::MAX { 16 } else { length as usize };
        let Some(body) = bytes.get(at + 8..at + 8 + length) else {
            break;
        };
        let sum = crc32c::crc32c(body);
        bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at += 8 + length;
    }
    bytes
}

type Imported = Result<(SnapshotSummary, Arc<MemoryStore>), String>;

fn import(bytes: &[u8], piece: usize) -> Imported {
    let told = |error: ImportError| match error {
        // Where it is noticed depends on the pieces when more than one thing is wrong.
        ImportError::Damaged { .. } => "damaged".to_owned(),
        error => error.to_string(),
    };
    let store = Arc::new(MemoryStore::new());
    let summary =
        drystone_namespace::import(&*store, &settings(), |add| bytes.chunks(piece).try_for_each(add));
    Ok((summary.map_err(told)?, store))
}

/// The first byte chooses: a stream as it is and once more with checksums that fit, or changes to the records of a
/// valid one. Importing never panics and says the same however the stream is cut; what was imported holds the records
/// of the stream, is exported to a stream that gives the same state, and can be read or says which record is damaged.
pub fn snapshot(data: &[u8]) {
    let (mode, rest) = data.split_first().unwrap_or((&1, &[]));
    if mode % 2 == 0 {
        check(rest);
        check(&with_checksums(rest));
    } else {
        let mut records = valid();
        change(&mut records, rest);
        let summary = check(&stream(&records));
        if let Some(summary) = summary {
            assert_eq!(summary.records, records.len() as u64);
        }
    }
}

/// The records that a snapshot of the base holds: the state first.
fn valid() -> Vec<Pair> {
    let records = BASE.records.iter();
    let counts = |key: &[u8]| key == [0, 1] || key[0] != 0;
    records.filter(|(key, _)| counts(key)).cloned().collect()
}

fn check(bytes: &[u8]) -> Option<SnapshotSummary> {
    let whole = import(bytes, usize::MAX);
    for piece in [1, 7, 4096] {
        let cut = import(bytes, piece);
        let summary = |imported: &Imported| {
            imported
                .as_ref()
                .map(|(summary, _)| *summary)
                .map_err(String::clone)
        };
        assert_eq!(summary(&cut), summary(&whole), "in pieces of {piece}");
    }
    let (summary, store) = whole.ok()?;
    let Ok(namespace) = Namespace::open(store, settings()) else {
        return Some(summary);
    };
    assert_eq!(namespace.applied(), summary.applied);
    let hash = namespace.state_hash().expect("memory");
    read(&namespace);
    let mut again = Vec::new();
    let view = view_of(namespace.store());
    export::<StoreError>(&*view, &mut |part: Bytes| {
        again.extend_from_slice(&part);
        Ok(())
    })
    .expect("memory");
    let (second, store) = import(&again, 1 << 20).expect("what was exported is imported");
    assert_eq!(second.applied, summary.applied);
    let namespace = Namespace::open(store, settings()).expect("as the one before");
    assert_eq!(namespace.state_hash().expect("memory"), hash);
    Some(summary)
}

fn view_of(store: &MemoryStore) -> Box<dyn View> {
    store.view().expect("memory")
}

/// Every kind of reading; what is damaged says so.
fn read(namespace: &Namespace<MemoryStore>) {
    let caller = Caller::superuser();
    for path in ["", "a", "a/inline", "a/b/chunked", "c", "new"] {
        let target: Target = at(path).expect("always");
        if let Ok(found) = namespace.lookup(&target, &caller, Want::Content) {
            let _ = namespace.content(InodeId(found.inode.id), 0, 0, 100);
            let _ = namespace.content(InodeId(found.inode.id), 500, 1000, 1);
        }
        let _ = namespace.list(&target, &caller, "", 100);
        let _ = namespace.list(&target, &caller, "b", 1);
    }
    for chunk in namespace.chunks(ChunkId(0), 100).unwrap_or_default() {
        let _ = namespace.references(ChunkId(chunk.id), 100);
        let _ = namespace.locate(&[chunk]);
    }
    let _ = namespace.doomed(ChunkId(0), 100);
    let _ = namespace.counters();
    for node in namespace.nodes() {
        for disk in &node.disks {
            let disk = drystone_types::DiskRef {
                disk: drystone_types::DiskId(disk.id),
                incarnation: drystone_types::Incarnation(disk.incarnation),
            };
            let first = (drystone_types::ChunkId(0), drystone_types::PlacementIndex(0));
            let _ = namespace.replicas_on(disk, first, 100);
            let _ = namespace.disk_sets(disk, &[], 100);
            let _ = namespace.node_of_disk(disk);
        }
    }
}

/// Changes, of four bytes and what they take: what, which record, where, a value.
fn change(records: &mut Vec<Pair>, mut script: &[u8]) {
    for _ in 0..MOST_CHANGES {
        let Some((&[what, which, at, value], rest)) = script.split_first_chunk::<4>() else {
            return;
        };
        script = rest;
        let count = records.len().max(1);
        let index = usize::from(which) % count;
        let Some((key, bytes)) = records.get_mut(index) else {
            return;
        };
        let target = if what & 128 == 0 { bytes } else { key };
        let place = usize::from(at) % (target.len() + 1);
        match what % 8 {
            0 => target
                .iter_mut()
                .skip(place)
                .take(1)
                .for_each(|byte| *byte = value),
            1 => target.truncate(place),
            2 => target.insert(place, value),
            3 => {
                let count = usize::from(value).min(script.len());
                target.splice(place.., script[..count].iter().copied());
                script = &script[count..];
            }
            4 => drop(records.remove(index)),
            5 => {
                let copy = records[index].clone();
                records.insert(usize::from(at) % count, copy);
            }
            6 => records.swap(index, usize::from(at) % count),
            // A number of ten bytes, the longest one.
            _ => drop(target.splice(place..place, [vec![255; 9], vec![1]].concat())),
        }
    }
}

/// Valid ones first.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let whole = stream(&valid());
    let raw = |bytes: &[u8]| [&[0], bytes].concat();
    let script = |bytes: &[u8]| [&[1], bytes].concat();
    let small = stream(&valid()[..3]);
    let mut long = small.clone();
    long[8..12].copy_from_slice(&(9_u32 << 20).to_le_bytes());
    let mut torn = small.clone();
    torn[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    // The last value of the only block, one byte longer than the block.
    let mut beyond = small.clone();
    let value = valid()[2].1.len();
    let at = small.len() - 24 - value - valid()[2].0.len() - 4;
    beyond[at..at + 4].copy_from_slice(&(value as u32 + 1).to_le_bytes());
    vec![
        ("whole", raw(&whole)),
        ("small", raw(&small)),
        ("empty", raw(b"")),
        ("magic", raw(MAGIC)),
        ("cut", raw(&small[..small.len() - 5])),
        ("longer", raw(&[&small[..], b"x"].concat())),
        ("long-block", raw(&long)),
        ("torn-record", raw(&torn)),
        (
            "two-trailers",
            raw(&[&small[..], &small[small.len() - 24..]].concat()),
        ),
        ("untouched", script(&[])),
        ("byte-of-the-state", script(&[0, 0, 1, 8])),
        ("cut-value", script(&[1, 2, 3, 0])),
        ("number", script(&[7, 3, 2, 0])),
        ("key-of-no-table", script(&[128, 4, 0, 99])),
        ("cut-key", script(&[129, 4, 3, 0])),
        ("without-the-state", script(&[4, 0, 0, 0])),
        ("twice", script(&[5, 5, 6, 0])),
        ("exchanged", script(&[6, 5, 6, 0])),
        ("other-value", script(&[3, 7, 0, 4, 1, 8, 1, 16])),
    ]
}
