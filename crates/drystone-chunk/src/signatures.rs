//! What this server signs, and whose signatures it takes: those of its cluster in its history.

use crate::grants::Permit;
use bytes::Bytes;
use drystone_identity::Identity;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::Receipt;
use drystone_proto::data::{DeleteOrder, Fence, Seal};
use drystone_proto::grant::{ClusterKey, sign_receipt, verify_delete, verify_fence, verify_seal};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::refusal;
use drystone_store::Sealed;
use drystone_types::{Code, HistoryId};

/// The cluster's key and history.
pub(crate) struct Signatures {
    key: ClusterKey,
    history: HistoryId,
}

impl Signatures {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            key: identity.key.clone(),
            history: identity.history,
        }
    }

    /// The permission in a token of the leader.
    pub(crate) fn permit(&self, token: &Bytes) -> Result<Permit, ErrorReply> {
        Permit::verify(&self.key, self.history, token)
    }

    /// The signed receipt for a sealed replica.
    pub(crate) fn receipt(&self, chunk: u64, replica: ReplicaRecord, sealed: Sealed) -> Receipt {
        let mut receipt = Receipt {
            chunk,
            epoch: sealed.epoch.0,
            length: sealed.length,
            checksum: sealed.checksum,
            replica: Some(replica),
            signature: Bytes::new(),
        };
        sign_receipt(&self.key, self.history, &mut receipt);
        receipt
    }

    /// Signs the receipt that an error may carry.
    pub(crate) fn sign(&self, error: &mut ErrorReply) {
        if let Some(receipt) = &mut error.receipt {
            sign_receipt(&self.key, self.history, receipt);
        }
    }

    /// Refuses an order to fence that the leader has not signed for this replica.
    pub(crate) fn check_fence(&self, fence: &Fence, replica: &ReplicaRecord) -> Result<(), ErrorReply> {
        let (chunk, epoch) = (fence.chunk, fence.epoch);
        signed(verify_fence(
            &self.key,
            self.history,
            chunk,
            replica,
            epoch,
            &fence.order,
        ))
    }

    /// Refuses an order to seal that the leader has not signed for this replica.
    pub(crate) fn check_seal(&self, seal: &Seal, replica: &ReplicaRecord) -> Result<(), ErrorReply> {
        let what = (seal.epoch, seal.length, seal.checksum);
        signed(verify_seal(
            &self.key,
            self.history,
            seal.chunk,
            replica,
            what,
            &seal.order,
        ))
    }

    /// Refuses an order to delete that the leader has not signed for this replica.
    pub(crate) fn check_delete(
        &self,
        order: &DeleteOrder,
        replica: &ReplicaRecord,
    ) -> Result<(), ErrorReply> {
        signed(verify_delete(
            &self.key,
            self.history,
            order.chunk,
            replica,
            &order.order,
        ))
    }
}

fn signed(is_signed: bool) -> Result<(), ErrorReply> {
    let message = "the order was not signed by this cluster's leader";
    is_signed
        .then_some(())
        .ok_or_else(|| refusal(Code::Denied, message))
}
