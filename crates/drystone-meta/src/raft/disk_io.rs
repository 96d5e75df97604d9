//! The I/O threads of the Raft log: carry out what the core asks for, in order of arrival.
//!
//! Two lanes: writes and syncs, which are on the way of every commit, and the creation of segments, which takes
//! long and is asked for ahead of need.

use crate::lifecycle::Lifecycle;
use crate::message::ToRaft;
use drystone_env::{BufferPool, IoRequest};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The lanes' inboxes.
pub(crate) struct Lanes {
    /// Writes and syncs.
    pub(crate) writes: UnboundedSender<IoRequest>,
    /// Creation of segments.
    pub(crate) creations: UnboundedSender<IoRequest>,
}

/// Starts a lane that tells `raft` what became of each request; it ends when its sender is dropped.
pub(crate) fn start(
    lifecycle: &Arc<Lifecycle>,
    raft: UnboundedSender<ToRaft>,
    name: &'static str,
    pool: BufferPool,
) -> UnboundedSender<IoRequest> {
    let (sender, mut receiver) = unbounded_channel::<IoRequest>();
    lifecycle.thread(name, async move {
        while let Some(request) = receiver.recv().await {
            // Lost when the raft thread has ended.
            let _ = raft.send(ToRaft::Io(request.carry_out(&pool).await));
        }
    });
    sender
}
