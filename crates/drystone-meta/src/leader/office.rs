//! The office: the soft state of one term, and what is done with it.

use super::ranges::Ranges;
use super::reclaim::Reclaim;
use super::reservations::{Reservations, taken_by};
use super::servers::Servers;
use crate::config::Config;
use crate::locks::{DRAWS, OFFICE};
use crate::raft::handle::RaftHandle;
use crate::service::refused::Refused;
use crate::state::cell::StateReader;
use drystone_env::planted::{Bug, planted};
use drystone_env::sync::Mutex;
use drystone_env::{Clock, Env, Monotonic, Rng, SeededRng};
use drystone_identity::Identity;
use drystone_namespace::Redundancy;
use drystone_placement::{DiskView, PlacementError};
use drystone_proto::command::{AllocateRange, Op};
use drystone_proto::data::{DeleteOrder, ServerOrder};
use drystone_proto::grant::sign_delete;
use drystone_proto::meta::DiskLocation;
use drystone_proto::record::ReplicaRecord;
use drystone_types::{BootId, ChunkId, DiskRef};
use std::sync::Arc;
use std::time::Duration;

/// Time that servers have at least to find a new leader: they give a silent one their heartbeat's time-out (2 s by
/// default), and may ask another dark server before.
const SETTLING: Duration = Duration::from_secs(5);

/// Chunk ids taken with one log entry: a thousandth of the entries that single ids would cost.
const RANGE_IDS: u64 = 1_024;

/// The soft state of one term.
#[derive(Default)]
pub(crate) struct Office {
    pub(crate) term: u64,
    pub(crate) begun: Monotonic,
    pub(crate) servers: Servers,
    pub(crate) ranges: Ranges,
    pub(crate) reclaim: Reclaim,
    pub(crate) reservations: Reservations,
    /// How much redundancy there is; `None`: not known (yet).
    pub(crate) redundancy: Option<Redundancy>,
    pub(crate) damage_reports: u64,
    /// A planted bug has handed out ids of an earlier leader.
    handed_out_again: bool,
}

/// The office, if this server holds one.
pub(crate) struct Leader {
    clock: Arc<dyn Clock>,
    config: Arc<Config>,
    identity: Identity,
    raft: RaftHandle,
    state: StateReader,
    office: Mutex<Office>,
    draws: Mutex<SeededRng>,
    // One allocation at a time: the others wait for its ids.
    allocating: tokio::sync::Mutex<()>,
}

impl Leader {
    /// Holds no office yet. The process `boot` draws its own random numbers.
    pub(crate) fn new(
        env: &Env,
        boot: BootId,
        config: Arc<Config>,
        identity: Identity,
        raft: RaftHandle,
        state: StateReader,
    ) -> Self {
        let draws = env.rng(&format!("placement {}", boot.random));
        Self {
            clock: Arc::clone(&env.clock),
            config,
            identity,
            raft,
            state,
            office: Mutex::new(OFFICE, Office::default()),
            draws: Mutex::new(DRAWS, draws),
            allocating: tokio::sync::Mutex::new(()),
        }
    }

