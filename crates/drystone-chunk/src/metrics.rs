//! What is counted, with unit and the meaning of each label value.

use drystone_proto::cluster::DiskLoad;
use drystone_types::Code;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Label `disk`: the disk's id.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct OfDisk {
    pub(crate) disk: u64,
}

/// Labels `operation` (append, finish, fence, seal, read, delete, copy) and `code` (the name of a
/// `drystone_types::Code`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct OfFailure {
    operation: &'static str,
    code: &'static str,
}

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    /// Payload taken from clients and hops before, bytes.
    pub(crate) appended: Counter,
    /// Payload given to readers, bytes.
    pub(crate) read: Counter,
    /// Reads answered from the cache.
    pub(crate) cache_hits: Counter,
    /// Receipts given; more than one for a replica when they are asked for again.
    pub(crate) receipts: Counter,
    /// Replicas deleted by order.
    pub(crate) deleted: Counter,
    /// 1 while the leader knows this server.
    pub(crate) registered: Gauge,
    /// Payload of clients' appends that are under way, bytes.
    pub(crate) in_flight: Gauge,
    /// Bytes that replicas have received which are not sealed, as their disks said for the last heartbeat.
    pub(crate) open: Gauge,
    /// Bytes of cached blocks.
    pub(crate) cached: Gauge,
    free: Family<OfDisk, Gauge>,
    used: Family<OfDisk, Gauge>,
    kept: Family<OfDisk, Gauge>,
    others: Family<OfDisk, Gauge>,
    chunks: Family<OfDisk, Gauge>,
    queue: Family<OfDisk, Gauge>,
    write_p99: Family<OfDisk, Gauge>,
    refused: Family<OfFailure, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("drystone_chunk"),
            appended: Counter::default(),
            read: Counter::default(),
            cache_hits: Counter::default(),
            receipts: Counter::default(),
            deleted: Counter::default(),
            registered: Gauge::default(),
            in_flight: Gauge::default(),
            open: Gauge::default(),
            cached: Gauge::default(),
            free: Family::default(),
            used: Family::default(),
            kept: Family::default(),
            others: Family::default(),
            chunks: Family::default(),
            queue: Family::default(),
            write_p99: Family::default(),
            refused: Family::default(),
        };
        let registry = &mut metrics.registry;
        let bytes = || Unit::Bytes;
        registry.register_with_unit("appended", "Payload taken", bytes(), metrics.appended.clone());
        registry.register_with_unit("read", "Payload given to readers", bytes(), metrics.read.clone());
        registry.register(
            "cache_hits",
            "Reads answered from the cache",
            metrics.cache_hits.clone(),
        );
        registry.register(
            "receipts",
            "Receipts given for sealed replicas",
            metrics.receipts.clone(),
        );
        registry.register("deleted", "Replicas deleted by order", metrics.deleted.clone());
        registry.register(
            "registered",
            "1 while the leader knows this server",
            metrics.registered.clone(),
        );
        registry.register_with_unit(
            "in_flight",
            "Appends under way",
            bytes(),
            metrics.in_flight.clone(),
        );
        registry.register_with_unit(
            "open",
            "Bytes in replicas that are not sealed, with the last heartbeat",
            bytes(),
            metrics.open.clone(),
        );
        registry.register_with_unit(
            "cached",
            "Blocks in the read cache",
            bytes(),
            metrics.cached.clone(),
        );
        registry.register_with_unit("disk_free", "Space left of a disk", bytes(), metrics.free.clone());
        registry.register_with_unit(
            "disk_used",
            "Space that chunks have taken of a disk",
            bytes(),
            metrics.used.clone(),
        );
        registry.register_with_unit(
            "disk_kept",
            "Space of a disk that is free and that no new chunk gets: reserve, repair, above the limit",
            bytes(),
            metrics.kept.clone(),
        );
        registry.register_with_unit(
            "disk_others",
            "Space of a disk's file system that others have taken, its journal among them",
            bytes(),
            metrics.others.clone(),
        );
        registry.register("disk_chunks", "Replicas on a disk", metrics.chunks.clone());
        registry.register(
            "disk_queue",
            "Work queued or under way on a disk",
            metrics.queue.clone(),
        );
        registry.register(
            "disk_write_p99_us",
            "p99 of writes and syncs of the last minute, microseconds",
            metrics.write_p99.clone(),
        );
        registry.register(
            "refused",
            "Requests that failed, by code",
            metrics.refused.clone(),
        );
        metrics
    }

    pub(crate) fn refused(&self, operation: &'static str, code: u32) {
        let code = Code::from_number(code).map_or("unknown", Code::name);
        self.refused.get_or_create(&OfFailure { operation, code }).inc();
    }

    /// Shows what a disk last told.
    pub(crate) fn disk(&self, load: &DiskLoad) {
        let label = OfDisk { disk: load.disk };
        self.free.get_or_create(&label).set(load.free_bytes as i64);
        self.used.get_or_create(&label).set(load.used_bytes as i64);
        self.kept.get_or_create(&label).set(load.kept_bytes as i64);
        self.others.get_or_create(&label).set(load.others_bytes as i64);
        self.chunks.get_or_create(&label).set(load.chunks as i64);
        self.queue.get_or_create(&label).set(i64::from(load.queue));
        self.write_p99
            .get_or_create(&label)
            .set(i64::from(load.write_p99_us));
    }

    /// In the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::warn!("the metrics could not be written as text");
        }
        text
    }
}
