//! Requests other than appends and reads.

use crate::drive::conflict;
use crate::index::State;
use crate::input::{Replica, ReplicaState, Reply, RequestId};
use crate::journal::Pending;
use crate::live::OpKind;
use crate::record::Record;
use crate::{Store, StoreError};
use drystone_types::{ChunkId, Epoch, Incarnation, PlacementIndex};

/// A page of a listing is at most this long.
const MOST_LISTED: u32 = 10_000;

impl Store {
    pub(crate) fn replica(&self, chunk: ChunkId) -> Replica {
        let (entry, live) = (self.index.get(&chunk), self.live.get(&chunk));
        let mut replica = Replica {
            chunk,
            state: ReplicaState::Absent,
            epoch: Epoch(0),
            placement: PlacementIndex(0),
            received: 0,
            durable: 0,
            checksum: 0,
        };
        if let Some(entry) = entry {
            replica.epoch = entry.epoch;
            replica.placement = entry.placement;
            (replica.received, replica.durable) = (entry.length, entry.length);
            replica.checksum = entry.checksum;
            replica.state = match entry.state {
                State::Open => ReplicaState::Open,
                State::Fenced => ReplicaState::Fenced,
                State::Sealed => ReplicaState::Sealed,
                State::Marker => ReplicaState::Absent,
            };
        }
        if let Some(live) = live {
            if entry.is_none() {
                replica.state = ReplicaState::Open;
                replica.placement = live.placement;
            }
            replica.epoch = replica.epoch.max(live.epoch);
            replica.received = replica.received.max(live.received);
        }
        if self.deleting.contains_key(&chunk) {
            replica.state = ReplicaState::Absent;
        }
        replica
    }

    pub(crate) fn on_list(&mut self, request: RequestId, after: ChunkId, limit: u32) {
        let limit = limit.clamp(1, MOST_LISTED) as usize;
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let unrecorded = self
            .live
            .range(range)
            .filter(|(id, _)| !self.index.contains_key(id))
            .map(|(id, _)| *id);
        let recorded = self
            .index
            .range(range)
            .filter(|(_, e)| e.state != State::Marker)
            .map(|(id, _)| *id);
        let mut ids: Vec<ChunkId> = recorded
            .take(limit + 1)
            .chain(unrecorded.take(limit + 1))
            .filter(|id| !self.deleting.contains_key(id))
            .collect();
        ids.sort_unstable();
        let more = ids.len() > limit;
        ids.truncate(limit);
        let chunks = ids.into_iter().map(|id| self.replica(id)).collect();
        self.reply(request, Ok(Reply::Chunks { chunks, more }));
    }

    pub(crate) fn on_raise_floor(&mut self, request: RequestId, floor: ChunkId) {
        if floor <= self.floor {
            self.reply(request, Ok(Reply::Floor(self.floor)));
        } else if !self.refuse_if_failed(request) {
            self.log(&Record::Floor { floor }, Pending::Floor { request, floor });
        }
    }

    pub(crate) fn on_finish(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        epoch: Epoch,
        placement: PlacementIndex,
        length: u64,
    ) {
        let seen = self.replica(chunk);
        if seen.state == ReplicaState::Absent && seen.epoch <= epoch {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return;
        }
        let sealed = self.index.get(&chunk).and_then(|e| e.sealed());
        if sealed.is_none() && (seen.epoch != epoch || self.live.get(&chunk).is_some_and(|l| l.fenced)) {
            self.reply(
                request,
                Err(StoreError::Fenced {
                    chunk,
                    offered: epoch,
                    current: seen.epoch,
                }),
            );
            return;
        }
        if seen.placement != placement {
            let held = seen.placement;
            self.reply(
                request,
                Err(StoreError::Placement {
                    chunk,
                    offered: placement,
                    held,
                }),
            );
            return;
        }
        self.seal_at(
            request,
            chunk,
            OpKind::Seal {
                length,
                expect: None,
                epoch,
                as_append: false,
            },
        );
    }

    pub(crate) fn on_seal(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        epoch: Epoch,
        length: u64,
        checksum: u32,
    ) {
        let seen = self.replica(chunk);
        if seen.state == ReplicaState::Absent {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return;
        }
        if epoch < seen.epoch {
            self.reply(
                request,
                Err(StoreError::Fenced {
                    chunk,
                    offered: epoch,
                    current: seen.epoch,
                }),
            );
            return;
        }
        if seen.state == ReplicaState::Open {
            let reason = "a seal follows a fence";
            self.reply(request, Err(StoreError::Invalid { chunk, reason }));
            return;
        }
        self.seal_at(
            request,
            chunk,
            OpKind::Seal {
                length,
                expect: Some(checksum),
                epoch,
                as_append: false,
            },
        );
    }

