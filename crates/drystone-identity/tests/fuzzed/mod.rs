//! What holds for every identity and boot file: the body of the fuzz target `identity`.

use drystone_env::sim::SimDisk;
use drystone_env::{Disk, SeededRng};
use drystone_identity::{Identity, Role, boot, boot_at, format, load};
use drystone_proto::grant::ClusterKey;
use drystone_types::{BootId, ClusterId, DiskId, DiskRef, HistoryId, Incarnation, NodeId};
use std::sync::LazyLock;

pub const FILES: [&str; 3] = ["identity", "boot-a", "boot-b"];
const HEADER: usize = 16;

pub fn identity() -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        history: HistoryId([2; 16]),
        key: ClusterKey([3; 32]),
        node: NodeId(4),
        node_incarnation: Incarnation(5),
        role: Role::Chunk,
        disk: Some(DiskRef {
            disk: DiskId(6),
            incarnation: Incarnation(7),
        }),
        voters: vec![(NodeId(1), "127.0.0.1:9710".to_owned())],
        joining: false,
        name: "stone".to_owned(),
    }
}

fn formatted() -> SimDisk {
    let disk = SimDisk::new(1);
    format(&disk, &identity()).expect("an empty disk");
    for seed in 0..3 {
        boot(&disk, &mut SeededRng::new(seed)).expect("it is formatted");
    }
    disk
}

static FORMATTED: LazyLock<SimDisk> = LazyLock::new(formatted);

/// The content of a formatted directory's file.
pub fn content(file: &str) -> Vec<u8> {
    FORMATTED.contents(file).expect("it is formatted")
}

/// Makes length and checksum fit what follows the header.
fn reseal(bytes: &mut [u8]) {
    let Some((head, content)) = bytes.split_first_chunk_mut::<HEADER>() else {
        return;
    };
    head[8..12].copy_from_slice(&(content.len() as u32).to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head[..12]), content);
    head[12..16].copy_from_slice(&sum.to_le_bytes());
}

/// The first byte chooses the files, and whether their checksums are made to fit; the rest is what is in them. Nothing
/// panics; who a directory says it is can be formatted again and is the same; no boot counter is used twice.
pub fn identity_file(data: &[u8]) {
    let (choice, bytes) = data.split_first().unwrap_or((&0, &[]));
    let mut bytes = bytes.to_vec();
    if choice & 64 != 0 {
        reseal(&mut bytes);
    }
    let disk = FORMATTED.fork(1);
    for (bit, file) in FILES.iter().enumerate() {
        if choice >> bit & 1 == 1 {
            disk.set_contents(file, &bytes);
        }
    }
    let Ok(found) = load(&disk) else { return };
    let other = SimDisk::new(2);
    format(&other, &found).expect("what was loaded can be formatted");
    assert_eq!(load(&other).expect("it is formatted"), found);
    let highest = boots(&disk);
    // Boot files of before are of another node, unless it is the same one.
    if choice & 1 == 0 && choice & 64 == 0 {
        assert!(
            highest.is_none_or(|counter| counter > 3),
            "counter {highest:?} again"
        );
    }
    if let Some(highest) = highest
        && let Some(next) = highest.checked_add(7)
    {
        let next = BootId {
            counter: next,
            random: 1,
        };
        if boot_at(&disk, next).is_ok() {
            assert!(boots(&disk).is_none_or(|counter| counter > next.counter));
        }
    }
    let names = disk.list("").expect("a disk without faults");
    assert!(FILES.iter().all(|file| names.iter().any(|name| name == file)));
}

/// Two boots; the second is directly above the first.
fn boots(disk: &SimDisk) -> Option<u64> {
    let first = boot(disk, &mut SeededRng::new(8)).ok()?;
    let second = boot(disk, &mut SeededRng::new(9)).ok()?;
    assert_eq!(second.counter, first.counter + 1);
    Some(second.counter)
}
