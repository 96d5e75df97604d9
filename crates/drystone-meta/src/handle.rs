//! The handle of a running server, which the process keeps.

use crate::error::StopError;
use crate::lifecycle::Lifecycle;
use crate::membership::join::awaits_vote;
use crate::message::RaftView;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use drystone_env::Clock;
use drystone_identity::Identity;
use drystone_raft::Input;
use drystone_rpc::{Channels, ServerHandle};
use drystone_types::{ClusterId, HistoryId, NodeId};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a shutdown tries to hand leadership over.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long a stop waits for the last tasks to notice it; they hold no more than memory then.
const LAST_TASKS: Duration = Duration::from_secs(5);
/// How long a stop waits for the next thread to end: more than a flush takes.
const THREAD_PATIENCE: Duration = Duration::from_secs(10);
/// The thread that closes the state store.
const CLOSING: &str = "meta-close";

/// What keeps others out of the directory.
pub(crate) type DirectoryLock = Option<Box<dyn Send + Sync>>;

/// A running metadata server. Dropping it stops it as [`Handle::shutdown`] does, without waiting.
pub struct Handle {
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) channels: Channels,
    pub(crate) server: Option<ServerHandle>,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) address: SocketAddr,
    // Last: it is released when everything above is dropped.
    pub(crate) _directory_lock: DirectoryLock,
}

impl Handle {
    /// Where the wire listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The cluster that it was formatted for.
    pub fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    /// The history that it serves.
    pub fn history(&self) -> HistoryId {
        self.identity.history
    }

    /// True while a leader is known, this server holds a state that is not known to be incomplete, and it has not lost its
    /// vote by moving: the others would not do without it.
    pub fn is_ready(&self) -> bool {
        let view = self.raft.view();
        if self.lifecycle.is_stopped() || !is_ready(&view, self.node()) {
            return false;
        }
        let me = self.node().0;
        !(view.conf.learners.contains(&me) && self.state.read().node(NodeId(me)).is_some_and(awaits_vote))
    }

    /// True while this server leads and takes commands.
    pub fn is_leader(&self) -> bool {
        !self.lifecycle.is_stopped() && self.raft.office().is_some()
    }

    /// The leader, as far as this server knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.borrow_view().leader
    }

    /// The log index applied here.
    pub fn applied(&self) -> u64 {
        self.state.applied().applied()
    }

    /// Completes when [`Handle::is_ready`] first holds, or the server has ended (false).
    pub async fn ready(&self) -> bool {
        let (mut view, mut stopped) = (self.raft.watch(), self.lifecycle.watch_stopped());
        let node = self.node();
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => false,
            ready = view.wait_for(|view| is_ready(view, node)) => ready.is_ok(),
        }
    }

    /// Why the server stopped by itself (a failed disk), if it did.
    pub fn failure(&self) -> Option<String> {
        self.lifecycle.failure()
    }

    /// [`Handle::stopped`], for those who do not keep the handle.
    pub fn watch_stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopped = self.lifecycle.watch_stopped();
        async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    }

    /// The applied index and a hash over the whole state at it, for comparing voters; `None` if it cannot be read.
    /// Costs a scan of everything.
    pub fn state_hash(&self) -> Option<(u64, u64)> {
        let state = self.state.read();
        Some((state.applied().0, state.state_hash().ok()?))
    }

    /// Completes when the server has stopped, by itself or by [`Handle::shutdown`].
    pub async fn stopped(&self) {
        let _ = self.lifecycle.watch_stopped().wait_for(|stopped| *stopped).await;
    }

    /// Metrics, to be encoded by the admin port.
    pub fn registry(&self) -> Arc<Mutex<Registry>> {
        Arc::clone(&self.registry)
    }

    /// Stops: hands leadership over if it can within a second, flushes the state, ends every thread and unlocks
    /// the directory.
    ///
    /// # Errors
    /// For ten seconds no thread has ended, and some still run: a disk that hangs holds them up. They end with the process,
    /// or when the disk answers.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.hand_over().await;
        self.end().await
    }

    /// Stops without handing leadership over, as if the process had been asked to leave at once.
    ///
    /// # Errors
    /// As [`Handle::shutdown`].
    pub async fn abandon(self) -> Result<(), StopError> {
        self.end().await
    }

    /// Returns when nothing of the server is left, so that the directory can be opened again.
    async fn end(mut self) -> Result<(), StopError> {
        self.stop();
        self.server = None;
        let (node, clock, lifecycle) = (self.node(), Arc::clone(&self.clock), Arc::clone(&self.lifecycle));
        // On a thread as well: whoever is the last to drop the state closes its store, which may hang too.
        lifecycle.thread(CLOSING, self.close());
        let mut threads = lifecycle.threads_ended(&*clock, THREAD_PATIENCE).await;
        if threads.is_empty() {
            return Ok(());
        }
        if threads.len() > 1 {
            // It waits for the others.
            threads.retain(|thread| *thread != CLOSING);
        }
        let patience = THREAD_PATIENCE;
        Err(StopError {
            node,
            threads,
            patience,
        })
    }

    /// Drops everything, the store and the directory's lock with it, when nobody else uses them any more.
    async fn close(self) {
        self.lifecycle.other_threads_ended().await;
        let clock = &self.clock;
        let patience = clock.now().plus(LAST_TASKS);
        while !self.state.is_last() && clock.now() < patience {
            clock.sleep(Duration::from_millis(2)).await;
        }
    }

    async fn hand_over(&self) {
        let view = self.raft.view();
        let best = view
            .members
            .iter()
            .filter(|member| member.voter && member.recent_active && member.id != self.node())
            .max_by_key(|member| member.matched);
        if let (Some(_), Some(best)) = (view.office, best) {
            self.raft.input(Input::TransferLeader(best.id));
            let deadline = self.clock.now().plus(HAND_OVER);
            let mut watch = self.raft.watch();
            let node = self.node();
            let clock = Arc::clone(&self.clock);
            let _ = clock
                .until(
                    deadline,
                    watch.wait_for(|view| view.leader.is_some_and(|leader| leader != node)),
                )
                .await;
        }
    }

    fn stop(&self) {
        if let Some(server) = &self.server {
            server.shutdown();
        }
        self.lifecycle.stop();
        self.channels.close();
    }
}

fn is_ready(view: &RaftView, me: NodeId) -> bool {
    match view.leader {
        // Who is removed hears nothing more, not even who leads after that.
        _ if view.is_removed(me) => false,
        Some(leader) if leader == me => view.office.is_some(),
        Some(_) => !view.needs_snapshot,
        None => false,
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}
