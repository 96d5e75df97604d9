//! What would be left if the power failed everywhere at the moment of an acknowledgement.
//!
//! Some acknowledged contents are looked at in this way: copies of all disks of the chunk servers lose their power
//! then, and hold the content on as many of them as the writer was told, or the acknowledgement came too early.

use super::replicas::{self, Expected, Found};
use drystone_env::sim::SimDisk;
use drystone_env::{Rng, SeededRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One of so many acknowledgements is looked at: it costs a copy of every disk.
const ONE_OF: u64 = 8;

/// See the module. Clones are the same.
#[derive(Clone)]
pub struct Witness {
    disks: Arc<Mutex<Vec<SimDisk>>>,
    rng: Arc<Mutex<SeededRng>>,
    harmed: Arc<AtomicBool>,
}

impl Witness {
    /// Watches these disks: a clone's are among them as soon as it starts, for it serves if it registers first.
    pub fn new(disks: Arc<Mutex<Vec<SimDisk>>>, harmed: Arc<AtomicBool>, rng: &mut SeededRng) -> Self {
        Self {
            disks,
            rng: Arc::new(Mutex::new(SeededRng::new(rng.next_u64()))),
            harmed,
        }
    }

    /// Copies of the disks as a power cut now would leave them; `None` most of the time.
    pub fn look(&self) -> Option<Vec<SimDisk>> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        if !rng.chance(1, ONE_OF) {
            return None;
        }
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let copies = disks.iter().map(|disk| {
            let copy = disk.fork(rng.next_u64());
            copy.crash();
            copy
        });
        Some(copies.collect())
    }

    /// Of `expected`, what a look found to be on fewer than `redundancy` disks; one chunk server may have lost what it
    /// had, once it was harmed.
    pub fn lacking(&self, copies: &[SimDisk], expected: &[Expected], redundancy: u32) -> Vec<String> {
        let harmed = u32::from(self.harmed.load(Ordering::Relaxed));
        let (mut found, mut closed) = (Vec::new(), Vec::new());
        for disk in copies {
            match replicas::on_disk(disk) {
                Ok(replicas) => found.extend(replicas),
                Err(reason) => closed.push(reason),
            }
        }
        let mut faults = lacking(expected, &found, redundancy.saturating_sub(harmed));
        if !faults.is_empty() {
            faults.extend(
                closed
                    .iter()
                    .map(|reason| format!("a disk does not open: {reason}")),
            );
        }
        faults
    }
}

fn lacking(expected: &[Expected], found: &[Found], redundancy: u32) -> Vec<String> {
    let mut whole: BTreeMap<u64, (u32, Vec<u64>)> = BTreeMap::new();
    for replica in expected {
        let holds = |found: &Found| {
            (found.disk, found.chunk) == (replica.disk, replica.chunk)
                && (found.length, found.checksum) == (replica.length, Some(replica.checksum))
        };
        let (count, without) = whole.entry(replica.chunk).or_default();
        if found.iter().any(holds) {
            *count += 1;
        } else {
            without.push(replica.disk);
        }
    }
    let few = whole.iter().filter(|(_, (count, _))| *count < redundancy);
    few.map(|(chunk, (count, without))| {
        format!(
            "chunk {chunk} was acknowledged when a power cut would have left {count} of {redundancy} replicas: it is \
             not on disks {without:?}"
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_is_short_or_missing_does_not_count() {
        let expected = |disk| Expected {
            chunk: 7,
            disk,
            length: 10,
            checksum: 5,
        };
        let found = |disk, length| Found {
            disk,
            chunk: 7,
            length,
            checksum: Some(5),
            sealed: true,
        };
        let all = [expected(1), expected(2)];
        assert!(lacking(&all, &[found(1, 10), found(2, 10)], 2).is_empty());
        assert_eq!(lacking(&all, &[found(1, 10), found(2, 9)], 2).len(), 1);
        assert_eq!(lacking(&all, &[found(1, 10), found(3, 10)], 2).len(), 1);
        assert!(lacking(&all, &[found(1, 10)], 1).is_empty());
    }
}
