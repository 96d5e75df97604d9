//! Who the channels speak for, and their limits.

use drystone_env::BufferPool;
use drystone_types::{ClientId, ClusterId, HistoryId, Incarnation, NodeId};
use std::time::Duration;

/// Who the channels speak for, and their limits. Each default says why.
#[derive(Clone)]
pub struct ChannelOptions {
    /// Payloads are read into its buffers. Share one per process.
    pub pool: BufferPool,
    /// This process, unless a call names another client.
    pub client: ClientId,
    /// Our cluster, if known; else the first one met is adopted and no other accepted.
    pub cluster: Option<ClusterId>,
    /// Our history, if known; else the first one met is adopted and no other accepted.
    pub history: Option<HistoryId>,
    /// Our node; 0 for clients.
    pub node: NodeId,
    /// Its incarnation; 0 for clients.
    pub incarnation: Incarnation,
    /// What our node is as the sender of what goes through these channels, bits of `drystone_proto::record::role`; 0
    /// for clients. Servers look up in the table of kinds whether it may send what it sends.
    pub roles: u32,
    /// Version, for people.
    pub software: String,
    /// Calls that wait or are under way on one channel; more are refused: 65,536 (some 20 MiB of bookkeeping).
    pub calls: usize,
    /// Bytes of frames that wait in one channel; more are refused: 256 MiB, what a process may have
    /// unacknowledged. Their memory belongs to the callers; [`crate::Channel::ready`] waits for much less.
    pub queue_bytes: usize,
    /// One-way messages that wait in one channel; more are refused: 4,096 frames,
    pub one_way_frames: usize,
    /// and 32 MiB.
    pub one_way_bytes: usize,
    /// A connection that is not made and greeted by then is given up: 3 s.
    pub connect_timeout: Duration,
    /// A connection without calls is closed after this long: 5 min, a third of what our servers allow.
    pub idle_timeout: Duration,
    /// After a failed connection attempt calls are refused for a random time up to this: 300 ms, short enough to
    /// be part of a failover in seconds.
    pub reconnect_cap: Duration,
}

impl ChannelOptions {
    /// A client that knows neither cluster nor history.
    pub fn new(pool: BufferPool, client: ClientId) -> Self {
        Self {
            pool,
            client,
            cluster: None,
            history: None,
            node: NodeId(0),
            incarnation: Incarnation(0),
            roles: 0,
            software: String::new(),
            calls: 65_536,
            queue_bytes: 256 << 20,
            one_way_frames: 4_096,
            one_way_bytes: 32 << 20,
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(300),
            reconnect_cap: Duration::from_millis(300),
        }
    }
}
