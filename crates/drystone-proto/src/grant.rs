//! What is signed with the cluster key: grants to write, receipts, and the leader's orders.
//!
//! A signature is HMAC-SHA256 over a purpose byte, the history id and the fields, so that nothing signed for
//! one purpose or history can serve in another.

use crate::command::Receipt;
use crate::record::{PolicyRecord, ReplicaRecord};
use drystone_types::HistoryId;
use hmac::{Hmac, Mac};
use prost::Message;
use sha2::Sha256;
use std::time::Duration;

/// The cluster's secret, 32 bytes, made when it is formatted. Debug shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(pub [u8; 32]);

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// Permission to write one chunk, as the token in a grant holds it.
#[derive(Clone, PartialEq, Message)]
pub struct WriteGrant {
    /// Chunk.
    #[prost(uint64, tag = "1")]
    pub chunk: u64,
    /// Epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Every replica that may take it.
    #[prost(message, repeated, tag = "3")]
    pub replicas: Vec<ReplicaRecord>,
    /// How long it can become, in bytes.
    #[prost(uint64, tag = "8")]
    pub max_bytes: u64,
    /// Policy.
    #[prost(message, optional, tag = "5")]
    pub policy: Option<PolicyRecord>,
    /// Wall-clock microseconds after which servers that trust their clock refuse it; 0 = none. No safety rests
    /// on it: the grant floor does that.
    #[prost(uint64, tag = "6")]
    pub expires: u64,
    /// A replacement in a private chunk: the prefix is written in order as if new.
    #[prost(bool, tag = "7")]
    pub replacement: bool,
    /// HMAC-SHA256, last field; empty while signing.
    #[prost(bytes = "bytes", tag = "15")]
    pub signature: bytes::Bytes,
}

/// A client begins to write to a chunk within this time after it was granted, or not at all: so long its bytes are kept
/// for it before its disks know of it.
pub const BEGIN_WITHIN: Duration = Duration::from_secs(10);

const PURPOSE_GRANT: u8 = 1;
const PURPOSE_RECEIPT: u8 = 2;
const PURPOSE_DELETE: u8 = 3;
const PURPOSE_FENCE: u8 = 4;
const PURPOSE_SEAL: u8 = 5;

impl ClusterKey {
    fn mac(&self, purpose: u8, history: HistoryId, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(&[purpose]);
        mac.update(&history.0);
        mac.update(message);
        mac
    }

    fn sign(&self, purpose: u8, history: HistoryId, message: &[u8]) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.mac(purpose, history, message).finalize().into_bytes())
    }

    fn verify(&self, purpose: u8, history: HistoryId, message: &[u8], signature: &[u8]) -> bool {
        self.mac(purpose, history, message)
            .verify_slice(signature)
            .is_ok()
    }
}

/// The token of a grant.
pub fn sign_grant(key: &ClusterKey, history: HistoryId, mut grant: WriteGrant) -> bytes::Bytes {
    grant.signature = bytes::Bytes::new();
    grant.signature = key.sign(PURPOSE_GRANT, history, &grant.encode_to_vec());
    grant.encode_to_vec().into()
}

/// The grant in `token`, or `None` if it is malformed or was not signed with this key for this history.
pub fn verify_grant(key: &ClusterKey, history: HistoryId, token: &[u8]) -> Option<WriteGrant> {
    let mut grant = WriteGrant::decode(token).ok()?;
    let signature = std::mem::take(&mut grant.signature);
    key.verify(PURPOSE_GRANT, history, &grant.encode_to_vec(), &signature)
        .then_some(grant)
}

/// Fills in the receipt's signature.
pub fn sign_receipt(key: &ClusterKey, history: HistoryId, receipt: &mut Receipt) {
    receipt.signature = bytes::Bytes::new();
    receipt.signature = key.sign(PURPOSE_RECEIPT, history, &receipt.encode_to_vec());
}

/// True if the receipt was signed with this key for this history.
pub fn verify_receipt(key: &ClusterKey, history: HistoryId, receipt: &Receipt) -> bool {
    let mut bare = receipt.clone();
    bare.signature = bytes::Bytes::new();
    key.verify(
        PURPOSE_RECEIPT,
        history,
        &bare.encode_to_vec(),
        &receipt.signature,
    )
}

