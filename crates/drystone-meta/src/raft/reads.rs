//! Linearizable reads that wait for a confirmation of leadership.

use crate::locks::READS;
use drystone_env::sync::Mutex;
use drystone_raft::ReadFailure;
use drystone_types::Code;
use tokio::sync::oneshot;

/// Answers a read with the index at which the state may be read.
pub(crate) type ReadReply = oneshot::Sender<Result<u64, ReadFailure>>;

/// Reads that wait for one confirmation of leadership together.
pub(crate) struct ReadQueue {
    waiting: Mutex<Vec<ReadReply>>,
}

impl Default for ReadQueue {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(READS, Vec::new()),
        }
    }
}

impl ReadQueue {
    /// Adds a read; true if the raft thread must be told.
    pub(crate) fn push(&self, reply: ReadReply) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.push(reply);
        waiting.len() == 1
    }

    /// Takes all that wait.
    pub(super) fn take(&self) -> Vec<ReadReply> {
        std::mem::take(&mut self.waiting.lock())
    }
}

/// Answers reads that were confirmed, or failed, together.
pub(super) fn answer_reads(reads: Vec<ReadReply>, answer: Result<u64, ReadFailure>) {
    for reply in reads {
        // Whoever gave up has dropped the receiver.
        let _ = reply.send(answer);
    }
}

/// How a read that failed is refused.
pub(crate) fn read_failure(reason: ReadFailure) -> (Code, &'static str) {
    match reason {
        ReadFailure::Busy => (Code::Busy, "too many reads are under way"),
        ReadFailure::Timeout => (
            Code::Unavailable,
            "no majority of voters confirmed the leader in time",
        ),
    }
}
