//! What lies on the chunk servers' disks, read without any server: every replica that the namespace names is there
//! and whole, each on another server, and nothing else is.

use drystone_env::sim::SimDisk;
use drystone_env::{BufferPool, Disk, Monotonic};
use drystone_store::{
    HeldReplica, HeldState, IoClass, RequestId, Store, StoreConfig, StoreInput, StoreOutput, StoreReply,
};
use drystone_types::{ChunkId, DiskRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of one read.
const STEP: u64 = 256 << 10;

/// A replica as the namespace says it should be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Expected {
    /// The chunk.
    pub chunk: u64,
    /// The disk.
    pub disk: u64,
    /// Sealed length.
    pub length: u64,
    /// Checksum of the whole.
    pub checksum: u32,
}

/// A replica as it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    /// The disk.
    pub disk: u64,
    /// The chunk.
    pub chunk: u64,
    /// Sealed length.
    pub length: u64,
    /// Checksum of the bytes that could be read; `None` if they could not.
    pub checksum: Option<u32>,
    /// Sealed.
    pub sealed: bool,
}

/// A store driven by hand.
struct Offline {
    store: Store,
    pool: BufferPool,
    requests: u64,
}

impl Offline {
    fn ask(&mut self, make: impl FnOnce(RequestId) -> StoreInput) -> Result<StoreReply, String> {
        self.requests += 1;
        let mut out = Vec::new();
        self.store
            .on(Monotonic(0), make(RequestId(self.requests)), &mut out);
        let mut answer = None;
        while let Some(output) = out.pop() {
            match output {
                StoreOutput::Io { request, .. } => {
                    let done = request.execute(&self.pool);
                    self.store.on(Monotonic(0), StoreInput::Io(done), &mut out);
                }
                StoreOutput::StoreReply { request, result } if request.0 == self.requests => {
                    answer = Some(result.map_err(|error| error.to_string()));
                }
                StoreOutput::StoreReply { .. } | StoreOutput::Wake(_) => {}
            }
        }
        answer.unwrap_or_else(|| Err("no answer".to_owned()))
    }

    fn replicas(&mut self) -> Result<Vec<HeldReplica>, String> {
        let (mut all, mut after) = (Vec::new(), ChunkId::default());
        loop {
            let reply = self.ask(|request| StoreInput::List {
                request,
                after,
                limit: 1000,
            })?;
            let StoreReply::Chunks { chunks, more } = reply else {
                return Err("a list is answered otherwise".to_owned());
            };
            after = chunks.last().map_or(after, |last| last.chunk);
            all.extend(chunks);
            if !more {
                return Ok(all);
            }
        }
    }

    fn checksum(&mut self, chunk: ChunkId, length: u64) -> Option<u32> {
        let (mut at, mut checksum) = (0, 0);
        while at < length {
            let step = STEP.min(length - at);
            let reply = self.ask(|request| StoreInput::Read {
                request,
                chunk,
                placement: None,
                offset: at,
                length: step as u32,
                io_class: IoClass::Foreground,
            });
            match reply {
                Ok(StoreReply::Data { data, .. }) if data.len() as u64 == step => {
                    checksum = crc32c::crc32c_append(checksum, &data);
                }
                _ => return None,
            }
            at += step;
        }
        Some(checksum)
    }
}

/// Opening makes room for what is to come: as little as a store can do with.
fn small() -> StoreConfig {
    StoreConfig {
        arena_bytes: Some(4 << 20),
        spare_bytes: 0,
        segment_bytes: 64 << 10,
        batch_bytes: 16 << 10,
        small_bytes: 4 << 10,
        ..StoreConfig::default()
    }
}

/// Every replica on a disk that no process uses.
///
/// # Errors
/// In words, if the store cannot be opened.
pub fn on_disk(disk: &SimDisk) -> Result<Vec<Found>, String> {
    let identity = drystone_identity::load(disk).map_err(|error| error.to_string())?;
    let me: DiskRef = identity.disk.ok_or("not a chunk server's disk")?;
    let pool = BufferPool::new(1 << 20);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (store, _) = Store::open(disk, small(), me, pool.clone()).map_err(|error| error.to_string())?;
    let mut offline = Offline {
        store,
        pool,
        requests: 0,
    };
    let replicas = offline.replicas()?;
    let mut found = Vec::new();
    for replica in replicas {
        if replica.state == HeldState::Absent {
            continue;
        }
        found.push(Found {
            disk: me.disk.0,
            chunk: replica.chunk.0,
            length: replica.durable,
            checksum: offline.checksum(replica.chunk, replica.durable),
            sealed: replica.state == HeldState::Sealed,
        });
    }
    Ok(found)
}

