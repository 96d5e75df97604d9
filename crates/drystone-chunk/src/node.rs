//! What the tasks of one chunk server share.

use crate::chain::append::Chains;
use crate::chain::core::refusal;
use crate::changes::Changes;
use crate::config::Config;
use crate::disk::ops::Sealed;
use crate::disk::runner::DiskRunner;
use crate::error::{DiskFault, StopReason};
use crate::grants::Gate;
use crate::member::Pulse;
use crate::memory::budget::Budget;
use crate::memory::cache::Cache;
use crate::metrics::Metrics;
use drystone_env::{Disk, Env};
use drystone_identity::Identity;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::Receipt;
use drystone_proto::grant::sign_receipt;
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::Channels;
use drystone_types::{BootId, Code};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A disk in service.
pub(crate) struct DiskEntry {
    pub(crate) runner: DiskRunner,
    /// Identifies the device below.
    pub(crate) device: u64,
    /// Its files, for the boot counter; all others are the store's.
    pub(crate) disk: Arc<dyn Disk>,
}

/// Where a server stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Standing {
    /// A leader has taken its registration at least once.
    pub(crate) registered: bool,
    pub(crate) stopped: Option<StopReason>,
    /// Nothing of it runs any more.
    pub(crate) down: bool,
}

/// One chunk server.
pub(crate) struct Node {
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    /// The boot that it started as; registration may have to take a later one.
    pub(crate) boot: BootId,
    /// `host:port` as it is told to the cluster.
    pub(crate) address: String,
    pub(crate) disks: BTreeMap<u64, DiskEntry>,
    /// Disks that are not served, with their directories' fault.
    pub(crate) faults: Vec<DiskFault>,
    pub(crate) channels: Channels,
    pub(crate) chains: Chains,
    pub(crate) cache: Cache,
    /// Payload that clients have sent and that is not answered: beyond it clients are not read.
    pub(crate) heads: Budget,
    pub(crate) changes: Mutex<Changes>,
    pub(crate) metrics: Metrics,
    pub(crate) pulse: Pulse,
    pub(crate) standing: watch::Sender<Standing>,
    floor: AtomicU64,
    floor_known: AtomicBool,
    frames: AtomicU64,
}

impl Node {
    #[allow(
        clippy::too_many_arguments,
        reason = "made in one place, from parts that have nothing in common"
    )]
    pub(crate) fn new(
        env: Env,
        config: Config,
        identity: Identity,
        boot: BootId,
        address: String,
        disks: BTreeMap<u64, DiskEntry>,
        faults: Vec<DiskFault>,
        channels: Channels,
    ) -> Self {
        Self {
            cache: Cache::new(config.read_cache.0),
            heads: Budget::new(config.in_flight.0 / 2),
            env,
            config,
            identity,
            boot,
            address,
            disks,
            faults,
            channels,
            chains: Chains::default(),
            changes: Mutex::default(),
            metrics: Metrics::new(),
            pulse: Pulse::default(),
            standing: watch::Sender::new(Standing::default()),
            floor: AtomicU64::new(0),
            floor_known: AtomicBool::new(false),
            frames: AtomicU64::new(0),
        }
    }

    /// The disk that holds `replica`, in the incarnation that it names.
    pub(crate) fn disk(
        &self,
        replica: Option<ReplicaRecord>,
    ) -> Result<(&DiskRunner, ReplicaRecord), ErrorReply> {
        let replica = replica.ok_or_else(|| refusal(Code::Invalid, "no replica is named"))?;
        let disk = self.disk_by_id(replica.disk)?;
        if disk.me.incarnation.0 != replica.incarnation {
            let message = format!("disk {} is another formatting than the one named", replica.disk);
            return Err(refusal(Code::NotFound, message));
        }
        Ok((disk, replica))
    }

    pub(crate) fn disk_by_id(&self, disk: u64) -> Result<&DiskRunner, ErrorReply> {
        let entry = self.disks.get(&disk);
        entry
            .map(|entry| &entry.runner)
            .ok_or_else(|| refusal(Code::NotFound, format!("disk {disk} is not served here")))
    }

    /// What decides about a grant now.
    pub(crate) fn gate(&self) -> Gate {
        let known = self.floor_known.load(Relaxed);
        Gate {
            floor: known.then(|| self.floor.load(Relaxed)),
            now: self.env.clock.wall(),
        }
    }

    /// The cluster has told the grant floor; it never falls.
    pub(crate) fn learn_floor(&self, floor: u64) {
        self.floor.fetch_max(floor, Relaxed);
        self.floor_known.store(true, Relaxed);
    }

    /// A name for the next frame.
    pub(crate) fn next_frame(&self) -> u64 {
        self.frames.fetch_add(1, Relaxed)
    }

    pub(crate) fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This server's signed word for a sealed replica.
    pub(crate) fn receipt(&self, chunk: u64, replica: ReplicaRecord, sealed: Sealed) -> Receipt {
        let mut receipt = Receipt {
            chunk,
            epoch: sealed.epoch,
            length: sealed.length,
            checksum: sealed.checksum,
            replica: Some(replica),
            signature: bytes::Bytes::new(),
        };
        sign_receipt(&self.identity.key, self.identity.history, &mut receipt);
        receipt
    }

    /// Counts a failure, and signs the receipt that it may carry.
    pub(crate) fn fail(&self, operation: &'static str, mut error: ErrorReply) -> ErrorReply {
        self.metrics.refused(operation, error.code);
        if let Some(receipt) = &mut error.receipt {
            sign_receipt(&self.identity.key, self.identity.history, receipt);
        }
        error
    }

    /// Stops serving, for the first reason given.
    pub(crate) fn stop(&self, reason: StopReason) {
        self.standing.send_if_modified(|standing| {
            let first = standing.stopped.is_none();
            if first {
                standing.stopped = Some(reason);
            }
            first
        });
    }
}

/// Shared by the tasks.
pub(crate) type SharedNode = Arc<Node>;
