//! Finish, status and list, and the leader's signed orders: fence, seal, delete.

use crate::chain::core::refusal;
use crate::disk::runner::DiskRunner;
use crate::grants::Permit;
use crate::memory::cache::ReplicaKey;
use crate::node::{Node, SharedNode};
use drystone_env::Monotonic;
use drystone_proto::cluster::{Empty, ErrorReply};
use drystone_proto::data::{
    ChunkStatus, ChunkStatusRequest, Delete, DeleteOrder, DeleteReply, Fence, FenceReply, Finish,
    FinishReply, ListChunks, ListChunksReply, ReplicaState, Seal,
};
use drystone_proto::grant::{verify_delete, verify_fence, verify_seal};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::Request;
use drystone_types::Code;
use std::time::Duration;

/// Orders in one message.
const MOST_ORDERS: usize = 4096;
/// A disk that has not deleted by then does not answer: a deletion is one record in its journal.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Replicas in one page.
const MOST_LISTED: u32 = 10_000;

/// Seals this replica alone at a length, under the writer's grant.
pub(crate) async fn finish(node: SharedNode, request: Request) -> Result<FinishReply, ErrorReply> {
    let finish: Finish = request.decode()?;
    let (disk, replica) = node.disk(finish.replica)?;
    let permit = Permit::verify(&node.identity.key, node.identity.history, &finish.grant)?;
    permit.admit(node.gate(), (finish.chunk, finish.epoch), &replica, &[])?;
    let sealed = disk
        .finish(finish.chunk, finish.epoch, replica, finish.length)
        .await?;
    node.changes().note((replica.disk, finish.chunk));
    node.metrics.receipts.inc();
    Ok(FinishReply {
        receipt: Some(node.receipt(finish.chunk, replica, sealed)),
    })
}

/// What is known of a chunk.
pub(crate) async fn status(node: SharedNode, request: Request) -> Result<ChunkStatus, ErrorReply> {
    let ask: ChunkStatusRequest = request.decode()?;
    let (disk, _) = node.disk(ask.replica)?;
    disk.status(ask.chunk).await
}

/// A page of what a disk holds.
pub(crate) async fn list(node: SharedNode, request: Request) -> Result<ListChunksReply, ErrorReply> {
    let ask: ListChunks = request.decode()?;
    let disk = node.disk_by_id(ask.disk)?;
    let (chunks, more) = disk.list(ask.after, ask.limit.clamp(1, MOST_LISTED)).await?;
    Ok(ListChunksReply { chunks, more })
}

/// Raises the epoch and stops appends.
pub(crate) async fn fence(node: SharedNode, request: Request) -> Result<FenceReply, ErrorReply> {
    let fence: Fence = request.decode()?;
    let (disk, replica) = node.disk(fence.replica)?;
    let identity = &node.identity;
    if !verify_fence(
        &identity.key,
        identity.history,
        fence.chunk,
        &replica,
        fence.epoch,
        &fence.order,
    ) {
        return Err(not_signed());
    }
    check_placement(disk, fence.chunk, &replica).await?;
    let reply = disk.fence(fence.chunk, fence.epoch).await?;
    node.changes().note((replica.disk, fence.chunk));
    Ok(reply)
}

/// Makes a fenced replica immutable.
pub(crate) async fn seal(node: SharedNode, request: Request) -> Result<Empty, ErrorReply> {
    let seal: Seal = request.decode()?;
    let (disk, replica) = node.disk(seal.replica)?;
    let identity = &node.identity;
    let what = (seal.epoch, seal.length, seal.checksum);
    if !verify_seal(
        &identity.key,
        identity.history,
        seal.chunk,
        &replica,
        what,
        &seal.order,
    ) {
        return Err(not_signed());
    }
    check_placement(disk, seal.chunk, &replica).await?;
    disk.seal(seal.chunk, what).await?;
    node.changes().note((replica.disk, seal.chunk));
    Ok(Empty {})
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

fn not_signed() -> ErrorReply {
    refusal(Code::Denied, "the order was not signed by this cluster's leader")
}

/// Deletes replicas by order.
pub(crate) async fn delete(node: SharedNode, request: Request) -> Result<DeleteReply, ErrorReply> {
    let delete: Delete = request.decode()?;
    if delete.orders.len() > MOST_ORDERS {
        return Err(refusal(
            Code::TooLarge,
            format!("at most {MOST_ORDERS} orders are taken at once"),
        ));
    }
    let until = request.deadline.min(node.env.clock.now().plus(PATIENCE));
    Ok(DeleteReply {
        codes: execute(&node, delete.orders, Some(until)).await,
    })
}

/// Executes orders, all queued before the first is waited for. 0 for each that is done; those that no disk has
/// answered `until` then are `unknown`.
pub(crate) async fn execute(node: &Node, orders: Vec<DeleteOrder>, until: Option<Monotonic>) -> Vec<u32> {
    let begun: Vec<_> = orders
        .into_iter()
        .map(|order| {
            let pending = begin_delete(node, &order);
            (order, pending)
        })
        .collect();
    let mut codes = Vec::with_capacity(begun.len());
    for (order, pending) in begun {
        let result = match pending {
            Ok(pending) => match until {
                Some(until) => (node.env.clock.until(until, pending).await)
                    .unwrap_or_else(|| Err(refusal(Code::Unknown, "the disk did not answer in time"))),
                None => pending.await,
            },
            Err(error) => Err(error),
        };
        codes.push(match result {
            Ok(()) => {
                deleted(node, order);
                0
            }
            Err(error) => node.fail("delete", error).code,
        });
    }
    codes
}

fn begin_delete(node: &Node, order: &DeleteOrder) -> Result<crate::disk::ops::Pending<()>, ErrorReply> {
    let identity = &node.identity;
    let named = order
        .replica
        .ok_or_else(|| refusal(Code::Invalid, "no replica is named"))?;
    if !verify_delete(&identity.key, identity.history, order.chunk, &named, &order.order) {
        return Err(not_signed());
    }
    let (disk, replica) = node.disk(Some(named))?;
    Ok(disk.delete(order.chunk, replica))
}

fn deleted(node: &Node, order: DeleteOrder) {
    if let Some(replica) = order.replica {
        node.cache.forget(ReplicaKey::new(order.chunk, &replica));
        node.metrics.deleted.inc();
        node.changes().note_deleted((replica.disk, order.chunk), order);
    }
}
