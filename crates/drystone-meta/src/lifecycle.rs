//! The tasks and threads of one server, and its end.

use crate::locks::FAILURE;
use drystone_env::sync::Mutex;
use drystone_env::{BoxFuture, Clock, Spawn};
use drystone_types::NodeId;
use futures_util::FutureExt;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// See the module. Everything that runs for a server is started here, and ends when the server does.
pub(crate) struct Lifecycle {
    node: NodeId,
    spawn: Arc<dyn Spawn>,
    stopped: watch::Sender<bool>,
    /// Names of the threads that run.
    threads: watch::Sender<Vec<&'static str>>,
    failure: Mutex<Option<String>>,
    /// Tells the event loops, which wait for their channels, that they are to end.
    end_loops: Box<dyn Fn() + Send + Sync>,
}

impl Lifecycle {
    /// Of the server `node`; `end_loops` is called at its end.
    pub(crate) fn new(
        node: NodeId,
        spawn: Arc<dyn Spawn>,
        end_loops: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            node,
            spawn,
            stopped: watch::Sender::new(false),
            threads: watch::Sender::new(Vec::new()),
            failure: Mutex::new(FAILURE, None),
            end_loops: Box::new(end_loops),
        }
    }

    /// True once the server is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Becomes true when the server is to end.
    pub(crate) fn watch_stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// Ends the server. May be called again.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
        (self.end_loops)();
    }

    /// The server cannot go on: says why, once, and ends it.
    pub(crate) fn fail(&self, reason: String) {
        let mut failure = self.failure.lock();
        if failure.is_none() && !self.is_stopped() {
            tracing::error!(node = %self.node, reason, "metadata server stopped");
            *failure = Some(reason);
        }
        drop(failure);
        self.stop();
    }

    /// Why the server stopped by itself, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Starts a named task that ends with the server.
    pub(crate) fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stopped.subscribe();
        self.spawn.spawn(
            name,
            Box::pin(async move {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                    () = task => {}
                }
            }),
        );
    }

    /// Starts a named thread that is counted, so that the end can wait for it. A panic in it ends the server.
    pub(crate) fn thread(
        self: &Arc<Self>,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn.thread(name, self.counted(name, body));
    }

    /// As [`Lifecycle::thread`], for long work that gets the processor time which the other threads leave.
    pub(crate) fn background(
        self: &Arc<Self>,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn.background(name, self.counted(name, body));
    }

    /// Between the steps of background work: see [`Spawn::rest`].
    pub(crate) fn rest(&self) {
        self.spawn.rest();
    }

    fn counted(
        self: &Arc<Self>,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<()> {
        let lifecycle = Arc::clone(self);
        lifecycle.threads.send_modify(|running| running.push(name));
        Box::pin(async move {
            if AssertUnwindSafe(body).catch_unwind().await.is_err() {
                lifecycle.fail(format!("thread {name} panicked"));
            }
            lifecycle.threads.send_modify(|running| {
                let at = running.iter().position(|other| *other == name);
                running.swap_remove(at.expect("a thread that ends has run"));
            });
        })
    }

    /// Completes when no thread runs but the one that asks.
    pub(crate) async fn other_threads_ended(&self) {
        let mut threads = self.threads.subscribe();
        let _ = threads.wait_for(|running| running.len() <= 1).await;
    }

    /// Completes when no thread runs, or none has ended for as long as `patience`: the names of those that still run.
    pub(crate) async fn threads_ended(&self, clock: &dyn Clock, patience: Duration) -> Vec<&'static str> {
        let mut threads = self.threads.subscribe();
        loop {
            let mut running = threads.borrow_and_update().clone();
            let deadline = clock.now().plus(patience);
            if running.is_empty() || clock.until(deadline, threads.changed()).await.is_none() {
                // Several have one name.
                let mut named = BTreeSet::new();
                running.retain(|thread| named.insert(*thread));
                return running;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_env::Env;
    use std::sync::mpsc::channel;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_waits_while_threads_end_and_names_those_that_do_not() {
        let env = Env::os();
        let lifecycle = Arc::new(Lifecycle::new(NodeId(1), Arc::clone(&env.spawn), || ()));
        let patience = Duration::from_secs(1);
        // Together they need more than the patience.
        for (name, steps) in [("one", 3), ("two", 6), ("three", 9)] {
            let clock = Arc::clone(&env.clock);
            let step = patience / 5;
            lifecycle.thread(name, async move { clock.sleep(step * steps).await });
        }
        let mut release = Vec::new();
        for _ in 0..2 {
            let (sender, hangs) = channel::<()>();
            lifecycle.thread("stuck", async move {
                let _ = hangs.recv();
            });
            release.push(sender);
        }
        let left = lifecycle.threads_ended(&*env.clock, patience).await;
        assert_eq!(left, ["stuck"]);
        drop(release);
        let left = lifecycle
            .threads_ended(&*env.clock, Duration::from_secs(60))
            .await;
        assert!(left.is_empty(), "{left:?}");
    }
}
