//! Receiving a snapshot: parts in order into a file, on a thread of its own.

use super::Snapshots;
use super::arrivals::Taken;
use bytes::Bytes;
use drystone_proto::cluster::{Empty, ErrorReply};
use drystone_proto::raft::SnapshotPart;
use drystone_raft::Input;
use drystone_types::{NodeId, Term};
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

impl Snapshots {
    /// Takes a part. The sender has been checked to be a member.
    ///
    /// # Errors
    /// What the sender is told.
    fn take_part(&self, part: SnapshotPart, data: &[u8]) -> Result<Empty, ErrorReply> {
        let (from, term) = (NodeId(part.from), Term(part.term));
        if let Taken::Whole(meta) = self.arrivals.take(part, data)? {
            self.parts
                .raft
                .input(Input::SnapshotReceived { from, term, meta });
        }
        Ok(Empty {})
    }
}
