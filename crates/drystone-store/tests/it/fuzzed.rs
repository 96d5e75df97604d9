//! What holds for every image of a store, however it was changed: the body of the fuzz target `store`.

use crate::harness::{K64, Sim, tiny};
use crate::image::{CHUNKS, bytes_of, image};
use drystone_env::sim::SimDisk;
use drystone_store::StoreError;
use drystone_wal::tools;
use std::sync::LazyLock;

/// Bytes of a leaf's place in the files of the index.
const LEAF_PLACE: usize = 16 << 10;

static IMAGE: LazyLock<SimDisk> = LazyLock::new(|| image(3));

/// A script of `SimDisk::damage`. Opening never panics; what is read is what was written, unless checksums were
/// forged; after one change nothing that was acknowledged is told to be absent; a store that opens takes a write, or
/// says why not, and opens again after a power cut.
pub fn store(script: &[u8]) {
    let disk = IMAGE.fork(1);
    let damage = disk.damage(script, &reseal);
    let Ok(mut sim) = Sim::on(disk, 1, tiny()) else {
        return;
    };
    for chunk in 1..=CHUNKS {
        let expected = bytes_of(chunk);
        match sim.read_all(chunk, expected.len() as u64) {
            Ok(bytes) => assert!(
                damage.forged || bytes == expected,
                "chunk {chunk} reads wrong bytes"
            ),
            Err(StoreError::Corrupt { .. } | StoreError::Io { .. }) => {}
            // Several changes may together be what a store looks like that never had the chunk.
            Err(other) => assert!(damage.forged || damage.changes > 1, "chunk {chunk}: {other}"),
        }
    }
    let written = sim.write(100, K64, b"still").is_ok();
    sim.settle();
    if damage.forged {
        // A forgery may promise bytes that are not there; only panics count.
        drop(sim.crash());
        return;
    }
    let mut sim = sim.crash().expect("a store that opened opens after a power cut");
    if written {
        assert_eq!(sim.read_all(100, 5).expect("it was acknowledged"), b"still");
    }
}

/// Makes the checksums of a store's file fit after a change at `at`.
fn reseal(name: &str, bytes: &mut [u8], at: usize) {
    if name.starts_with("journal/") {
        tools::reseal(bytes, at);
    } else if name.starts_with("checkpoint") {
        reseal_checkpoint(bytes);
    } else if name.starts_with("index") {
        reseal_leaf(bytes, at);
    } else if let Some(head) = bytes.get_mut(at / 4096 * 4096..) {
        reseal_tail(head);
    }
}

fn reseal_checkpoint(bytes: &mut [u8]) {
    let Some((head, body)) = bytes.split_at_mut_checked(4096) else {
        return;
    };
    let length = head[48..56].try_into().map_or(0, u64::from_le_bytes);
    if let Some(body) = usize::try_from(length).ok().and_then(|length| body.get(..length)) {
        head[64..68].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
    let crc = crc32c::crc32c(&head[..68]);
    head[68..72].copy_from_slice(&crc.to_le_bytes());
}

fn reseal_leaf(bytes: &mut [u8], at: usize) {
    let Some(place) = bytes.get_mut(at / LEAF_PLACE * LEAF_PLACE..) else {
        return;
    };
    let length = place.get(8..12).and_then(|length| length.try_into().ok());
    let end = length.map_or(0, u32::from_le_bytes) as usize;
    if let Some(body) = place.get(16..end) {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&place[..12]), body);
        place[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

fn reseal_tail(head: &mut [u8]) {
    let Some(count) = head.get(44..48).and_then(|count| count.try_into().ok()) else {
        return;
    };
    let end = 64 + (u32::from_le_bytes(count) as usize).saturating_mul(4);
    if head.starts_with(b"DTAI")
        && let Some(sums) = head.get(64..end)
    {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..60]), sums);
        head[60..64].copy_from_slice(&crc.to_le_bytes());
    }
}
