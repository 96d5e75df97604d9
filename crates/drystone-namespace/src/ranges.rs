//! Chunk ids: ranges that the leader takes through the log, and the floor below which none may be committed.

use crate::key::{numbers, table};
use crate::limits::{MAX_RANGE, MAX_RANGES, MAX_RANGES_PRUNED};
use crate::namespace::{Context, Namespace};
use crate::records::RangeRecord;
use crate::refusal::{ReadError, refuse};
use crate::store::OrderedStore;
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{AllocateRange, Outcome, RaiseGrantFloor};
use drystone_types::{ChunkId, Code, PlacementIndex, ShardId};
use std::sync::Arc;

impl<S: OrderedStore> Namespace<S> {
    /// Takes the next ids; none is ever given twice.
    pub(crate) fn allocate_range(
        &mut self,
        cx: &Context,
        command: &AllocateRange,
    ) -> Result<Outcome, ReadError> {
        if !(1..=MAX_RANGE).contains(&command.count) {
            return refuse(Code::Invalid, format!("a range has 1 to {MAX_RANGE} ids"));
        }
        if self.ranges.len() >= MAX_RANGES {
            return refuse(
                Code::Busy,
                format!("{MAX_RANGES} ranges are above the grant floor: raise it"),
            );
        }
        let first = self.state.next_chunk;
        let next = first + command.count;
        if next >= ShardId(self.settings.shard.0).base() + (1 << 48) {
            return refuse(Code::NoSpace, "the shard has no chunk ids left");
        }
        self.state.next_chunk = next;
        let range = RangeRecord {
            count: command.count,
            index: cx.index,
            since: cx.since,
        };
        self.tables.put_new(numbers(table::RANGE, [first]), &range);
        Arc::make_mut(&mut self.ranges).insert(first, range);
        Ok(Outcome {
            first_chunk: first,
            ..Outcome::default()
        })
    }

    /// Raises the floor; it is never lowered, and never above the ids that were taken. Forgets ranges below it, some
    /// at a time; a floor that is no higher goes on with that.
    pub(crate) fn raise_grant_floor(&mut self, command: &RaiseGrantFloor) -> Result<Outcome, ReadError> {
        if command.floor > self.state.next_chunk {
            return refuse(Code::Invalid, format!("ids end at {}", self.state.next_chunk));
        }
        self.state.grant_floor = self.state.grant_floor.max(command.floor);
        self.prune_ranges();
        Ok(Outcome::default())
    }

    /// Forgets ranges below the floor: nothing of them can be committed any more.
    fn prune_ranges(&mut self) {
        if planted(Bug::FloorNotChecked) {
            return;
        }
        for _ in 0..MAX_RANGES_PRUNED {
            let Some((&first, range)) = self.ranges.first_key_value() else {
                break;
            };
            if first + range.count > self.state.grant_floor {
                break;
            }
            Arc::make_mut(&mut self.ranges).remove(&first);
            self.tables.delete(numbers(table::RANGE, [first]));
        }
    }

    /// The log index that took this chunk id, if it was taken and its range is not forgotten.
    pub fn placement_of(&self, chunk: ChunkId) -> Option<PlacementIndex> {
        let (first, range) = self.ranges.range(..=chunk.0).next_back()?;
        (chunk.0 - first < range.count).then_some(PlacementIndex(range.index))
    }
}
