//! Chunk records: a commit with receipts makes one, the loss of the last reference dooms it, word of its
//! replicas' deletion ends it. A chunk that its writer gives up gets one that is doomed from the beginning.

use crate::directory::checked_policy;
use crate::key::{above, numbers, table};
use crate::limits::{MAX_ABANDONED, MAX_ABANDONED_REPLICAS, MAX_CHUNKS_PER_COMMAND, MAX_FORGOTTEN};
use crate::namespace::{Context, Namespace};
use crate::records::{MarkRecord, corrupt};
use crate::refusal::{ReadError, refuse};
use crate::store::{Order, OrderedStore, StoreError};
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{AbandonChunks, ForgetReplicas, NewChunk, Outcome};
use drystone_proto::grant::verify_receipt;
use drystone_proto::record::{
    ChunkRecord, ChunkState, PlacedReplica, PlacementState, PolicyRecord, ReplicaRecord,
};
use drystone_types::{ChunkId, Code, MAX_CHUNK_BYTES, PlacementIndex};
use std::collections::{BTreeMap, BTreeSet};

/// The chunks that a command recorded: id to sealed length, and the least number of replicas among them.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) lengths: BTreeMap<u64, u64>,
    pub(crate) redundancy: u32,
}

impl<S: OrderedStore> Namespace<S> {
    /// Records sealed chunks by their receipts, under the policy in force where their content goes.
    pub(crate) fn record_chunks(
        &mut self,
        cx: &Context,
        chunks: &[NewChunk],
        in_force: &PolicyRecord,
    ) -> Result<Recorded, ReadError> {
        if chunks.len() > MAX_CHUNKS_PER_COMMAND {
            return refuse(
                Code::TooLarge,
                format!("a command records at most {MAX_CHUNKS_PER_COMMAND} chunks: stage"),
            );
        }
        let mut recorded = Recorded::default();
        for new in chunks {
            let chunk = self.check_new_chunk(cx, new, in_force)?;
            let replicas = chunk.replicas.len() as u32;
            let least = recorded.redundancy;
            recorded.redundancy = if least == 0 { replicas } else { least.min(replicas) };
            recorded.lengths.insert(chunk.id, chunk.length);
            self.state.chunks += 1;
            self.state.chunk_bytes += chunk.length;
            let before = if planted(Bug::ChunkIdsAgain) {
                self.tables.load_record(&numbers(table::CHUNK, [chunk.id]))?
            } else {
                None
            };
            self.put_chunk(cx, before.as_ref(), &chunk)?;
        }
        Ok(recorded)
    }

