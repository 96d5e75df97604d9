//! Receiving a snapshot: parts in order into a file, on a thread of its own.

use super::Snapshots;
use super::files::{Arriving, append, create};
use crate::layout;
use bytes::Bytes;
use drystone_proto::cluster::{Empty, ErrorReply};
use drystone_proto::raft::SnapshotPart;
use drystone_raft::{Input, SnapshotMeta};
use drystone_rpc::refusal;
use drystone_types::{Code, NodeId, Term};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// A part that has come, and who waits to hear of it. The queue of them keeps their order.
pub(crate) struct Incoming {
    pub(crate) part: SnapshotPart,
    pub(crate) data: Bytes,
    pub(crate) reply: oneshot::Sender<Result<Empty, ErrorReply>>,
}

/// Takes parts until the server stops.
pub(crate) async fn receive(snapshots: Arc<Snapshots>, mut inbox: mpsc::Receiver<Incoming>) {
    let mut stopped = snapshots.parts.lifecycle.watch_stopped();
    loop {
        let incoming = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            incoming = inbox.recv() => incoming,
        };
        let Some(Incoming { part, data, reply }) = incoming else {
            return;
        };
        // Whoever gave up has dropped the receiver.
        let _ = reply.send(snapshots.take_part(part, &data));
    }
}

fn invalid(message: impl Into<String>) -> ErrorReply {
    refusal(Code::Invalid, message)
}

/// The sender goes on at `expected`.
fn conflict(message: &str, expected: u64) -> ErrorReply {
    ErrorReply {
        expected,
        ..refusal(Code::Conflict, message)
    }
}

impl Snapshots {
    /// Takes a part. The sender has been checked to be a member.
    ///
    /// # Errors
    /// What the sender is told: with `Conflict` where it goes on.
    fn take_part(&self, part: SnapshotPart, data: &[u8]) -> Result<Empty, ErrorReply> {
        let mut arriving = self.arriving.lock();
        let io = |error: std::io::Error| refusal(Code::NoSpace, format!("snapshot file: {error}"));
        if part.id.is_empty() || part.id.len() > 64 || data.is_empty() {
            return Err(invalid(
                "a snapshot has an id of 1 to 64 bytes, and a part has data",
            ));
        }
        let known = arriving.get(&part.from);
        if let Some(known) = known.filter(|known| known.complete) {
            // Its last answer may have been lost. Another must not replace it under Raft, which decides what becomes
            // of it.
            return if known.id == part.id && part.last {
                Ok(Empty {})
            } else {
                Err(refusal(Code::Busy, "a snapshot is being installed"))
            };
        }
        if known.is_none_or(|known| known.id != part.id) {
            if part.offset != 0 {
                return Err(conflict("no such transfer: begin again", 0));
            }
            let path = layout::snapshot_file(&format!("in-{}", part.from));
            let file = create(&*self.parts.disk, &path).map_err(io)?;
            let begun = Arriving {
                id: part.id.clone(),
                path,
                file,
                offset: 0,
                checksum: 0,
                complete: false,
            };
            arriving.insert(part.from, begun);
        }
        let Some(transfer) = arriving.get_mut(&part.from) else {
            return Err(conflict("no such transfer: begin again", 0));
        };
        if transfer.offset != part.offset {
            return Err(conflict("the transfer stands elsewhere", transfer.offset));
        }
        append(&*transfer.file, data, transfer.offset).map_err(io)?;
        transfer.offset += data.len() as u64;
        transfer.checksum = crc32c::crc32c_append(transfer.checksum, data);
        if !part.last {
            return Ok(Empty {});
        }
        if transfer.checksum != part.checksum {
            arriving.remove(&part.from);
            return Err(refusal(Code::Corrupt, "the snapshot's checksum does not match"));
        }
        let meta = part
            .meta
            .ok_or_else(|| invalid("the last part says what it is a part of"))?;
        let meta = SnapshotMeta::try_from(meta).map_err(invalid)?;
        transfer.complete = true;
        drop(arriving);
        self.parts.raft.input(Input::SnapshotReceived {
            from: NodeId(part.from),
            term: Term(part.term),
            meta,
        });
        Ok(Empty {})
    }

    /// The state was replaced: what else was on its way is of no use.
    pub(super) fn forget_incomplete(&self) {
        self.arriving.lock().retain(|_, transfer| {
            if !transfer.complete {
                let _ = self.parts.disk.unlink(&transfer.path);
            }
            transfer.complete
        });
    }
}
