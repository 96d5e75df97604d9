//! Finish, seal, fence, delete and the grant floor.

use super::writer::{ChunkWriter, conflict};
use crate::active::ChunkOpKind;
use crate::error::StoreError;
use crate::format::Runs;
use crate::held::{HeldReplica, HeldState};
use crate::index::EntryState;
use crate::input::{RequestId, StoreReply};
use crate::journal::{AfterRecord, JournalRecord};
use crate::query;
use crate::space::Owner;
use drystone_env::planted::{Bug, planted};
use drystone_types::{ChunkId, Epoch, Incarnation, PlacementIndex};

/// What is still to be done for a delete.
#[derive(Default)]
pub(crate) struct Deleted {
    /// Nothing of the chunk was ever recorded: it is gone, and this is to be answered when its runs were given back.
    pub(crate) unrecorded: Option<(RequestId, Option<Runs>)>,
    /// Reads that waited for the chunk: they find that it is going.
    pub(crate) waiting_reads: Vec<u64>,
}

impl ChunkWriter<'_> {
    /// True if nothing that the journal says of the chunk is needed to tell it.
    fn is_settled(&self, chunk: ChunkId) -> bool {
        match self.index.get(chunk) {
            Some(entry) => entry.is_settled() || entry.state == EntryState::Marker,
            None => self.active.get(chunk).is_none_or(|live| !live.recorded),
        }
    }

    fn replica(&self, chunk: ChunkId) -> HeldReplica {
        query::replica(self.index, self.active, chunk)
    }

    pub(crate) fn on_raise_floor(&mut self, request: RequestId, floor: ChunkId) {
        if floor <= self.index.floor() {
            self.reply(request, Ok(StoreReply::Floor(self.index.floor())));
        } else if !self.refuse_if_failed(request) {
            self.journal.log(
                &JournalRecord::Floor { floor },
                AfterRecord::Floor { request, floor },
            );
        }
    }

    pub(crate) fn on_finish(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        epoch: Epoch,
        placement: PlacementIndex,
        length: u64,
    ) -> bool {
        let seen = self.replica(chunk);
        if seen.state == HeldState::Absent && seen.epoch <= epoch {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return false;
        }
        let sealed = self.index.get(chunk).and_then(|e| e.sealed());
        if sealed.is_none() && (seen.epoch != epoch || self.active.get(chunk).is_some_and(|l| l.fenced)) {
            self.reply(
                request,
                Err(StoreError::Fenced {
                    chunk,
                    offered: epoch,
                    current: seen.epoch,
                }),
            );
            return false;
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
            return false;
        }
        self.seal_at(
            request,
            chunk,
            ChunkOpKind::Seal {
                length,
                expect: None,
                epoch,
                as_append: false,
            },
        )
    }

    pub(crate) fn on_seal(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        epoch: Epoch,
        length: u64,
        checksum: u32,
    ) -> bool {
        let seen = self.replica(chunk);
        if seen.state == HeldState::Absent {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return false;
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
            return false;
        }
        if seen.state == HeldState::Open {
            let reason = "a seal follows a fence";
            self.reply(request, Err(StoreError::Invalid { chunk, reason }));
            return false;
        }
        self.seal_at(
            request,
            chunk,
            ChunkOpKind::Seal {
                length,
                expect: Some(checksum),
                epoch,
                as_append: false,
            },
        )
    }

    fn seal_at(&mut self, request: RequestId, chunk: ChunkId, kind: ChunkOpKind) -> bool {
        let ChunkOpKind::Seal { length, expect, .. } = kind else {
            return false;
        };
        if let Some(sealed) = self.index.get(chunk).and_then(|e| e.sealed()) {
            let same = sealed.length == length && expect.is_none_or(|sum| sum == sealed.checksum);
            let result = if same {
                Ok(StoreReply::Sealed(sealed))
            } else {
                Err(conflict(chunk, sealed.length, Some(sealed)))
            };
            self.reply(request, result);
            return false;
        }
        if self.refuse_if_failed(request) {
            return false;
        }
        let Some(mut live) = self.active.take(chunk) else {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return false;
        };
        if self.journal.is_short() && length < live.durable {
            // As with a deletion: what is cut off could not be told any more.
            self.active.put_back(chunk, live);
            self.reply(request, Err(StoreError::Busy));
            return false;
        }
        self.push_op(&mut live, request, kind);
        self.active.put_back(chunk, live);
        true
    }

    pub(crate) fn on_fence(&mut self, request: RequestId, chunk: ChunkId, epoch: Epoch) -> bool {
        if self.refuse_if_failed(request) {
            return false;
        }
        if epoch <= Epoch::FIRST {
            let reason = "a fence raises the epoch";
            self.reply(request, Err(StoreError::Invalid { chunk, reason }));
            return false;
        }
        if self.index.is_deleting(chunk) {
            self.reply(request, Err(StoreError::Busy));
            return false;
        }
        let entry = self.index.get(chunk);
        let waits = self
            .active
            .get(chunk)
            .into_iter()
            .flat_map(|l| &l.ops)
            .filter_map(|op| match op.kind {
                ChunkOpKind::Fence { epoch } => Some(epoch),
                _ => None,
            });
        let current = waits
            .chain(self.active.get(chunk).map(|l| l.epoch))
            .chain(entry.as_ref().map(|e| e.epoch))
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
            return false;
        }
        if entry.is_some_and(|e| e.state == EntryState::Sealed) {
            self.fence_sealed(request, chunk, epoch);
            return false;
        }
        let Some(mut live) = self.active.take(chunk) else {
            self.leave_marker(request, chunk, epoch);
            return false;
        };
        self.push_op(&mut live, request, ChunkOpKind::Fence { epoch });
        self.active.put_back(chunk, live);
        true
    }

    pub(crate) fn on_delete(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        placement: PlacementIndex,
        incarnation: Incarnation,
    ) -> Deleted {
        if self.refuse_if_failed(request) {
            return Deleted::default();
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
            return Deleted::default();
        }
        let entry = self.index.get(chunk);
        let held = entry
            .as_ref()
            .map(|e| e.placement)
            .into_iter()
            .chain(self.active.get(chunk).map(|l| l.placement))
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
            return Deleted::default();
        }
        if self.journal.is_short() && !self.is_settled(chunk) {
            // Until the deletion is recorded a checkpoint could not tell the chunk, whose end would be in memory no more;
            // and without a checkpoint there may be no room for the record.
            self.reply(request, Err(StoreError::Busy));
            return Deleted::default();
        }
        let is_entered = entry.is_some();
        let mut runs = entry.and_then(|e| e.runs);
        let live = self.active.take(chunk);
        let again = self.index.is_deleting(chunk);
        let mut recorded = is_entered || again;
        let mut deleted = Deleted::default();
        if let Some(mut live) = live {
            self.active.forget(&live);
            // A seal that is on its way to the journal has not given back what it does not need.
            runs = live.runs.or(runs);
            recorded |= live.recorded;
            for op in live.ops.drain(..) {
                self.reply(op.request, Err(StoreError::NotFound { chunk }));
            }
            deleted.waiting_reads = live.waiting_reads;
        }
        if recorded {
            self.index.begin_delete(chunk);
            // The first order gives the runs back: those that the journal names before it.
            let mut runs = runs.filter(|_| !again);
            if let Some(coming) = runs.as_ref().and_then(|_| self.emptier.logged(chunk)) {
                runs = Some(coming.clone());
            }
            self.give_up_copy(chunk);
            if planted(Bug::UnitsBeforeDurable)
                && let Some(runs) = runs.take()
            {
                self.space.release(Owner::of(&runs), runs.as_slice().to_vec());
            }
            let record = JournalRecord::Delete { chunk, placement };
            self.journal
                .log(&record, AfterRecord::Delete { request, chunk, runs });
        } else {
            deleted.unrecorded = Some((request, runs));
        }
        deleted
    }
}
