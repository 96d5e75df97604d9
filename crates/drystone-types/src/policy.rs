//! How redundant data must be before it is acknowledged, and how chunks are cut.

use crate::size::ByteCount;
use crate::{CHECKSUM_BLOCK, MAX_CHUNK_BYTES};
use std::fmt;
use std::str::FromStr;

/// How many replicas must have synced before an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum AckPolicy {
    /// All n replicas have synced. Nothing acknowledged is lost while one replica survives. The default.
    #[default]
    All,
    /// A majority of n has synced.
    Quorum,
    /// One replica has synced: its loss before replication loses what it acknowledged.
    One,
    /// All replicas hold it in memory: a power cut of all of them loses it.
    Memory,
}

impl AckPolicy {
    /// The number on the wire and on disk.
    pub const fn number(self) -> u32 {
        match self {
            AckPolicy::All => 0,
            AckPolicy::Quorum => 1,
            AckPolicy::One => 2,
            AckPolicy::Memory => 3,
        }
    }

    /// The policy with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(AckPolicy::All),
            1 => Some(AckPolicy::Quorum),
            2 => Some(AckPolicy::One),
            3 => Some(AckPolicy::Memory),
            _ => None,
        }
    }

    /// How many of `replicas` must confirm before the acknowledgement.
    pub const fn required(self, replicas: u32) -> u32 {
        match self {
            AckPolicy::All | AckPolicy::Memory => replicas,
            AckPolicy::Quorum => replicas / 2 + 1,
            AckPolicy::One => 1,
        }
    }
}

impl fmt::Display for AckPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AckPolicy::All => "all",
            AckPolicy::Quorum => "quorum",
            AckPolicy::One => "one",
            AckPolicy::Memory => "memory",
        })
    }
}

impl FromStr for AckPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(AckPolicy::All),
            "quorum" => Ok(AckPolicy::Quorum),
            "one" => Ok(AckPolicy::One),
            "memory" => Ok(AckPolicy::Memory),
            other => Err(format!(
                "{other:?} is not an acknowledgement policy: all, quorum, one, memory"
            )),
        }
    }
}

/// What a directory asks for its new files; fixed in a chunk when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Replicas of each chunk, 1 to 8; default 3.
    pub replicas: u32,
    /// When a write is acknowledged; default [`AckPolicy::All`].
    pub ack: AckPolicy,
    /// With fewer eligible domains than `replicas` a write is refused, unless at least this many remain;
    /// then the answer names the redundancy reached. 0 means `replicas` (never degraded); default 0.
    pub degraded_minimum: u32,
    /// Size at which a stream is cut into chunks: a multiple of 4 KiB, 64 KiB to 64 MiB; default 64 MiB.
    pub chunk_bytes: ByteCount,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            replicas: 3,
            ack: AckPolicy::All,
            degraded_minimum: 0,
            chunk_bytes: ByteCount(MAX_CHUNK_BYTES),
        }
    }
}

impl Policy {
    /// The least redundancy at which a write may still be acknowledged.
    pub fn minimum(&self) -> u32 {
        if self.degraded_minimum == 0 {
            self.replicas
        } else {
            self.degraded_minimum.min(self.replicas)
        }
    }

    /// Replicas that must have confirmed a chunk before it is published.
    pub fn receipts(&self) -> u32 {
        self.minimum().min(self.ack.required(self.replicas)).max(1)
    }

    /// Every fault of this policy, in words; empty when it is valid.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=8).contains(&self.replicas) {
            faults.push(format!("replicas is {}, must be 1 to 8", self.replicas));
        }
        if self.degraded_minimum > self.replicas {
            faults.push(format!(
                "degraded-minimum is {}, above replicas ({})",
                self.degraded_minimum, self.replicas
            ));
        }
        let chunk = self.chunk_bytes.0;
        if !(64 << 10..=MAX_CHUNK_BYTES).contains(&chunk) || !chunk.is_multiple_of(CHECKSUM_BLOCK as u64) {
            faults.push(format!(
                "chunk size is {chunk}, must be a multiple of 4KiB from 64KiB to 64MiB"
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_acknowledgements() {
        assert_eq!(AckPolicy::All.required(3), 3);
        assert_eq!(AckPolicy::Quorum.required(3), 2);
        assert_eq!(AckPolicy::Quorum.required(4), 3);
        assert_eq!(AckPolicy::One.required(3), 1);
    }

    #[test]
    fn every_fault_of_a_policy_is_reported() {
        assert!(Policy::default().faults().is_empty());
        let bad = Policy {
            replicas: 0,
            degraded_minimum: 9,
            chunk_bytes: ByteCount(5000),
            ..Policy::default()
        };
        assert_eq!(bad.faults().len(), 3);
    }
}
