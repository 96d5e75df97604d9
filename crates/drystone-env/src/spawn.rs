//! Tasks and threads: all of a node's stop together when its [`Spawn`] is stopped or dropped.

use crate::BoxFuture;

/// The task seam.
pub trait Spawn: Send + Sync + 'static {
    /// Starts a named task. A panic in it is logged with the name and stops the node: see the implementation.
    fn spawn(&self, name: &str, task: BoxFuture<()>);
    /// Starts a named thread that may block. It must end by itself when its inputs are closed.
    fn thread(&self, name: &str, body: Box<dyn FnOnce() + Send + 'static>);
}
