//! What holds for every export file: the body of the fuzz target `export`.

use super::{BLOCK, Export, HEADER, Header, file_name, import, list, verify, write};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, OpenOptions};
use drystone_namespace::{MemoryStore, Namespace, Settings};
use drystone_proto::command::{Command, Entry, Initialize, MakeDirectory, Op, Target};
use drystone_proto::grant::ClusterKey;
use drystone_types::{HistoryId, LogIndex, ShardId};
use std::sync::{Arc, LazyLock};

/// A disk with an export, and what is in that.
struct Image {
    disk: SimDisk,
    export: Export,
    hash: u64,
}

static IMAGE: LazyLock<Image> = LazyLock::new(image);

fn settings() -> Settings {
    Settings {
        shard: ShardId(0),
        key: ClusterKey([3; 32]),
        history: HistoryId([2; 16]),
    }
}

fn image() -> Image {
    let store = Arc::new(MemoryStore::new());
    let mut state = Namespace::open(store, settings()).expect("an empty store");
    let mut ops = vec![Op::Initialize(Initialize::default())];
    ops.extend((0..40).map(|number| {
        let path = format!("/directory {number}");
        Op::MakeDirectory(MakeDirectory {
            target: Some(Target { base: 0, path }),
            ..MakeDirectory::default()
        })
    }));
    for (index, op) in (1..).zip(ops) {
        let entry = Entry {
            time: 1_000 + index,
            command: Some(Command { op: Some(op) }),
            ..Entry::default()
        };
        let outcome = state.apply(LogIndex(index), &entry).expect("memory");
        assert_eq!(outcome.code, 0, "{}", outcome.message);
    }
    let store = Arc::clone(state.store());
    let written = state.freeze().map(|batch| batch.write_to(&*store));
    drop(state.flushed(written.expect("there is something").expect("memory")));
    let view = drystone_namespace::OrderedStore::view(&*store).expect("memory");
    let disk = SimDisk::new(1);
    let export = write(&disk, &*view, &settings(), &|| true).expect("a disk without faults");
    Image {
        disk,
        export,
        hash: state.state_hash().expect("memory"),
    }
}

/// Makes the checksums of an export fit: of each block of the snapshot in it, of all of it, of the header.
fn reseal(_name: &str, bytes: &mut [u8], _at: usize) {
    let block = BLOCK as usize;
    let Some((head, content)) = bytes.split_at_mut_checked(block) else {
        return;
    };
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let (applied, time, length) = (u64_at(16), u64_at(24), u64_at(32));
    let mut at = 8;
    while let Some(part) = content.get(at..at + 8) {
        let length = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
        let length = if length == u32::MAX { 16 } else { length as usize };
        let Some(body) = content.get(at + 8..at + 8 + length) else {
            break;
        };
        let sum = crc32c::crc32c(body);
        content[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at += 8 + length;
    }
    let used = usize::try_from(length)
        .ok()
        .and_then(|length| content.get(..length));
    let header = Header {
        applied: LogIndex(applied),
        time,
        length,
        checksum: used.map_or(0, crc32c::crc32c),
    };
    head[..HEADER].copy_from_slice(&header.encode());
}

/// A script of `SimDisk::damage` of an export. Reading never panics. An export that is believed has the state that was
/// exported, unless checksums were forged; what is believed can be imported, and opens with that index.
pub fn export(script: &[u8]) {
    let image = &*IMAGE;
    let disk = image.disk.fork(1);
    let damage = disk.damage(script, &reseal);
    let Ok(names) = list(&disk) else { return };
    for applied in names {
        let Ok(found) = verify(&disk, applied, &settings(), &|| true) else {
            continue;
        };
        assert_eq!(found.applied, applied);
        let store = Arc::new(MemoryStore::new());
        let imported = import(&disk, applied, Arc::clone(&store), &settings());
        assert_eq!(imported.expect("it was believed a moment ago"), found);
        let state = Namespace::open(store, settings());
        if damage.forged {
            // What a forgery says may be wrong in itself.
            assert!(state.is_err() || state.is_ok_and(|state| state.applied() == applied));
            continue;
        }
        let state = state.expect("what was exported opens");
        assert_eq!(found, image.export);
        assert_eq!(state.state_hash().expect("memory"), image.hash);
    }
    let file = disk.open(&file_name(image.export.applied), OpenOptions::default());
    assert!(damage.changes > 0 || file.is_ok());
}

#[cfg(test)]
mod tests;
