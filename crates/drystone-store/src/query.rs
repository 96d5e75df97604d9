//! What can be told of the replicas here: answers that change nothing.

use crate::active::ActiveChunks;
use crate::held::{HeldReplica, HeldState};
use crate::index::{EntryState, Index};
use crate::input::StoreReply;
use drystone_types::{ChunkId, Epoch, PlacementIndex};

/// A page of a listing is at most this long.
const MOST_LISTED: u32 = 10_000;

/// What is here of a chunk.
pub(crate) fn replica(index: &Index, active: &ActiveChunks, chunk: ChunkId) -> HeldReplica {
    let (entry, live) = (index.get(chunk), active.get(chunk));
    let mut replica = HeldReplica {
        chunk,
        state: HeldState::Absent,
        epoch: Epoch(0),
        placement: PlacementIndex(0),
        received: 0,
        durable: 0,
        checksum: 0,
    };
    if let Some(entry) = &entry {
        replica.epoch = entry.epoch;
        replica.placement = entry.placement;
        (replica.received, replica.durable) = (entry.length, entry.length);
        replica.checksum = entry.checksum;
        replica.state = match entry.state {
            EntryState::Open => HeldState::Open,
            EntryState::Fenced => HeldState::Fenced,
            EntryState::Sealed => HeldState::Sealed,
            EntryState::Marker => HeldState::Absent,
        };
    }
    if let Some(live) = live {
        if entry.is_none() {
            replica.state = HeldState::Open;
            replica.placement = live.placement;
        }
        replica.epoch = replica.epoch.max(live.epoch);
        replica.received = replica.received.max(live.received);
    }
    if index.is_deleting(chunk) {
        replica.state = HeldState::Absent;
    }
    replica
}

/// The replicas above `after`, in order of ids.
pub(crate) fn list(index: &Index, active: &ActiveChunks, after: ChunkId, limit: u32) -> StoreReply {
    let limit = limit.clamp(1, MOST_LISTED) as usize;
    let unrecorded = active
        .after(after)
        .filter(|(id, _)| !index.contains(**id))
        .map(|(id, _)| *id);
    let recorded = index
        .after(after)
        .filter(|(_, e)| e.state != EntryState::Marker)
        .map(|(id, _)| id);
    // What is being deleted is left out before it is counted: a page that lacks it is not the last one.
    let mut ids: Vec<ChunkId> = recorded
        .filter(|id| !index.is_deleting(*id))
        .take(limit + 1)
        .chain(unrecorded.filter(|id| !index.is_deleting(*id)).take(limit + 1))
        .collect();
    ids.sort_unstable();
    let more = ids.len() > limit;
    ids.truncate(limit);
    let chunks = ids.into_iter().map(|id| replica(index, active, id)).collect();
    StoreReply::Chunks { chunks, more }
}
