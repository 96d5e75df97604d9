//! Tasks and threads: all of a node's stop together when its [`Spawn`] is stopped or dropped.

use crate::BoxFuture;

/// The task seam.
pub trait Spawn: Send + Sync + 'static {
    /// Starts a named task, which must not block. A panic in it is logged with the name and stops the node: see
    /// the implementation.
    fn spawn(&self, name: &str, task: BoxFuture<()>);
    /// Starts a named task on a thread of its own: between two awaits it may block on a disk, and on nothing else
    /// (in a simulation it shares its thread with everything). It must end by itself when its inputs are closed.
    fn thread(&self, name: &str, body: BoxFuture<()>);
    /// As [`Spawn::thread`], for long work that nobody waits for: where the system can, it gets only the processor time
    /// that the other threads leave.
    fn background(&self, name: &str, body: BoxFuture<()>) {
        self.thread(name, body);
    }
    /// Called between the steps of background work, on its thread: where the machine has no processor to spare it
    /// blocks for a while, at most for a few times as long as the step took.
    fn rest(&self) {}
}
