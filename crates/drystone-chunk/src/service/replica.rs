//! Requests about one replica or about what a disk holds: finish, status, list, fence, seal, delete.

use crate::changes::ChangeLog;
use crate::disk::disks::Disks;
use crate::disk::runner::DiskRunner;
use crate::grants::GrantFloor;
use crate::metrics::Metrics;
use crate::orders::{DELETE_PATIENCE, Orders};
use crate::signatures::Signatures;
use drystone_env::Clock;
use drystone_proto::cluster::{Empty, ErrorReply};
use drystone_proto::data::{
    ChunkStatus, ChunkStatusRequest, Delete, DeleteReply, Fence, FenceReply, Finish, FinishReply, ListChunks,
    ListChunksReply, ReplicaState, Seal,
};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::{Request, refusal};
use drystone_types::Code;
use std::sync::Arc;

/// Orders in one message.
const MOST_ORDERS: usize = 4096;
/// Replicas in one page.
const MOST_LISTED: u32 = 10_000;

/// What answers them.
pub(crate) struct Replicas {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disks: Arc<Disks>,
    pub(crate) floor: Arc<GrantFloor>,
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) signatures: Arc<Signatures>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) orders: Arc<Orders>,
}

impl Replicas {
    /// Seals this replica alone at a length, under the writer's grant.
    pub(crate) async fn finish(self: Arc<Self>, request: Request) -> Result<FinishReply, ErrorReply> {
        let finish: Finish = request.decode()?;
        let (disk, replica) = self.disks.of(finish.replica)?;
        let permit = self.signatures.permit(&finish.grant)?;
        let admission = self.floor.admission(self.clock.wall());
        permit.admit(admission, (finish.chunk, finish.epoch), &replica, &[])?;
        let sealed = disk
            .finish(finish.chunk, finish.epoch, replica, finish.length)
            .await?;
        self.changes.note((replica.disk, finish.chunk));
        self.metrics.receipts.inc();
        Ok(FinishReply {
            receipt: Some(self.signatures.receipt(finish.chunk, replica, sealed)),
        })
    }

    /// What is known of a chunk.
    pub(crate) async fn status(self: Arc<Self>, request: Request) -> Result<ChunkStatus, ErrorReply> {
        let ask: ChunkStatusRequest = request.decode()?;
        let (disk, _) = self.disks.of(ask.replica)?;
        disk.status(ask.chunk).await
    }

    /// A page of what a disk holds.
    pub(crate) async fn list(self: Arc<Self>, request: Request) -> Result<ListChunksReply, ErrorReply> {
        let ask: ListChunks = request.decode()?;
        let disk = self.disks.by_id(ask.disk)?;
        let (chunks, more) = disk.list(ask.after, ask.limit.clamp(1, MOST_LISTED)).await?;
        Ok(ListChunksReply { chunks, more })
    }

    /// Raises the epoch and stops appends.
    pub(crate) async fn fence(self: Arc<Self>, request: Request) -> Result<FenceReply, ErrorReply> {
        let fence: Fence = request.decode()?;
        let (disk, replica) = self.disks.of(fence.replica)?;
        self.signatures.check_fence(&fence, &replica)?;
        check_placement(disk, fence.chunk, &replica).await?;
        let reply = disk.fence(fence.chunk, fence.epoch).await?;
        self.changes.note((replica.disk, fence.chunk));
        Ok(reply)
    }

    /// Makes a fenced replica immutable.
    pub(crate) async fn seal(self: Arc<Self>, request: Request) -> Result<Empty, ErrorReply> {
        let seal: Seal = request.decode()?;
        let (disk, replica) = self.disks.of(seal.replica)?;
        self.signatures.check_seal(&seal, &replica)?;
        check_placement(disk, seal.chunk, &replica).await?;
        disk.seal(seal.chunk, (seal.epoch, seal.length, seal.checksum))
            .await?;
        self.changes.note((replica.disk, seal.chunk));
        Ok(Empty {})
    }

    /// Deletes replicas by order.
    pub(crate) async fn delete(self: Arc<Self>, request: Request) -> Result<DeleteReply, ErrorReply> {
        let delete: Delete = request.decode()?;
        if delete.orders.len() > MOST_ORDERS {
            return Err(refusal(
                Code::TooLarge,
                format!("at most {MOST_ORDERS} orders are taken at once"),
            ));
        }
        let until = request.deadline.min(self.clock.now().plus(DELETE_PATIENCE));
        Ok(DeleteReply {
            codes: self.orders.delete(delete.orders, Some(until)).await,
        })
    }
}

/// An order is about one placement: a replica that was placed by another command is left alone.
async fn check_placement(disk: &DiskRunner, chunk: u64, replica: &ReplicaRecord) -> Result<(), ErrorReply> {
    let status = disk.status(chunk).await?;
    let here = status.state != ReplicaState::Absent as i32;
    match status.replica {
        Some(held) if here && held.placement != replica.placement => {
            let message = format!(
                "placement {} is held, the order is about {}",
                held.placement, replica.placement
            );
            Err(refusal(Code::Conflict, message))
        }
        _ => Ok(()),
    }
}