/// Chunks with two replicas on one server, though there are more servers than replicas. A server that was wiped and came
/// back under another number is the host that it was.
fn crowded(expected: &[Expected]) -> Vec<String> {
    let mut hosts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for replica in expected {
        let host = (replica.disk >> 8) % 100;
        hosts.entry(replica.chunk).or_default().push(host);
    }
    let mut faults = Vec::new();
    for (chunk, hosts) in &mut hosts {
        hosts.sort_unstable();
        if hosts.windows(2).any(|pair| pair[0] == pair[1]) {
            faults.push(format!("replicas of chunk {chunk} share a server: {hosts:?}"));
        }
    }
    faults
}

/// The chunks that one damaged server may have taken: those with one replica, on one of the `damaged` disks.
pub fn lost(expected: &[Expected], damaged: &[u64]) -> BTreeSet<u64> {
    let is_alone = |replica: &&Expected| {
        let mut others = expected.iter().filter(|other| other.disk != replica.disk);
        damaged.contains(&replica.disk) && !others.any(|other| other.chunk == replica.chunk)
    };
    let alone = expected.iter().filter(is_alone);
    alone.map(|replica| replica.chunk).collect()
}

/// Compares. Replicas on `damaged` disks count for nothing, but every chunk that has others needs a good one.
pub fn compare(expected: &[Expected], found: &[Found], damaged: &[u64]) -> Vec<String> {
    let mut faults = crowded(expected);
    let there: BTreeMap<(u64, u64), &Found> = found
        .iter()
        .map(|found| ((found.disk, found.chunk), found))
        .collect();
    let mut named: BTreeMap<u64, u32> = BTreeMap::new();
    for replica in expected {
        let good = named.entry(replica.chunk).or_default();
        let found = there.get(&(replica.disk, replica.chunk));
        let whole = found.is_some_and(|found| {
            found.sealed && found.length == replica.length && found.checksum == Some(replica.checksum)
        });
        if whole {
            *good += 1;
        } else if !damaged.contains(&replica.disk) {
            faults.push(format!(
                "a replica that was acknowledged is not there: {replica:?}, found {found:?}"
            ));
        }
    }
    let lost = lost(expected, damaged);
    for (chunk, good) in &named {
        if *good == 0 && !lost.contains(chunk) {
            faults.push(format!("chunk {chunk} has no good replica"));
        }
    }
    for found in found {
        let wanted = expected
            .iter()
            .any(|replica| (replica.disk, replica.chunk) == (found.disk, found.chunk));
        if !wanted && !damaged.contains(&found.disk) {
            faults.push(format!(
                "a replica that nothing refers to was not deleted: {found:?}"
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_replicas_on_one_server_are_told() {
        let expected = |disk| Expected {
            chunk: 7,
            disk,
            length: 10,
            checksum: 5,
        };
        let (first, second, wiped, other) = (101 << 8, 101 << 8 | 1, 201 << 8, 102 << 8);
        assert!(crowded(&[expected(first), expected(other)]).is_empty());
        assert_eq!(crowded(&[expected(first), expected(second)]).len(), 1);
        assert_eq!(
            crowded(&[expected(first), expected(other), expected(wiped)]).len(),
            1
        );
    }

    #[test]
    fn a_missing_a_rotten_and_a_forgotten_replica_are_told() {
        let expected = |disk: u64| Expected {
            chunk: 7,
            disk: disk << 8,
            length: 10,
            checksum: 5,
        };
        let found = |disk: u64, chunk, checksum| Found {
            disk: disk << 8,
            chunk,
            length: 10,
            checksum,
            sealed: true,
        };
        let all = [expected(1), expected(2)];
        let good = [found(1, 7, Some(5)), found(2, 7, Some(5))];
        assert!(compare(&all, &good, &[]).is_empty());
        assert_eq!(compare(&all, &good[..1], &[]).len(), 1);
        assert!(compare(&all, &good[..1], &[2 << 8]).is_empty());
        assert_eq!(compare(&all, &[found(1, 7, Some(6)), good[1]], &[]).len(), 1);
        assert_eq!(compare(&all, &[found(1, 7, None), good[1]], &[1 << 8]).len(), 0);
        assert_eq!(compare(&all, &[], &[1 << 8, 2 << 8]).len(), 1, "nobody has it");
        assert!(
            compare(&all[..1], &[], &[1 << 8]).is_empty(),
            "that was all that was promised"
        );
        assert_eq!(compare(&all[..1], &[], &[2 << 8]).len(), 2, "its disk is well");
        assert_eq!(
            compare(&all, &[good[0], good[1], found(1, 8, Some(1))], &[]).len(),
            1
        );
    }
}
