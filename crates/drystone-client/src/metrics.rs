//! What a client process counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// Counters of a client process since it started, shared by all its clones.
        #[derive(Debug, Default)]
        pub struct Metrics { $($(#[$doc])* pub(crate) $name: AtomicU64,)* }

        /// The counters at one moment.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct MetricsSnapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Metrics {
            /// The counters now (each by itself, not all at one instant).
            pub fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

metrics! {
    /// Requests repeated, of whatever kind.
    retries;
    /// Times that another metadata server turned out to lead, or the one believed to lead was given up.
    failovers;
    /// Times that the idempotency session was opened.
    sessions;
    /// Second reads sent because the first replica was slow.
    hedges;
    /// Second reads that answered first.
    hedges_won;
    /// Reads that a replica failed (error, missing, damaged) and another had to serve.
    read_failovers;
    /// Damage reports sent.
    damage_reports;
    /// Chunks begun again elsewhere because a replica failed while all bytes were still buffered.
    chunks_rewritten;
    /// Chunks ended early because a replica failed after bytes had been released.
    chunks_cut_short;
    /// Replacement replicas made by copying a survivor's prefix.
    replicas_replaced;
    /// Replicas blamed during writes.
    replicas_blamed;
    /// Chunks given up, because what was written to them was not published.
    chunks_abandoned;
    /// Times that tiny content moved from the metadata to a chunk, because too few voters had it in time.
    inline_moved;
    /// Grants asked for (messages).
    grant_requests;
    /// Bytes written by users.
    bytes_written;
    /// Bytes read by users.
    bytes_read;
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
