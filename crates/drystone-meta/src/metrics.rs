//! Metrics of a metadata server. Names are stable; labels are closed sets (there are none yet).

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics; all of them are registered at start.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    /// Commands proposed by this server, background work included.
    pub(crate) proposals: Counter,
    /// Entries applied since start.
    pub(crate) applied_entries: Counter,
    /// Log index applied.
    pub(crate) applied_index: Gauge,
    /// Log index up to which the state is durable in tables.
    pub(crate) synced_index: Gauge,
    /// Bytes of changes that no batch has taken.
    pub(crate) overlay_bytes: Gauge,
    /// 1 while this server leads.
    pub(crate) leading: Gauge,
    /// Look-ups and listings answered here.
    pub(crate) reads: Counter,
    /// Requests handed on to the leader.
    pub(crate) forwarded: Counter,
    /// Chunks granted since this server started.
    pub(crate) grants: Counter,
    /// Raft messages that were not sent because a queue was full or a peer could not be reached.
    pub(crate) raft_dropped: Counter,
    /// Bytes written to the Raft log since start.
    pub(crate) log_bytes: Counter,
    /// Bytes of segments of the Raft log that are not released, as this server saw it when it last led.
    pub(crate) log_held_bytes: Gauge,
    /// 1 while a lone voter refuses commands because it keeps too much log for its exports.
    pub(crate) log_full: Gauge,
    /// Times that log kept for members that lag was purged because the disk was nearly full.
    pub(crate) kept_log_released: Counter,
    /// Exports that a lone voter wrote and read back since start.
    pub(crate) exports: Counter,
    /// Exports that failed since start.
    pub(crate) exports_failed: Counter,
    /// Log index of the newest export made since start.
    pub(crate) exported_index: Gauge,
    /// Snapshots received and installed.
    pub(crate) snapshots_installed: Counter,
    /// 1 while this server leads and knows the three figures below; they say nothing while it is 0.
    pub(crate) redundancy_known: Gauge,
    /// Chunks with fewer live replicas than their policy asks for, and at least one.
    pub(crate) chunks_under_redundant: Gauge,
    /// Chunks without any live replica.
    pub(crate) chunks_lost: Gauge,
    /// Bytes lost if one more disk fails, counting chunks below their policy only.
    pub(crate) exposure_bytes: Gauge,
}

impl Metrics {
    /// The metrics, and a registry that holds them.
    pub(crate) fn registered() -> (Self, Registry) {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("drystone_meta");
        let mut counter =
            |name: &str, help: &str, metric: &Counter| registry.register(name, help, metric.clone());
        counter(
            "proposals",
            "Commands proposed by this server",
            &metrics.proposals,
        );
        counter(
            "applied_entries",
            "Log entries applied since start",
            &metrics.applied_entries,
        );
        counter("reads", "Look-ups and listings answered here", &metrics.reads);
        counter(
            "forwarded",
            "Requests handed on to the leader",
            &metrics.forwarded,
        );
        counter("grants", "Chunks granted since start", &metrics.grants);
        counter(
            "raft_dropped",
            "Raft messages that were not sent",
            &metrics.raft_dropped,
        );
        counter(
            "snapshots_installed",
            "Snapshots received and installed",
            &metrics.snapshots_installed,
        );
        counter("log_bytes", "Bytes written to the Raft log", &metrics.log_bytes);
        counter(
            "kept_log_released",
            "Times that log kept for members that lag was purged because the disk was nearly full",
            &metrics.kept_log_released,
        );
        counter(
            "exports",
            "Exports of a lone voter's state that were read back",
            &metrics.exports,
        );
        counter(
            "exports_failed",
            "Exports of a lone voter's state that failed",
            &metrics.exports_failed,
        );
        let mut gauge =
            |name: &str, help: &str, metric: &Gauge| registry.register(name, help, metric.clone());
        gauge("applied_index", "Log index applied", &metrics.applied_index);
        gauge(
            "synced_index",
            "Log index up to which the state is durable",
            &metrics.synced_index,
        );
        gauge(
            "overlay_bytes",
            "Bytes of changes that no batch has taken",
            &metrics.overlay_bytes,
        );
        gauge(
            "log_held_bytes",
            "Bytes of segments of the Raft log that are not released",
            &metrics.log_held_bytes,
        );
        gauge(
            "log_full",
            "1 while a lone voter refuses commands because of the log kept for exports",
            &metrics.log_full,
        );
        gauge(
            "exported_index",
            "Log index of the newest export made since start",
            &metrics.exported_index,
        );
        gauge("leading", "1 while this server leads", &metrics.leading);
        gauge(
            "redundancy_known",
            "1 while this server knows the chunks that are under-redundant, lost and exposed",
            &metrics.redundancy_known,
        );
        gauge(
            "chunks_under_redundant",
            "Chunks below their policy that have a live replica",
            &metrics.chunks_under_redundant,
        );
        gauge(
            "chunks_lost",
            "Chunks without any live replica",
            &metrics.chunks_lost,
        );
        gauge(
            "exposure_bytes",
            "Bytes lost if one more disk fails",
            &metrics.exposure_bytes,
        );
        (metrics, registry)
    }
}
