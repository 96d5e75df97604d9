//! Where chunks are: every write of a chunk record, and what is derived from it.
//!
//! Owns three tables that equal what the chunk records say, because [`Namespace::put_chunk`] is the only place that
//! writes a chunk record:
//!
//! - *replicas by disk*: every placement, whatever its state, doomed chunks included. For repair, drain, deletion.
//! - *chunks by set of disks*: of the chunks that are not doomed, how many (and how many bytes) have their verified
//!   replicas on exactly these disks, entered once under each disk of the set. So what a disk that is away takes
//!   away is read from a range as long as the disk has different sets of neighbours: in a small cluster a handful
//!   for any number of chunks, in a large one at most as many as the disk has replicas.
//! - *chunks below their policy*: those whose verified replicas are fewer than the policy of the chunk asks for,
//!   wherever the disks are. Their sets are entered once more under [`NOWHERE`].
//!
//! [`crate::redundancy`] counts with them.

use crate::key::{Key, above, disk_set, disk_sets_of, number_at, numbers, table};
use crate::namespace::{Context, Namespace};
use crate::records::{DiskSetRecord, MarkRecord, corrupt, decode};
use crate::store::{Order, OrderedStore, StoreError};
use drystone_env::planted::{Bug, planted};
use drystone_proto::record::{ChunkRecord, PlacedReplica, ReplicaRecord};
use drystone_types::{ChunkId, DiskId, DiskRef, Incarnation, PlacementIndex};

/// No disk: sets of chunks that are below their policy are entered under it. Real disks have ids above 0.
pub const NOWHERE: DiskRef = DiskRef {
    disk: DiskId(0),
    incarnation: Incarnation(0),
};

/// Chunks whose verified replicas are on the same disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSet {
    /// The disks, in order.
    pub disks: Vec<DiskRef>,
    /// Replicas that the policy of these chunks asks for.
    pub wanted: u32,
    /// How many chunks.
    pub chunks: u64,
    /// Sum of their lengths.
    pub bytes: u64,
}

/// Whether a replica that a disk holds may be deleted as an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The chunk's record names this placement on this disk, as verified, damaged or being made: no orphan.
    Named,
    /// It may still be recorded: its chunk id is not below the grant floor and was not given up, or this state has not applied
    /// the command that placed it.
    Undecided,
    /// It can never be recorded any more.
    Never,
}

/// What a chunk counts as: how many replicas it should have and the disks of its verified ones, in order.
fn set_of(chunk: &ChunkRecord) -> Option<(u32, Vec<DiskRef>)> {
    if chunk.is_doomed() {
        return None;
    }
    let mut disks: Vec<DiskRef> = chunk.verified_disks().collect();
    disks.sort_unstable();
    // Two placements on one disk fail together: they count once.
    disks.dedup();
    Some((chunk.wanted(), disks))
}

fn replica_key(chunk: u64, replica: &ReplicaRecord) -> Key {
    numbers(
        table::REPLICA,
        [replica.disk, replica.incarnation, chunk, replica.placement],
    )
}

impl<S: OrderedStore> Namespace<S> {
    /// Writes a chunk's record; `before` is what is stored of it.
    pub(crate) fn put_chunk(
        &mut self,
        cx: &Context,
        before: Option<&ChunkRecord>,
        after: &ChunkRecord,
    ) -> Result<(), StoreError> {
        assert!(
            before.is_none_or(|before| before.id == after.id),
            "a chunk keeps its id"
        );
        assert!(
            after.id != 0 && !after.replicas.is_empty(),
            "a chunk is somewhere"
        );
        if let Some(before) = before.filter(|_| !planted(Bug::ChunkIdsAgain)) {
            assert!(after.epoch >= before.epoch, "the epoch of a chunk never falls");
            assert_eq!(after.length, before.length, "a sealed chunk keeps its length");
            assert!(
                after.is_doomed() || !before.is_doomed(),
                "nothing refers to a doomed chunk again"
            );
        }
        let is_named_once = |(at, held): (usize, &PlacedReplica)| {
            let mut others = after.replicas.iter().skip(at + 1);
            others.all(|other| other.replica() != held.replica())
        };
        assert!(
            after.replicas.iter().enumerate().all(is_named_once),
            "a chunk names each replica once"
        );
        let mark = MarkRecord { since: cx.since };
        for held in before.into_iter().flat_map(ChunkRecord::holders) {
            if !after.is_on(&held.replica()) {
                self.tables.delete(replica_key(after.id, &held.replica()));
            }
        }
        for held in after.holders() {
            if before.is_none_or(|before| !before.is_on(&held.replica())) {
                self.tables.put_new(replica_key(after.id, &held.replica()), &mark);
            }
        }
        self.move_set(cx.since, before, Some(after))?;
        let key = numbers(table::CHUNK, [after.id]);
        match before {
            Some(_) => self.tables.put(key, after),
            None => self.tables.put_new(key, after),
        }
        Ok(())
    }