    /// Works on the soft state of the present term; `None` if this server holds no office. The namespace may be read
    /// around it and not within it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Office) -> T) -> Option<T> {
        let (term, first_chunk) = {
            let view = self.raft.borrow_view();
            (view.office?, view.first_chunk)
        };
        let mut office = self.office.lock();
        if office.term < term {
            let begun = self.clock.now();
            *office = Office {
                term,
                begun,
                ..Office::default()
            };
            // Before the first range of our own: what earlier leaders handed out is as old as the office.
            office.ranges.retire_below(first_chunk, begun);
        }
        (office.term == term).then(|| work(&mut office))
    }

    /// The planted bug [`Bug::ChunkIdsAgain`]: the last ids of the leader before are handed out once more.
    fn hand_out_again(&self) {
        let first_chunk = self.raft.borrow_view().first_chunk;
        let last = first_chunk.saturating_sub(RANGE_IDS);
        let placement = self.state.read().placement_of(ChunkId(last));
        let now = self.clock.now();
        self.with(|office| {
            let first = !std::mem::replace(&mut office.handed_out_again, true);
            if let (true, Some(placement)) = (first, placement) {
                office.ranges.add(last, RANGE_IDS, placement.0, now);
            }
        });
    }

    /// The next `count` chunk ids with the log index that took each.
    pub(crate) async fn take_ids(&self, count: u32) -> Result<Vec<(u64, u64)>, Refused> {
        if planted(Bug::ChunkIdsAgain) {
            self.hand_out_again();
        }
        loop {
            let now = self.clock.now();
            let age = self.config.grant_age / 2;
            let taken = self
                .with(|office| office.ranges.take(count, now, age))
                .ok_or(Refused::NotLeader)?;
            if let Some(ids) = taken {
                return Ok(ids);
            }
            let _one = self.allocating.lock().await;
            let enough = self
                .with(|office| office.ranges.has(count, now, age))
                .ok_or(Refused::NotLeader)?;
            if enough {
                continue;
            }
            let term = self.raft.office().ok_or(Refused::NotLeader)?;
            let applied = self
                .raft
                .propose(Op::AllocateRange(AllocateRange { count: RANGE_IDS }), None)
                .await?;
            if applied.outcome.code != 0 {
                let code = drystone_types::Code::from_number(applied.outcome.code);
                let code = code.unwrap_or(drystone_types::Code::Busy);
                return Err(drystone_rpc::refusal(code, applied.outcome.message).into());
            }
            let now = self.clock.now();
            self.with(|office| {
                // A range of another term was dropped with it.
                if office.term == term {
                    office
                        .ranges
                        .add(applied.outcome.first_chunk, RANGE_IDS, applied.index, now);
                }
            });
        }
    }

    /// Plans with what is known of every disk that reported to this leader, and random numbers. For want of space once
    /// more, if what is known is not of this moment. What was planned is taken for `chunk` and its most bytes, if one is
    /// named. `None` if this server holds no office.
    pub(crate) fn place(
        &self,
        chunk: Option<(u64, u64)>,
        plan: impl Fn(&[DiskView], &mut dyn Rng) -> Result<Vec<DiskRef>, PlacementError>,
    ) -> Option<Result<Vec<DiskRef>, PlacementError>> {
        let placed = self.place_by_views(Servers::has_views, chunk, &plan)?;
        match placed {
            Err(PlacementError::NoSpace { .. }) => self.place_by_views(Servers::has_new_views, chunk, &plan),
            placed => Some(placed),
        }
    }

    fn place_by_views(
        &self,
        will_do: fn(&Servers, Monotonic) -> bool,
        chunk: Option<(u64, u64)>,
        plan: impl Fn(&[DiskView], &mut dyn Rng) -> Result<Vec<DiskRef>, PlacementError>,
    ) -> Option<Result<Vec<DiskRef>, PlacementError>> {
        let now = self.clock.now();
        if !self.with(|office| will_do(&office.servers, now))? {
            let state = self.state.read();
            self.with(|office| {
                office.reservations.expire(now);
                let reserved = |disk| office.reservations.of_disk(disk);
                office
                    .servers
                    .look_at_disks(state.nodes(), now, &self.config, reserved);
            })?;
        }
        let placed = self.with(|office| {
            let placed = plan(office.servers.views()?, &mut *self.draws.lock());
            if let (Ok(disks), Some((chunk, bytes))) = (&placed, chunk) {
                for disk in disks {
                    office.reservations.grant(chunk, disk.disk.0, bytes, now);
                }
                office.servers.note_taken(disks, taken_by(bytes));
            }
            Some(placed)
        });
        placed.flatten()
    }

    /// Nobody will write to the chunk.
    pub(crate) fn abandon(&self, chunk: u64) {
        self.with(|office| office.reservations.abandoned(chunk));
    }

    /// The chunks are recorded, each with its length.
    pub(crate) fn note_committed(&self, chunks: &[(u64, u64)]) {
        self.with(|office| {
            for (chunk, bytes) in chunks {
                office.reservations.committed(*chunk, *bytes);
            }
        });
    }

    /// While the office is so young that a server that has not reported to it may be well, and there is one: how long
    /// the office has lasted.
    pub(crate) fn settling(&self) -> Option<Option<Duration>> {
        let now = self.clock.now();
        let patience = self.config.suspect_after.max(SETTLING);
        if !self.with(|office| now.since(office.begun) < patience)? {
            return Some(None);
        }
        let state = self.state.read();
        self.with(|office| {
            let misses = office.servers.misses_some(state.nodes());
            misses.then(|| now.since(office.begun))
        })
    }

    /// Marks the disks of suspect servers, if this server would know.
    pub(crate) fn mark_suspects(&self, disks: &mut [DiskLocation]) {
        let now = self.clock.now();
        self.with(|office| {
            for disk in disks {
                disk.suspect = office.servers.is_suspect(disk.node, now, &self.config);
            }
        });
    }

    /// The signed order to delete a replica.
    pub(crate) fn sign(&self, chunk: u64, replica: ReplicaRecord) -> ServerOrder {
        let identity = &self.identity;
        let order = sign_delete(&identity.key, identity.history, chunk, &replica);
        ServerOrder::delete(DeleteOrder {
            chunk,
            replica: Some(replica),
            order,
        })
    }
}