fn order_message(chunk: u64, replica: &ReplicaRecord, numbers: &[u64]) -> Vec<u8> {
    let mut message = Vec::with_capacity(32 + numbers.len() * 8);
    for number in [chunk, replica.disk, replica.incarnation, replica.placement]
        .iter()
        .chain(numbers)
    {
        message.extend_from_slice(&number.to_le_bytes());
    }
    message
}

/// The leader's order to delete this placement of this chunk.
pub fn sign_delete(
    key: &ClusterKey,
    history: HistoryId,
    chunk: u64,
    replica: &ReplicaRecord,
) -> bytes::Bytes {
    key.sign(PURPOSE_DELETE, history, &order_message(chunk, replica, &[]))
}

/// True if the leader ordered it.
pub fn verify_delete(
    key: &ClusterKey,
    history: HistoryId,
    chunk: u64,
    replica: &ReplicaRecord,
    order: &[u8],
) -> bool {
    key.verify(
        PURPOSE_DELETE,
        history,
        &order_message(chunk, replica, &[]),
        order,
    )
}

/// The leader's order to fence this replica with this epoch.
pub fn sign_fence(
    key: &ClusterKey,
    history: HistoryId,
    chunk: u64,
    replica: &ReplicaRecord,
    epoch: u64,
) -> bytes::Bytes {
    key.sign(PURPOSE_FENCE, history, &order_message(chunk, replica, &[epoch]))
}

/// True if the leader ordered it.
pub fn verify_fence(
    key: &ClusterKey,
    history: HistoryId,
    chunk: u64,
    replica: &ReplicaRecord,
    epoch: u64,
    order: &[u8],
) -> bool {
    key.verify(
        PURPOSE_FENCE,
        history,
        &order_message(chunk, replica, &[epoch]),
        order,
    )
}

/// The leader's order to seal this replica.
pub fn sign_seal(
    key: &ClusterKey,
    history: HistoryId,
    chunk: u64,
    replica: &ReplicaRecord,
    (epoch, length, checksum): (u64, u64, u32),
) -> bytes::Bytes {
    key.sign(
        PURPOSE_SEAL,
        history,
        &order_message(chunk, replica, &[epoch, length, u64::from(checksum)]),
    )
}

/// True if the leader ordered it.
pub fn verify_seal(
    key: &ClusterKey,
    history: HistoryId,
    chunk: u64,
    replica: &ReplicaRecord,
    (epoch, length, checksum): (u64, u64, u32),
    order: &[u8],
) -> bool {
    key.verify(
        PURPOSE_SEAL,
        history,
        &order_message(chunk, replica, &[epoch, length, u64::from(checksum)]),
        order,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_good_for_its_history_and_key_only() {
        let (key, history) = (ClusterKey([1; 32]), HistoryId([2; 16]));
        let token = sign_grant(
            &key,
            history,
            WriteGrant {
                chunk: 7,
                epoch: 1,
                ..WriteGrant::default()
            },
        );
        assert_eq!(
            verify_grant(&key, history, &token).map(|grant| grant.chunk),
            Some(7)
        );
        assert_eq!(verify_grant(&key, HistoryId([3; 16]), &token), None);
        assert_eq!(verify_grant(&ClusterKey([9; 32]), history, &token), None);
        for at in 0..token.len() {
            let mut damaged = token.to_vec();
            damaged[at] ^= 1;
            assert_eq!(verify_grant(&key, history, &damaged), None, "byte {at}");
        }
    }

    #[test]
    fn a_receipt_cannot_serve_as_an_order() {
        let (key, history) = (ClusterKey([1; 32]), HistoryId([2; 16]));
        let replica = ReplicaRecord {
            disk: 1,
            incarnation: 2,
            placement: 3,
        };
        let mut receipt = Receipt {
            chunk: 7,
            replica: Some(replica),
            ..Receipt::default()
        };
        sign_receipt(&key, history, &mut receipt);
        assert!(verify_receipt(&key, history, &receipt));
        assert!(!verify_delete(&key, history, 7, &replica, &receipt.signature));
        receipt.length = 1;
        assert!(!verify_receipt(&key, history, &receipt));
    }
}
