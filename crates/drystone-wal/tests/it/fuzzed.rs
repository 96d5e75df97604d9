//! What holds for every image of a log, however it was changed: the body of the fuzz target `wal`.

use crate::support::{Log, Records, open, record, small};
use drystone_env::sim::SimDisk;
use drystone_wal::{Lsn, tools};
use std::sync::LazyLock;

const ROUNDS: u64 = 24;
const SEED: u64 = 5;

/// Logs of several segments, some recycled: everything marked, and with a last batch that may be torn.
static IMAGES: LazyLock<[SimDisk; 2]> = LazyLock::new(|| [image(true), image(false)]);

fn image(marked: bool) -> SimDisk {
    let disk = SimDisk::new(SEED);
    let mut log = Log::open(&disk, small());
    for round in 0..ROUNDS {
        let lsn = log.put(&expected(round + 1));
        if round < 10 {
            log.wal.release(lsn);
        }
    }
    if marked {
        log.mark();
    }
    disk
}

/// Record `lsn` of the image.
fn expected(lsn: u64) -> Vec<u8> {
    record(SEED, lsn, (lsn * 977 % 9000) as usize)
}

/// The first byte chooses the image, the rest is a script of `SimDisk::damage`. Opening never panics; what it
/// visits was appended under that number, and a log that opens goes on and opens again with the same records, unless
/// checksums were forged.
pub fn wal(data: &[u8]) {
    let (choice, script) = data.split_first().unwrap_or((&0, &[]));
    let disk = IMAGES[usize::from(choice % 2)].fork(1);
    let damage = disk.damage(script, &|_, bytes, at| tools::reseal(bytes, at));
    let Ok((wal, _, records)) = open(&disk, small()) else {
        return;
    };
    if !damage.forged {
        check(&records);
    }
    let mut log = Log::new(wal);
    let lsn = log.put(b"goes on");
    assert!(lsn > Lsn(records.keys().last().copied().unwrap_or(0)));
    drop(log);
    let again = open(&disk, small());
    if damage.forged {
        // Only panics count: a forgery may promise what is not there.
        return;
    }
    let (_, _, mut again) = again.expect("a log that opened and went on opens again");
    assert_eq!(again.remove(&lsn.0).as_deref(), Some(&b"goes on"[..]));
    assert!(again == records, "other records are visited the second time");
}

fn check(records: &Records) {
    for (lsn, bytes) in records {
        assert!(
            *lsn <= ROUNDS && *bytes == expected(*lsn),
            "record {lsn} was never appended"
        );
    }
}
