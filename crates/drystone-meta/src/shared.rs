//! What the parts of one metadata server share.

use crate::config::Config;
use crate::membership::peers::Peers;
use crate::membership::processes::{Processes, RecordVerdict};
use crate::message::{Applied, RaftView, ToFlush, ToRaft};
use crate::metrics::Metrics;
use crate::raft::reads::ReadQueue;
use crate::raft::transport::Transport;
use crate::state::applied::AppliedIndex;
use crate::state::snapshot::Snapshots;
use crate::state::snapshot::receive::Incoming;
use crate::state::stores::{StateStore, States};
use drystone_env::{BoxFuture, Disk, Env};
use drystone_identity::Identity;
use drystone_namespace::Namespace;
use drystone_proto::Message;
use drystone_proto::command::{Command, Entry, Op, Origin};
use drystone_proto::raft::ConfChange;
use drystone_proto::record::{NodeRecord, role};
use drystone_raft::DropReason;
use drystone_rpc::Channels;
use drystone_types::BootId;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{mpsc, oneshot, watch};

/// The namespace as this server keeps it.
pub(crate) type StateMachine = Namespace<StateStore>;

/// Shared by every thread and task of one server.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) boot: BootId,
    /// Number of this server's log.
    pub(crate) log: u64,
    /// Where others reach this server.
    pub(crate) address: String,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) states: Arc<dyn States>,
    pub(crate) channels: Channels,
    pub(crate) peers: Arc<Peers>,
    pub(crate) transport: Transport,
    pub(crate) processes: Processes,
    pub(crate) reads: ReadQueue,
    pub(crate) applied: AppliedIndex,
    pub(crate) view: watch::Sender<RaftView>,
    pub(crate) snapshots: Snapshots,
    /// To the thread that receives snapshots.
    pub(crate) snapshot_parts: mpsc::Sender<Incoming>,
    pub(crate) metrics: Metrics,
    pub(crate) stopped: watch::Sender<bool>,
    pub(crate) threads: Threads,
    /// Free space is below the reserve: only commands that free space are taken.
    pub(crate) disk_full: AtomicBool,
    /// Held by the flusher while a batch is on its way, and by whoever replaces the state.
    pub(crate) flushing: Mutex<()>,
    pub(crate) state: RwLock<StateMachine>,
    pub(crate) raft: UnboundedSender<ToRaft>,
    pub(crate) flush: UnboundedSender<ToFlush>,
    pub(crate) failure: Mutex<Option<String>>,
}

/// A lock whose holder may have panicked: the server stops then anyway, and readers meanwhile see what is there.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The namespace, for readers.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, StateMachine> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the state says of the metadata servers.
    pub(crate) fn metadata_records(&self) -> Vec<NodeRecord> {
        let is_metadata = |node: &&NodeRecord| node.roles & role::METADATA != 0;
        self.read().nodes().filter(is_metadata).cloned().collect()
    }

    /// Takes what the replicated state says of metadata servers, up to where it says that this process is over: then
    /// false.
    pub(crate) fn take_records<'a>(&self, records: impl IntoIterator<Item = &'a NodeRecord>) -> bool {
        records.into_iter().all(|record| self.take_record(record))
    }

    /// Takes what it says, or said, of one.
    fn take_record(&self, record: &NodeRecord) -> bool {
        match self.processes.recorded(record, self.env.clock.now()) {
            RecordVerdict::Counts => self.peers.learn_from_record(record),
            RecordVerdict::Outdated => {}
            RecordVerdict::Superseded(reason) => {
                self.fail(reason);
                return false;
            }
        }
        true
    }

    /// A membership change carries the record of the member that it adds, which counts from there on.
    pub(crate) fn take_change(&self, change: &ConfChange) {
        if let Ok(node) = NodeRecord::decode(change.context.clone()) {
            self.take_record(&node);
        }
    }

    /// The namespace, for apply and flush.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, StateMachine> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends to the raft thread; lost when it has ended.
    pub(crate) fn to_raft(&self, message: ToRaft) {
        let _ = self.raft.send(message);
    }

    /// Sends to the flush thread; lost when it has ended.
    pub(crate) fn to_flush(&self, message: ToFlush) {
        let _ = self.flush.send(message);
    }

    /// What is known about Raft now.
    pub(crate) fn raft_view(&self) -> RaftView {
        self.view.borrow().clone()
    }

    /// The term of this server's office, if it holds one.
    pub(crate) fn office(&self) -> Option<u64> {
        self.view.borrow().office
    }

    /// True once the server is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// The server cannot go on: says why, once, and ends it.
    pub(crate) fn fail(&self, reason: String) {
        let mut failure = lock(&self.failure);
        if failure.is_none() && !self.is_stopped() {
            tracing::error!(node = %self.identity.node, reason, "metadata server stopped");
            *failure = Some(reason);
        }
        drop(failure);
        self.stopped.send_replace(true);
        self.to_raft(ToRaft::Stop);
        self.to_flush(ToFlush::Stop);
    }

    /// Proposes a command and waits until it is applied here. Dropping the future gives up the answer only.
    ///
    /// # Errors
    /// Why it was dropped; `Unknown` if this server ends meanwhile.
    pub(crate) async fn propose(&self, op: Op, origin: Option<Origin>) -> Result<Applied, DropReason> {
        let entry = Entry {
            time: 0,
            origin,
            command: Some(Command { op: Some(op) }),
            wall: 0,
        };
        let (reply, answer) = oneshot::channel();
        self.metrics.proposals.inc();
        self.to_raft(ToRaft::Propose {
            rest: entry.encode_to_vec().into(),
            reply,
        });
        answer.await.unwrap_or(Err(DropReason::Unknown))
    }

    /// Proposes a membership change, as [`Shared::propose`].
    pub(crate) async fn propose_conf(&self, change: ConfChange) -> Result<Applied, DropReason> {
        let (reply, answer) = oneshot::channel();
        self.to_raft(ToRaft::ProposeConf { change, reply });
        answer.await.unwrap_or(Err(DropReason::Unknown))
    }

    /// Starts a named task that ends with the server.
    pub(crate) fn spawn(self: &Arc<Self>, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stopped.subscribe();
        self.env.spawn.spawn(
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
        let body = self.counted(name, body);
        self.env.spawn.thread(name, body);
    }

    /// As [`Shared::thread`], for long work that gets the processor time which the other threads leave.
    pub(crate) fn background(
        self: &Arc<Self>,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) {
        let body = self.counted(name, body);
        self.env.spawn.background(name, body);
    }

    fn counted(
        self: &Arc<Self>,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<()> {
        let shared = Arc::clone(self);
        shared.threads.enter();
        Box::pin(async move {
            if AssertUnwindSafe(body).catch_unwind().await.is_err() {
                shared.fail(format!("thread {name} panicked"));
            }
            shared.threads.leave();
        })
    }
}

/// Counts running threads.
pub(crate) struct Threads(watch::Sender<usize>);

impl Default for Threads {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Threads {
    fn enter(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    fn leave(&self) {
        self.0.send_modify(|count| *count -= 1);
    }

    /// Completes when none runs.
    pub(crate) async fn ended(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}
