//! What was granted and is not in the figures of the disks yet.
//!
//! A disk takes the space for a chunk with its first frame, and tells what is left with its heartbeat. Between a grant and
//! that heartbeat the bytes of the grant count here. Soft: if it is wrong for a moment, the disk is right, and refuses the
//! first frame.
//!
//! A grant of a disk ends when the disk reports the chunk, when the chunk is committed (then its real length counts until the
//! disk's next report), and when no client begins with it any more.

use drystone_env::Monotonic;
use drystone_proto::grant::BEGIN_WITHIN;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Grants of disks that are counted; beyond it the oldest are given up. 3 replicas of 2,700 files a second for
/// half a minute.
const MOST: usize = 262_144;
/// For a first frame on its way.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// A chunk on a disk.
type Name = (u64, u64);

#[derive(Clone, Copy)]
struct Granted {
    bytes: u64,
    at: Monotonic,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Default)]
struct DiskBytes {
    granted: u64,
    /// Of chunks that were committed since its last report.
    committed: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Reservations {
    grants: BTreeMap<Name, Granted>,
    /// In the order of the grants; some have ended.
    ages: VecDeque<(Monotonic, Name)>,
    disks: BTreeMap<u64, DiskBytes>,
}

/// What a disk takes for content of so many bytes, about: whole units of 64 KiB, with a checksum per block.
pub(crate) fn taken_by(bytes: u64) -> u64 {
    (bytes + bytes / 1024 + 4096).next_multiple_of(64 << 10)
}

impl Reservations {
    /// The chunk was granted on the disk, for content of at most so many bytes.
    pub(crate) fn grant(&mut self, chunk: u64, disk: u64, bytes: u64, now: Monotonic) {
        self.expire(now);
        while self.ages.len() >= MOST {
            self.end_oldest();
        }
        let bytes = taken_by(bytes);
        self.end((chunk, disk));
        self.grants.insert((chunk, disk), Granted { bytes, at: now });
        self.ages.push_back((now, (chunk, disk)));
        self.disks.entry(disk).or_default().granted += bytes;
    }

    /// The grants end that nobody begins with any more.
    pub(crate) fn expire(&mut self, now: Monotonic) {
        while let Some((at, _)) = self.ages.front()
            && now.since(*at) >= BEGIN_WITHIN + ON_THE_WAY
        {
            self.end_oldest();
        }
    }

    fn end_oldest(&mut self) {
        if let Some((at, name)) = self.ages.pop_front()
            && self.grants.get(&name).is_some_and(|granted| granted.at == at)
        {
            self.end(name);
        }
    }

    /// The grant of the disk ends, if there is one.
    fn end(&mut self, name: Name) {
        let Some(Granted { bytes, .. }) = self.grants.remove(&name) else {
            return;
        };
        let disk = self.disks.entry(name.1).or_default();
        assert!(
            disk.granted >= bytes,
            "disk {}: {bytes} bytes of {} end",
            name.1,
            disk.granted
        );
        disk.granted -= bytes;
    }

    /// The chunk is recorded with so many bytes.
    pub(crate) fn committed(&mut self, chunk: u64, bytes: u64) {
        for disk in self.end_all(chunk) {
            self.disks.entry(disk).or_default().committed += taken_by(bytes);
        }
    }

    /// Nobody will write to the chunk.
    pub(crate) fn abandoned(&mut self, chunk: u64) {
        self.end_all(chunk);
    }

    /// Ends all grants of the chunk: the disks that had one.
    fn end_all(&mut self, chunk: u64) -> Vec<u64> {
        let granted = self.grants.range((chunk, 0)..=(chunk, u64::MAX));
        let disks: Vec<u64> = granted.map(|((_, disk), _)| *disk).collect();
        for disk in &disks {
            self.end((chunk, *disk));
        }
        disks
    }

    /// The disk has told what is left of it: with all that was committed before.
    pub(crate) fn reported(&mut self, disk: u64) {
        if let Some(bytes) = self.disks.get_mut(&disk) {
            bytes.committed = 0;
            if bytes.granted == 0 {
                self.disks.remove(&disk);
            }
        }
    }

    /// The disk has told that the chunk is there: its space is taken.
    pub(crate) fn begun(&mut self, chunk: u64, disk: u64) {
        self.end((chunk, disk));
    }

    /// Bytes of the disk that are promised, or taken since its last report.
    pub(crate) fn of_disk(&self, disk: u64) -> u64 {
        self.disks
            .get(&disk)
            .map_or(0, |bytes| bytes.granted.saturating_add(bytes.committed))
    }
}

#[cfg(test)]
mod tests;