    /// Deletes a chunk's record.
    pub(crate) fn end_chunk(&mut self, chunk: &ChunkRecord) -> Result<(), StoreError> {
        for held in chunk.holders() {
            self.tables.delete(replica_key(chunk.id, &held.replica()));
        }
        self.move_set(0, Some(chunk), None)?;
        self.tables.delete(numbers(table::CHUNK, [chunk.id]));
        Ok(())
    }

    /// Takes a chunk out of the set that it was counted in and adds it to the one that it is in now.
    fn move_set(
        &mut self,
        since: u64,
        before: Option<&ChunkRecord>,
        after: Option<&ChunkRecord>,
    ) -> Result<(), StoreError> {
        let set = |chunk: &ChunkRecord| set_of(chunk).map(|set| (set, chunk.length));
        let (old, new) = (before.and_then(set), after.and_then(set));
        if old == new {
            return Ok(());
        }
        let id = before.or(after).map_or(0, |chunk| chunk.id);
        let is_below = |set: &Option<((u32, Vec<DiskRef>), u64)>| {
            set.as_ref()
                .is_some_and(|((wanted, disks), _)| (disks.len() as u32) < *wanted)
        };
        match (is_below(&old), is_below(&new)) {
            (false, true) => self
                .tables
                .put_new(numbers(table::BELOW, [id]), &MarkRecord { since }),
            (true, false) => self.tables.delete(numbers(table::BELOW, [id])),
            _ => {}
        }
        if let Some(((wanted, disks), length)) = old {
            self.count_set(wanted, &disks, |set| {
                Some(DiskSetRecord {
                    chunks: set.chunks.checked_sub(1)?,
                    bytes: set.bytes.checked_sub(length)?,
                })
            })?;
        }
        if let Some(((wanted, disks), length)) = new {
            self.count_set(wanted, &disks, |set| {
                Some(DiskSetRecord {
                    chunks: set.chunks + 1,
                    bytes: set.bytes + length,
                })
            })?;
        }
        Ok(())
    }

    /// Changes the count of a set, under each of its disks.
    fn count_set(
        &mut self,
        wanted: u32,
        disks: &[DiskRef],
        change: impl Fn(DiskSetRecord) -> Option<DiskSetRecord>,
    ) -> Result<(), StoreError> {
        let is_below = (disks.len() as u32) < wanted;
        let under = disks.iter().copied().chain(is_below.then_some(NOWHERE));
        for disk in under {
            let key = disk_set(disk, wanted, disks);
            let known = self.tables.load_record::<DiskSetRecord>(&key)?;
            let is_new = known.is_none();
            let known = known.unwrap_or_default();
            let set = change(known).filter(|set| set.chunks > 0 || set.bytes == 0);
            let Some(set) = set else {
                let found = format!("{} chunks of {} bytes", known.chunks, known.bytes);
                return Err(corrupt(key.as_slice(), "a set that counts its chunks", found));
            };
            if set.chunks == 0 {
                self.tables.delete(key);
            } else if is_new {
                self.tables.put_new(key, &set);
            } else {
                self.tables.put(key, &set);
            }
        }
        Ok(())
    }

    /// Placements on a disk, in any state and of doomed chunks too, above `after` (chunk and placement), at most
    /// `limit`, in order of chunks.
    ///
    /// # Errors
    /// The store failed.
    pub fn replicas_on(
        &self,
        disk: DiskRef,
        after: (ChunkId, PlacementIndex),
        limit: usize,
    ) -> Result<Vec<(ChunkId, ReplicaRecord)>, StoreError> {
        let (id, incarnation) = (disk.disk.0, disk.incarnation.0);
        let prefix = numbers(table::REPLICA, [id, incarnation]);
        let from = numbers(table::REPLICA, [id, incarnation, after.0.0, after.1.0]);
        let from = crate::key::after(from.as_slice());
        let mut replicas = Vec::new();
        for (key, _) in self.tables.page(&from, &above(prefix.as_slice()), limit)? {
            let (Some(chunk), Some(placement)) = (number_at(&key, 17), number_at(&key, 25)) else {
                return Err(corrupt(&key, "a chunk and its placement", "a shorter key"));
            };
            replicas.push((
                ChunkId(chunk),
                ReplicaRecord::new(disk, PlacementIndex(placement)),
            ));
        }
        Ok(replicas)
    }

