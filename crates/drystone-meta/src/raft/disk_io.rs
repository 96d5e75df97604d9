//! The I/O threads of the Raft log: carry out what the core asks for, in order of arrival.
//!
//! Two lanes: writes and syncs, which are on the way of every commit, and the creation of segments, which takes
//! long and is asked for ahead of need.

use crate::message::ToRaft;
use crate::shared::Shared;
use drystone_env::{BufferPool, IoRequest};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Starts a lane; it ends when its sender is dropped.
pub(crate) fn start(
    shared: &Arc<Shared>,
    name: &'static str,
    pool: BufferPool,
) -> UnboundedSender<IoRequest> {
    let (sender, mut receiver) = unbounded_channel::<IoRequest>();
    let inner = Arc::clone(shared);
    shared.thread(name, async move {
        while let Some(request) = receiver.recv().await {
            inner.to_raft(ToRaft::Io(request.carry_out(&pool).await));
        }
    });
    sender
}