    fn seal_at(&mut self, request: RequestId, chunk: ChunkId, kind: OpKind) {
        let OpKind::Seal { length, expect, .. } = kind else {
            return;
        };
        if let Some(sealed) = self.index.get(&chunk).and_then(|e| e.sealed()) {
            let same = sealed.length == length && expect.is_none_or(|sum| sum == sealed.checksum);
            let result = if same {
                Ok(Reply::Sealed(sealed))
            } else {
                Err(conflict(chunk, sealed.length, Some(sealed)))
            };
            self.reply(request, result);
            return;
        }
        if self.refuse_if_failed(request) {
            return;
        }
        let Some(mut live) = self.live.remove(&chunk) else {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return;
        };
        self.push_op(&mut live, request, kind);
        self.keep_live(chunk, live);
        self.drive(chunk);
    }

    pub(crate) fn on_fence(&mut self, request: RequestId, chunk: ChunkId, epoch: Epoch) {
        if self.refuse_if_failed(request) {
            return;
        }
        if epoch <= Epoch::FIRST {
            let reason = "a fence raises the epoch";
            self.reply(request, Err(StoreError::Invalid { chunk, reason }));
            return;
        }
        if self.deleting.contains_key(&chunk) {
            self.reply(request, Err(StoreError::Busy));
            return;
        }
        let entry = self.index.get(&chunk).copied();
        let waits = self
            .live
            .get(&chunk)
            .into_iter()
            .flat_map(|l| &l.ops)
            .filter_map(|op| match op.kind {
                OpKind::Fence { epoch } => Some(epoch),
                _ => None,
            });
        let current = waits
            .chain(self.live.get(&chunk).map(|l| l.epoch))
            .chain(entry.map(|e| e.epoch))
            .max();
        if let Some(current) = current.filter(|current| *current > epoch) {
            self.reply(
                request,
                Err(StoreError::Fenced {
                    chunk,
                    offered: epoch,
                    current,
                }),
            );
            return;
        }
        if entry.is_some_and(|e| e.state == State::Sealed) {
            self.fence_sealed(request, chunk, epoch);
            return;
        }
        let Some(mut live) = self.live.remove(&chunk) else {
            self.leave_marker(request, chunk, epoch);
            return;
        };
        self.push_op(&mut live, request, OpKind::Fence { epoch });
        self.keep_live(chunk, live);
        self.drive(chunk);
    }

    pub(crate) fn on_delete(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        placement: PlacementIndex,
        incarnation: Incarnation,
    ) {
        if self.refuse_if_failed(request) {
            return;
        }
        if incarnation != self.me.incarnation {
            let held = self.me.incarnation;
            self.reply(
                request,
                Err(StoreError::OtherIncarnation {
                    offered: incarnation,
                    held,
                }),
            );
            return;
        }
        let entry = self.index.get(&chunk).copied();
        let held = entry
            .map(|e| e.placement)
            .into_iter()
            .chain(self.live.get(&chunk).map(|l| l.placement))
            .max();
        if let Some(held) = held.filter(|held| *held > placement) {
            self.reply(
                request,
                Err(StoreError::Placement {
                    chunk,
                    offered: placement,
                    held,
                }),
            );
            return;
        }
        let live = self.live.remove(&chunk);
        let mut slot = entry.and_then(|e| e.slot);
        let mut recorded = entry.is_some() || self.deleting.contains_key(&chunk);
        let again = self.deleting.contains_key(&chunk);
        let mut waiting_reads = Vec::new();
        if let Some(mut live) = live {
            self.drop_live(&live);
            slot = slot.or(live.slot);
            recorded |= live.recorded;
            for op in live.ops.drain(..) {
                self.reply(op.request, Err(StoreError::NotFound { chunk }));
            }
            waiting_reads = std::mem::take(&mut live.waiting_reads);
        }
        if recorded {
            *self.deleting.entry(chunk).or_insert(0) += 1;
            // The first order gives the slot back.
            let slot = slot.filter(|_| !again);
            let record = Record::Delete { chunk, placement };
            self.log(&record, Pending::Delete { request, chunk, slot });
        } else {
            if let Some(slot) = slot {
                self.slots.release(slot);
                self.hand_out_slots(slot.class);
            }
            self.reply(request, Ok(Reply::Deleted));
        }
        // Only now: they find that the chunk is going.
        for job in waiting_reads {
            self.begin_read(job);
        }
    }
}
