//! How a client process behaves, on whose behalf it acts, and how fresh its look-ups are.

use crate::waits::Waits;
use drystone_types::ByteCount;
use std::time::Duration;

/// On whose behalf an operation is done: permissions are checked by the namespace against it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// User name; `drystone` is the superuser.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl Caller {
    /// A user without groups.
    pub fn new(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            groups: Vec::new(),
        }
    }

    /// The superuser.
    pub fn superuser() -> Self {
        Self::new("drystone")
    }
}

/// How fresh a look-up must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consistency {
    /// Sees everything that was answered to anybody before the look-up began.
    #[default]
    Linearizable,
    /// Sees at least what this handle, or its session token, has seen.
    Session,
}

/// How a client process behaves. Start from [`Options::new`] and change fields.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// `host:port` of the metadata servers, any number of them: the others are learned. No default.
    pub metadata: Vec<String>,
    /// Default caller; default: the superuser (a door replaces it per request with [`crate::Client::as_caller`]).
    pub caller: Caller,
    /// This machine's host name as the chunk servers' `host` names it: first replicas go, and reads come from, near
    /// it. Default empty (no preference).
    pub host: String,
    /// How long an operation, or one step of a long write or read, may take before it is given up; default 30 s.
    pub deadline: Duration,
    /// Chunks that one writer fills at the same time; default 10, 1 to 64.
    pub streams: usize,
    /// Bytes sent and not yet durable, over all writers of this process; default 256 MiB, at least 2 MiB.
    pub unacknowledged: ByteCount,
    /// Frames of 1 MiB in flight per chunk; default 8: at 1 GB/s a window of 8 MiB covers 8 ms of round trip.
    pub append_window: usize,
    /// A durable acknowledgement is asked for, and buffers freed, after this many bytes of a chunk; default 16 MiB.
    pub sync_every: ByteCount,
    /// Frames of 1 MiB in flight per read stream, and so its memory; default 8.
    pub read_window: usize,
    /// Overrides the directories' chunk size; default `None`. A multiple of 4 KiB from 64 KiB to 64 MiB.
    pub chunk_bytes: Option<ByteCount>,
    /// Tiny files go into the command itself when the cluster allows it; default true.
    pub inline: bool,
    /// Write grants fetched ahead for small files, at most; default 32; 0: none.
    pub grant_prefetch: u32,
    /// A replica is slow, and left out, beyond this and ten times the usual p99; default 1 s.
    pub slow: Duration,
    /// Ask a second replica when the first takes longer than the usual p95 (at most 5 % extra); default true.
    pub hedge: bool,
    /// The cluster forgets the idempotency session after this long without a command; default 1 h.
    pub session_ttl: Duration,
    /// Where this process says what it is waiting for: keep a clone to show it to people.
    pub waits: Waits,
}

impl Options {
    /// The defaults, for a cluster with these metadata servers.
    pub fn new<A: Into<String>>(metadata: impl IntoIterator<Item = A>) -> Self {
        Self {
            metadata: metadata.into_iter().map(Into::into).collect(),
            caller: Caller::superuser(),
            host: String::new(),
            deadline: Duration::from_secs(30),
            streams: 10,
            unacknowledged: ByteCount(256 << 20),
            append_window: 8,
            sync_every: ByteCount(16 << 20),
            read_window: 8,
            chunk_bytes: None,
            inline: true,
            grant_prefetch: 32,
            slow: Duration::from_secs(1),
            hedge: true,
            session_ttl: Duration::from_secs(3600),
            waits: Waits::default(),
        }
    }

    /// Every fault of these options, in words; empty when they are valid.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.metadata.is_empty() {
            faults.push("metadata names no server".into());
        }
        if !(1..=64).contains(&self.streams) {
            faults.push(format!("streams is {}, must be 1 to 64", self.streams));
        }
        if !(2 << 20..=u64::from(u32::MAX) / 2).contains(&self.unacknowledged.0) {
            faults.push(format!(
                "unacknowledged is {}, must be 2MiB to 2047MiB",
                self.unacknowledged
            ));
        }
        if self.append_window == 0 || self.read_window == 0 {
            faults.push("append-window and read-window must be at least 1".into());
        }
        if self.deadline.is_zero() {
            faults.push("deadline must not be zero".into());
        }
        if let Some(chunk) = self.chunk_bytes {
            let policy = drystone_types::Policy {
                chunk_bytes: chunk,
                ..Default::default()
            };
            faults.extend(policy.faults());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_reported() {
        assert!(Options::new(["127.0.0.1:1"]).faults().is_empty());
        let none: [&str; 0] = [];
        let bad = Options {
            streams: 0,
            chunk_bytes: Some(ByteCount(5)),
            ..Options::new(none)
        };
        assert_eq!(bad.faults().len(), 3);
    }
}
