//! What the other parts of a server ask of the raft thread.

use super::reads::{ReadQueue, ReadReply};
use crate::membership::domains::Domains;
use crate::message::{Applied, RaftView, ToRaft};
use crate::metrics::Metrics;
use drystone_proto::command::{Op, Origin};
use drystone_proto::envelope::Envelope;
use drystone_proto::raft::ConfChange;
use drystone_raft::{DropReason, Input, ReadFailure};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};

/// A way to the raft thread, and what that thread has said last about Raft. Clones are cheap.
#[derive(Clone)]
pub(crate) struct RaftHandle {
    sender: UnboundedSender<ToRaft>,
    view: watch::Receiver<RaftView>,
    reads: Arc<ReadQueue>,
    metrics: Metrics,
}

impl RaftHandle {
    /// To the thread that takes from the other end of `sender`, publishes `view` and answers `reads`.
    pub(crate) fn new(
        sender: UnboundedSender<ToRaft>,
        view: watch::Receiver<RaftView>,
        reads: Arc<ReadQueue>,
        metrics: Metrics,
    ) -> Self {
        Self {
            sender,
            view,
            reads,
            metrics,
        }
    }

    /// Sends to the raft thread; lost when it has ended.
    pub(crate) fn send(&self, message: ToRaft) {
        let _ = self.sender.send(message);
    }

    /// Gives Raft an input as it is.
    pub(crate) fn input(&self, input: Input) {
        self.send(ToRaft::Input(input));
    }

    /// What is known about Raft now.
    pub(crate) fn view(&self) -> RaftView {
        self.view.borrow().clone()
    }

    /// As [`RaftHandle::view`], without a copy. Nothing may be waited for, and no lock taken, while it is held.
    pub(crate) fn borrow_view(&self) -> watch::Ref<'_, RaftView> {
        self.view.borrow()
    }

    /// What is known about Raft, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<RaftView> {
        self.view.clone()
    }

    /// The term of this server's office, if it holds one.
    pub(crate) fn office(&self) -> Option<u64> {
        self.view.borrow().office
    }

    /// Proposes a command and waits until it is applied here. Dropping the future gives up the answer only.
    ///
    /// # Errors
    /// Why it was dropped; `Unknown` if this server ends meanwhile.
    pub(crate) async fn propose(&self, op: Op, origin: Option<Origin>) -> Result<Applied, DropReason> {
        self.propose_encoded(Envelope::of(op, origin)).await
    }

    /// As [`RaftHandle::propose`], of a command that is encoded already.
    pub(crate) async fn propose_encoded(&self, command: Envelope) -> Result<Applied, DropReason> {
        let (reply, answer) = oneshot::channel();
        self.metrics.proposals.inc();
        let command = Box::new(command);
        self.send(ToRaft::Propose { command, reply });
        answer.await.unwrap_or(Err(DropReason::Unknown))
    }

    /// Proposes a membership change, as [`RaftHandle::propose`].
    pub(crate) async fn propose_conf(&self, change: ConfChange) -> Result<Applied, DropReason> {
        let (reply, answer) = oneshot::channel();
        self.send(ToRaft::ProposeConf { change, reply });
        answer.await.unwrap_or(Err(DropReason::Unknown))
    }

    /// The index at which a read that begins now may be answered; dropped when this server ends.
    pub(crate) fn read_index(&self) -> oneshot::Receiver<Result<u64, ReadFailure>> {
        let (reply, answer): (ReadReply, _) = oneshot::channel();
        if self.reads.push(reply) {
            self.send(ToRaft::Reads);
        }
        answer
    }

    /// The number of `domains` in which voters have synced `index`, once it is `need`; dropped when this member stops
    /// leading.
    pub(crate) fn synced(&self, index: u64, need: u32, domains: Domains) -> oneshot::Receiver<u32> {
        let (reply, answer) = oneshot::channel();
        self.send(ToRaft::Synced {
            index,
            need,
            domains,
            reply,
        });
        answer
    }
}
