//! The office: the soft state of one term, and what is done with it.

use super::health::Health;
use super::ranges::Ranges;
use super::reclaim::Reclaim;
use super::servers::Servers;
use crate::service::Refused;
use crate::shared::{Shared, lock};
use drystone_env::planted::{Bug, planted};
use drystone_env::{Monotonic, Rng, SeededRng};
use drystone_placement::DiskView;
use drystone_proto::command::{AllocateRange, Op};
use drystone_proto::data::DeleteOrder;
use drystone_proto::grant::sign_delete;
use drystone_proto::meta::DiskLocation;
use drystone_proto::record::ReplicaRecord;
use std::sync::Mutex;
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
    pub(crate) health: Health,
    pub(crate) damage_reports: u64,
}

/// The office, if this server holds one.
pub(crate) struct Leader {
    office: Mutex<Office>,
    draws: Mutex<SeededRng>,
    // One allocation at a time: the others wait for its ids.
    allocating: tokio::sync::Mutex<()>,
}

impl Leader {
    pub(crate) fn new(shared: &Shared) -> Self {
        let draws = shared.env.rng(&format!("placement {}", shared.boot.random));
        Self {
            office: Mutex::default(),
            draws: Mutex::new(draws),
            allocating: tokio::sync::Mutex::new(()),
        }
    }

    /// Works on the soft state of the present term; `None` if this server holds no office.
    pub(crate) fn with<T>(&self, shared: &Shared, work: impl FnOnce(&mut Office) -> T) -> Option<T> {
        let (term, first_chunk) = {
            let view = shared.view.borrow();
            (view.office?, view.first_chunk)
        };
        let mut office = lock(&self.office);
        if office.term < term {
            let begun = shared.env.clock.now();
            *office = Office {
                term,
                begun,
                ..Office::default()
            };
            // Before the first range of our own: what earlier leaders handed out is as old as the office.
            office.ranges.retire_below(first_chunk, begun);
            let last = first_chunk.saturating_sub(RANGE_IDS);
            if planted(Bug::ChunkIdsAgain)
                && let Some(placement) = shared.read().placement_of(last)
            {
                office.ranges.add(last, RANGE_IDS, placement, begun);
            }
        }
        (office.term == term).then(|| work(&mut office))
    }

    /// Random numbers for placement.
    pub(crate) fn draw<T>(&self, work: impl FnOnce(&mut dyn Rng) -> T) -> T {
        work(&mut *lock(&self.draws))
    }

    /// The next `count` chunk ids with the log index that took each.
    pub(crate) async fn take_ids(&self, shared: &Shared, count: u32) -> Result<Vec<(u64, u64)>, Refused> {
        loop {
            let now = shared.env.clock.now();
            let age = shared.config.grant_age / 2;
            let taken = self
                .with(shared, |office| office.ranges.take(count, now, age))
                .ok_or(Refused::NotLeader)?;
            if let Some(ids) = taken {
                return Ok(ids);
            }
            let _one = self.allocating.lock().await;
            let enough = self
                .with(shared, |office| office.ranges.has(count, now, age))
                .ok_or(Refused::NotLeader)?;
            if enough {
                continue;
            }
            let term = shared.office().ok_or(Refused::NotLeader)?;
            let applied = shared
                .propose(Op::AllocateRange(AllocateRange { count: RANGE_IDS }), None)
                .await?;
            if applied.outcome.code != 0 {
                let code = drystone_types::Code::from_number(applied.outcome.code);
                let code = code.unwrap_or(drystone_types::Code::Busy);
                return Err(drystone_rpc::refusal(code, applied.outcome.message).into());
            }
            let now = shared.env.clock.now();
            self.with(shared, |office| {
                // A range of another term was dropped with it.
                if office.term == term {
                    office
                        .ranges
                        .add(applied.outcome.first_chunk, RANGE_IDS, applied.index, now);
                }
            });
        }
    }

    /// Every disk that reported to this leader, as placement sees it.
    pub(crate) fn disk_views(&self, shared: &Shared) -> Option<Vec<DiskView>> {
        let now = shared.env.clock.now();
        let state = shared.read();
        self.with(shared, |office| {
            office.servers.disk_views(state.nodes(), now, &shared.config)
        })
    }

    /// True while the office is so young that a server that has not reported to it may be well, and there is one.
    pub(crate) fn is_settling(&self, shared: &Shared) -> Option<bool> {
        let now = shared.env.clock.now();
        let state = shared.read();
        self.with(shared, |office| {
            let patience = shared.config.suspect_after.max(SETTLING);
            now.since(office.begun) < patience && office.servers.misses_some(state.nodes())
        })
    }

    /// Marks the disks of suspect servers, if this server would know.
    pub(crate) fn mark_suspects(&self, shared: &Shared, disks: &mut [DiskLocation]) {
        let now = shared.env.clock.now();
        self.with(shared, |office| {
            for disk in disks {
                disk.suspect = office.servers.is_suspect(disk.node, now, &shared.config);
            }
        });
    }

    /// The signed order to delete a replica.
    pub(crate) fn sign(&self, shared: &Shared, chunk: u64, replica: ReplicaRecord) -> DeleteOrder {
        let identity = &shared.identity;
        let order = sign_delete(&identity.key, identity.history, chunk, &replica);
        DeleteOrder {
            chunk,
            replica: Some(replica),
            order,
        }
    }
}
