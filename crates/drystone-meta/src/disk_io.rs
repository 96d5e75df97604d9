//! The I/O threads of the Raft log: carry out what the core asks for, in order of arrival.
//!
//! Two lanes: writes and syncs, which are on the way of every commit, and the creation of segments, which takes
//! long and is asked for ahead of need.

use crate::message::ToRaft;
use crate::shared::Shared;
use drystone_env::{BufferPool, IoRequest};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// Starts a lane; it ends when its sender is dropped.
pub(crate) fn start(shared: &Arc<Shared>, name: &'static str, pool: BufferPool) -> Sender<IoRequest> {
    let (sender, receiver) = channel::<IoRequest>();
    let inner = Arc::clone(shared);
    shared.thread(name, move || {
        while let Ok(request) = receiver.recv() {
            inner.to_raft(ToRaft::Io(request.execute(&pool)));
        }
    });
    sender
}