    fn check_new_chunk(
        &mut self,
        cx: &Context,
        new: &NewChunk,
        in_force: &PolicyRecord,
    ) -> Result<ChunkRecord, ReadError> {
        let id = new.chunk;
        if id < self.state.grant_floor && !planted(Bug::FloorNotChecked) {
            return refuse(
                Code::GrantExpired,
                format!("chunk {id} is below the floor {}", self.state.grant_floor),
            );
        }
        let Some(PlacementIndex(placement)) = self.placement_of(ChunkId(id)) else {
            return refuse(Code::Invalid, format!("chunk id {id} was never allocated"));
        };
        if self.is_abandoned(ChunkId(id))? {
            return refuse(
                Code::GrantExpired,
                format!("chunk {id} was given up by its writer"),
            );
        }
        if self
            .tables
            .load_record::<ChunkRecord>(&numbers(table::CHUNK, [id]))?
            .is_some()
            && !planted(Bug::ChunkIdsAgain)
        {
            return refuse(Code::Conflict, format!("chunk {id} is recorded already"));
        }
        let policy = checked_policy(in_force)?;
        let Some(first) = new.receipts.first() else {
            return refuse(Code::NotEnoughDomains, format!("chunk {id} has no receipt"));
        };
        if first.epoch == 0 || first.length == 0 || first.length > MAX_CHUNK_BYTES || new.receipts.len() > 8 {
            return refuse(
                Code::Invalid,
                format!("chunk {id}: 1 byte to 64 MiB, epochs from 1, at most 8 receipts"),
            );
        }
        let mut replicas: Vec<ReplicaRecord> = Vec::with_capacity(new.receipts.len());
        for receipt in &new.receipts {
            let same = (receipt.epoch, receipt.length, receipt.checksum)
                == (first.epoch, first.length, first.checksum);
            let Some(replica) = receipt.replica.filter(|_| receipt.chunk == id && same) else {
                return refuse(
                    Code::Invalid,
                    format!("the receipts of chunk {id} are not of one content"),
                );
            };
            if replica.placement != placement {
                return refuse(
                    Code::Invalid,
                    format!("chunk {id} was placed by {placement}, not {}", replica.placement),
                );
            }
            if replicas.iter().any(|other| other.disk == replica.disk) {
                return refuse(
                    Code::Invalid,
                    format!("two receipts of chunk {id} are of disk {}", replica.disk),
                );
            }
            if !verify_receipt(&self.settings.key, self.settings.history, receipt) {
                return refuse(
                    Code::Denied,
                    format!("a receipt of chunk {id} is not signed with the cluster key"),
                );
            }
            // A replica on a disk that is gone, wiped or fenced counts for nothing; it becomes an orphan there.
            if self
                .nodes
                .of_disk(replica.disk, replica.incarnation)
                .is_some_and(|node| !node.fenced)
            {
                replicas.push(replica);
            }
        }
        let (count, needed) = (replicas.len() as u32, policy.receipts());
        if count < needed && !planted(Bug::FewerReceipts) {
            let detail = format!("chunk {id} has {count} valid receipts, the policy in force wants {needed}");
            let followed = new.policy.and_then(|policy| policy.checked().ok());
            let differs = followed.is_some_and(|followed| followed != policy && count >= followed.receipts());
            let code = if differs {
                Code::PolicyDiffers
            } else {
                Code::NotEnoughDomains
            };
            return refuse(code, detail);
        }
        assert!(
            planted(Bug::FewerReceipts) || (needed..=8).contains(&count),
            "as many replicas as its policy wants"
        );
        let replicas = replicas
            .into_iter()
            .map(|replica| PlacedReplica::new(replica, PlacementState::Verified));
        Ok(ChunkRecord {
            id,
            epoch: first.epoch,
            state: ChunkState::Sealed as i32,
            length: first.length,
            checksum: first.checksum,
            policy: Some(*in_force),
            replicas: replicas.collect(),
            since: cx.since,
            doomed_at: 0,
        })
    }

    /// Dooms those of `chunks` to which nothing refers any more.
    pub(crate) fn doom_unreferenced(
        &mut self,
        cx: &Context,
        chunks: &BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        for &id in chunks {
            let first = numbers(table::REFERENCE, [id]);
            if self
                .tables
                .first(first.as_slice(), &above(first.as_slice()), Order::Up)?
                .is_some()
                && !planted(Bug::DoomedByOneReference)
            {
                continue;
            }
            let key = numbers(table::CHUNK, [id]);
            let before = self.tables.load_record::<ChunkRecord>(&key)?;
            let before =
                before.ok_or_else(|| corrupt(key.as_slice(), "the chunk of an extent", "nothing"))?;
            let doomed = ChunkRecord {
                state: ChunkState::Doomed as i32,
                doomed_at: cx.now,
                since: cx.since,
                ..before.clone()
            };
            self.state.chunks -= 1;
            self.state.chunk_bytes -= before.length;
            self.state.doomed += 1;
            self.put_chunk(cx, Some(&before), &doomed)?;
            self.tables
                .put_new(numbers(table::DOOMED, [id]), &MarkRecord { since: cx.since });
        }
        Ok(())
    }