    /// The disks that hold verified replicas of chunks that are not doomed, in order. Also those that no node holds
    /// any more: their chunks are still recorded there. One look-up for each.
    ///
    /// # Errors
    /// The store failed.
    pub fn disks_in_use(&self) -> Result<Vec<DiskRef>, StoreError> {
        let mut disks = Vec::new();
        let mut from = above(disk_sets_of(NOWHERE).as_slice());
        while let Some((key, _)) = self.tables.first(&from, &[table::DISK_SET + 1], Order::Up)? {
            let disk = disk_at(&key, 1)?;
            disks.push(disk);
            from = above(disk_sets_of(disk).as_slice());
        }
        Ok(disks)
    }

    /// The sets of disks that `disk` is one of ([`NOWHERE`]: those of chunks below their policy), with keys above
    /// `after` (empty: from the first), at most `limit`; each with its key, to go on from.
    ///
    /// # Errors
    /// The store failed.
    pub fn disk_sets(
        &self,
        disk: DiskRef,
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, DiskSet)>, StoreError> {
        let prefix = disk_sets_of(disk);
        let from = if after.is_empty() {
            prefix.as_slice().to_vec()
        } else {
            crate::key::after(after)
        };
        let mut sets = Vec::new();
        for (key, value) in self.tables.page(&from, &above(prefix.as_slice()), limit)? {
            let record: DiskSetRecord = decode(&key, &value)?;
            let wanted = key
                .get(17)
                .copied()
                .ok_or_else(|| corrupt(&key, "a number of replicas", "a shorter key"))?;
            let mut disks = Vec::new();
            for at in (18..key.len()).step_by(16) {
                disks.push(disk_at(&key, at)?);
            }
            if disk != NOWHERE {
                disks.push(disk);
            }
            disks.sort_unstable();
            let set = DiskSet {
                disks,
                wanted: u32::from(wanted),
                chunks: record.chunks,
                bytes: record.bytes,
            };
            sets.push((key, set));
        }
        Ok(sets)
    }

    /// Chunks (none of them doomed) that are recorded with fewer verified replicas than their policy asks for, with
    /// ids above `after`, at most `limit`.
    ///
    /// # Errors
    /// The store failed.
    pub fn below_policy(&self, after: ChunkId, limit: usize) -> Result<Vec<ChunkId>, StoreError> {
        let from = crate::key::after(numbers(table::BELOW, [after.0]).as_slice());
        let page = self.tables.page(&from, &[table::BELOW + 1], limit)?;
        let id = |(key, _): &(Vec<u8>, _)| {
            let id = number_at(key, 1).ok_or_else(|| corrupt(key, "a chunk id", "a shorter key"));
            id.map(ChunkId)
        };
        page.iter().map(id).collect()
    }

    /// Whether a replica that a disk reports may be ordered away. Only [`Recorded::Never`] may: its placement is
    /// known to this state, no record names it, and its chunk id lies below the grant floor or was given up by its writer, so
    /// that no command can record it any more.
    ///
    /// # Errors
    /// The store failed.
    pub fn is_recorded(&self, chunk: ChunkId, replica: &ReplicaRecord) -> Result<Recorded, StoreError> {
        let record = self.chunk(chunk)?;
        if record.is_some_and(|record| record.is_on(replica)) {
            return Ok(Recorded::Named);
        }
        let is_over = chunk < self.grant_floor() || self.is_abandoned(chunk)?;
        match is_over && replica.placement <= self.applied().0 {
            true => Ok(Recorded::Never),
            false => Ok(Recorded::Undecided),
        }
    }
}

fn disk_at(key: &[u8], at: usize) -> Result<DiskRef, StoreError> {
    match (number_at(key, at), number_at(key, at + 8)) {
        (Some(disk), Some(incarnation)) => Ok(DiskRef {
            disk: DiskId(disk),
            incarnation: Incarnation(incarnation),
        }),
        _ => Err(corrupt(key, "a disk", "a shorter key")),
    }
}

#[cfg(test)]
mod tests;
