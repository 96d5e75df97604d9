//! Limits of a server.

use drystone_env::BufferPool;
use drystone_proto::Priority;
use std::time::Duration;

/// What one priority class may have under way in the whole server; over it the answer is `busy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClassLimit {
    /// Requests that have been handed to the service and not been answered.
    pub requests: u32,
    /// Bytes of their bodies and payloads.
    pub bytes: u64,
}

/// Limits of a server. Each default says why.
#[derive(Clone)]
pub struct ServerOptions {
    /// Payloads are read into its buffers. Share one per process.
    pub pool: BufferPool,
    /// Connections at once, 4,096, or fewer where descriptors are few ([`drystone_env::Listener::room`]). One more takes
    /// the place of the one that has been idle for longest, or waits.
    pub connections: usize,
    /// Unanswered requests of one connection, told to the peer in the hello; beyond it nothing is read.
    /// 1,024: far above what a round trip of pipelining needs.
    pub window: u32,
    /// Limits of control, foreground and repair, each on its own so that none starves a higher one.
    pub classes: [ClassLimit; 3],
    /// Bytes of answers that wait for one peer before its requests are left unread: 4 MiB, a few bulk frames.
    pub queue_bytes: usize,
    /// A peer that takes no byte of its answers for this long is cut off: 30 s.
    pub write_stall: Duration,
    /// A connection without a hello by then is closed: 5 s.
    pub hello_timeout: Duration,
    /// A connection on which nothing arrives for this long and nothing is under way is closed: 15 min, three
    /// times what our clients keep an idle one, so that it is the client that closes.
    pub idle_timeout: Duration,
    /// The longest deadline that a request is given, also if it names none: 10 min.
    pub max_deadline: Duration,
    /// What `busy` asks the caller to wait, in milliseconds, at the limit: 50, some service times.
    pub retry_after_ms: u32,
}

impl ServerOptions {
    /// The defaults over `pool`.
    pub fn new(pool: BufferPool) -> Self {
        Self {
            pool,
            connections: 4_096,
            window: 1_024,
            classes: [
                // Consensus, heartbeats, fences: small, must always get through.
                ClassLimit {
                    requests: 16_384,
                    bytes: 256 << 20,
                },
                // A queue of 8,192 is about 100 ms at the rates that one server reaches.
                ClassLimit {
                    requests: 8_192,
                    bytes: 512 << 20,
                },
                // Repair is throttled by its planner; this is the ceiling of what it may hold here.
                ClassLimit {
                    requests: 512,
                    bytes: 64 << 20,
                },
            ],
            queue_bytes: 4 << 20,
            write_stall: Duration::from_secs(30),
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(900),
            max_deadline: Duration::from_secs(600),
            retry_after_ms: 50,
        }
    }

    pub(crate) fn class(&self, priority: Priority) -> ClassLimit {
        match priority {
            Priority::Control => self.classes[0],
            Priority::Foreground => self.classes[1],
            Priority::Repair => self.classes[2],
        }
    }
}
