//! Policies as records: the one conversion in both directions.

use crate::record::PolicyRecord;
use drystone_types::{AckPolicy, ByteCount, Policy};

/// Why a record is no policy, every fault at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl From<&Policy> for PolicyRecord {
    fn from(policy: &Policy) -> Self {
        Self {
            replicas: policy.replicas,
            ack: policy.ack.number(),
            degraded_minimum: policy.degraded_minimum,
            chunk_bytes: policy.chunk_bytes.0,
        }
    }
}

impl PolicyRecord {
    /// The policy, if it is a valid one: for whoever acts by it.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn checked(&self) -> Result<Policy, PolicyError> {
        let mut faults = Vec::new();
        if AckPolicy::from_number(self.ack).is_none() {
            faults.push(format!("{} is no acknowledgement policy", self.ack));
        }
        let policy = self.as_told();
        faults.extend(policy.faults());
        if faults.is_empty() {
            Ok(policy)
        } else {
            Err(PolicyError(faults.join("; ")))
        }
    }

    /// The policy as it is told, for whoever shows it or asks for what it says: faults are left in it, and an
    /// acknowledgement that only a newer version knows reads as the strictest.
    pub fn as_told(&self) -> Policy {
        Policy {
            replicas: self.replicas,
            ack: AckPolicy::from_number(self.ack).unwrap_or(AckPolicy::All),
            degraded_minimum: self.degraded_minimum,
            chunk_bytes: ByteCount(self.chunk_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_back_from_its_record() {
        for ack in [
            AckPolicy::All,
            AckPolicy::Quorum,
            AckPolicy::One,
            AckPolicy::Memory,
        ] {
            let policy = Policy {
                ack,
                degraded_minimum: 2,
                ..Policy::default()
            };
            assert_eq!(PolicyRecord::from(&policy).checked(), Ok(policy));
        }
    }

    #[test]
    fn every_fault_is_told() {
        let record = PolicyRecord {
            replicas: 9,
            ack: 7,
            ..PolicyRecord::default()
        };
        let faults = record.checked().map_err(|error| error.to_string()).unwrap_err();
        for part in ["7 is no acknowledgement", "replicas is 9", "chunk size"] {
            assert!(faults.contains(part), "{faults}");
        }
        assert_eq!(record.as_told().ack, AckPolicy::All);
    }
}