    /// Dooms chunks that their writer gave up, and marks them, so that no command records them before the grant floor has passed
    /// them. A chunk that is recorded, is marked, or lies below the floor is passed over.
    pub(crate) fn abandon_chunks(
        &mut self,
        cx: &Context,
        command: &AbandonChunks,
    ) -> Result<Outcome, ReadError> {
        if command.chunks.len() > MAX_ABANDONED {
            return refuse(Code::TooLarge, format!("at most {MAX_ABANDONED} chunks at once"));
        }
        let mark = MarkRecord { since: cx.since };
        for given_up in &command.chunks {
            let id = given_up.chunk;
            let Some(PlacementIndex(placement)) = self.placement_of(ChunkId(id)) else {
                continue;
            };
            let is_below = id < self.state.grant_floor;
            if is_below || self.chunk(ChunkId(id))?.is_some() || self.is_abandoned(ChunkId(id))? {
                continue;
            }
            self.tables.put_new(numbers(table::ABANDONED, [id]), &mark);
            self.state.abandoned += 1;
            let mut replicas: Vec<PlacedReplica> = Vec::new();
            for replica in &given_up.replicas {
                let is_held = self.nodes.of_disk(replica.disk, replica.incarnation).is_some();
                let is_new = replicas.iter().all(|other| other.replica() != *replica);
                if replica.placement == placement
                    && is_held
                    && is_new
                    && replicas.len() < MAX_ABANDONED_REPLICAS
                {
                    replicas.push(PlacedReplica::new(*replica, PlacementState::Placing));
                }
            }
            if replicas.is_empty() {
                continue;
            }
            let doomed = ChunkRecord {
                id,
                state: ChunkState::Doomed as i32,
                replicas,
                since: cx.since,
                ..ChunkRecord::default()
            };
            self.state.doomed += 1;
            self.put_chunk(cx, None, &doomed)?;
            self.tables.put_new(numbers(table::DOOMED, [id]), &mark);
        }
        Ok(Outcome::default())
    }

    /// True if the chunk's writer gave it up, and the floor has not passed it: no command records it.
    pub(crate) fn is_abandoned(&self, chunk: ChunkId) -> Result<bool, StoreError> {
        if self.state.abandoned == 0 {
            return Ok(false);
        }
        let mark = self
            .tables
            .get_record::<MarkRecord>(&numbers(table::ABANDONED, [chunk.0]))?;
        Ok(mark.is_some())
    }

    /// The first mark of a chunk that was given up, if the floor has passed the chunk: it is not needed any more.
    pub(crate) fn passed_mark(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let end = numbers(table::ABANDONED, [self.state.grant_floor]);
        let first = self
            .tables
            .first(&[table::ABANDONED], end.as_slice(), Order::Up)?;
        Ok(first.map(|(key, _)| key))
    }

    /// Replicas of doomed chunks are gone. Those that a chunk does not have (late or repeated word), or whose
    /// chunk is not doomed, are passed over.
    pub(crate) fn forget_replicas(
        &mut self,
        cx: &Context,
        command: &ForgetReplicas,
    ) -> Result<Outcome, ReadError> {
        if command.replicas.len() > MAX_FORGOTTEN {
            return refuse(
                Code::TooLarge,
                format!("at most {MAX_FORGOTTEN} replicas at once"),
            );
        }
        for gone in &command.replicas {
            let key = numbers(table::CHUNK, [gone.chunk]);
            let (Some(before), Some(replica)) = (self.tables.load_record::<ChunkRecord>(&key)?, gone.replica)
            else {
                continue;
            };
            if !before.is_doomed() || !before.is_on(&replica) {
                continue;
            }
            let mut chunk = before.clone();
            chunk.replicas.retain(|held| held.replica() != replica);
            if chunk.replicas.is_empty() {
                self.end_chunk(&before)?;
                self.tables.delete(numbers(table::DOOMED, [gone.chunk]));
                self.state.doomed -= 1;
            } else {
                chunk.since = cx.since;
                self.put_chunk(cx, Some(&before), &chunk)?;
            }
        }
        Ok(Outcome::default())
    }
}
