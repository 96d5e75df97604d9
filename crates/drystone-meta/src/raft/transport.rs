//! How Raft's messages get to the other metadata servers, and from them to the raft thread.

use crate::membership::members::Members;
use crate::membership::processes::Process;
use crate::message::ToRaft;
use crate::metrics::Metrics;
use crate::state::cell::StateReader;
use drystone_proto::raft::{RaftMessage, RaftMessages};
use drystone_proto::{Kind, Message as _, Priority};
use drystone_rpc::Channels;
use drystone_types::{BootId, NodeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::UnboundedSender;

/// A batch of messages for one frame ends here: half of what a body may hold.
const FRAME_BYTES: usize = 4 << 20;
/// Bytes of messages that wait for the raft thread; more are dropped, which Raft expects of a network. Some
/// round trips of the largest windows.
const INBOX_BYTES: usize = 128 << 20;

/// Carries Raft's messages, best effort, in order per peer.
pub(crate) struct Transport {
    channels: Channels,
    metrics: Metrics,
    members: Arc<Members>,
    state: StateReader,
    /// Told with every batch.
    me: Process,
    raft: UnboundedSender<ToRaft>,
    inbox_bytes: AtomicUsize,
}

impl Transport {
    /// Sends over `channels` to where `members` are, as the process `me`, and hands what arrives to `raft`.
    pub(crate) fn new(
        channels: Channels,
        members: Arc<Members>,
        state: StateReader,
        me: Process,
        raft: UnboundedSender<ToRaft>,
        metrics: Metrics,
    ) -> Self {
        Self {
            channels,
            metrics,
            members,
            state,
            me,
            raft,
            inbox_bytes: AtomicUsize::new(0),
        }
    }

    /// Queues messages for `to`; what does not fit into the queue is lost.
    pub(crate) fn send(&self, to: NodeId, messages: Vec<RaftMessage>) {
        let Some(address) = self.members.peers().address(to) else {
            self.metrics.raft_dropped.inc_by(messages.len() as u64);
            return;
        };
        let channel = self.channels.to_node(&address, to);
        let mut batch = RaftMessages {
            messages: Vec::new(),
            address: self.me.address.clone(),
            boot_counter: self.me.boot.counter,
            boot_random: self.me.boot.random,
            log: self.me.log,
        };
        let mut bytes = 0;
        for message in messages {
            let size = message.encoded_len() + 8;
            if bytes + size > FRAME_BYTES && !batch.messages.is_empty() {
                self.flush(&channel, &mut batch);
                bytes = 0;
            }
            bytes += size;
            batch.messages.push(message);
        }
        self.flush(&channel, &mut batch);
    }

    fn flush(&self, channel: &drystone_rpc::Channel, batch: &mut RaftMessages) {
        if batch.messages.is_empty() {
            return;
        }
        if channel.send(Kind::Raft, batch, None, Priority::Control).is_err() {
            self.metrics.raft_dropped.inc_by(batch.messages.len() as u64);
        }
        batch.messages.clear();
    }

    /// Hands messages that arrived to the raft thread, unless too much waits there, or another process of the member
    /// counts. Where `from` is comes with them: this server may have been away when it joined, and lack the entries
    /// that would say so until it can answer.
    pub(crate) fn deliver(&self, from: NodeId, messages: RaftMessages) {
        let boot = BootId {
            counter: messages.boot_counter,
            random: messages.boot_random,
        };
        let process = Process::new(boot, messages.log, messages.address.clone());
        if !self.members.hear(from, process, || self.state.node(from)) {
            self.metrics.raft_dropped.inc_by(messages.messages.len() as u64);
            return;
        }
        let bytes = size(&messages.messages);
        if self.inbox_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > INBOX_BYTES {
            self.inbox_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.raft_dropped.inc_by(messages.messages.len() as u64);
            return;
        }
        // Lost when the raft thread has ended.
        let _ = self.raft.send(ToRaft::Messages(messages.messages));
    }

    /// The raft thread has taken these.
    pub(crate) fn received(&self, messages: &[RaftMessage]) {
        self.inbox_bytes.fetch_sub(size(messages), Ordering::Relaxed);
    }
}

/// Bytes that matter: entries carry them.
fn size(messages: &[RaftMessage]) -> usize {
    messages
        .iter()
        .flat_map(|message| &message.entries)
        .map(|entry| entry.data.len() + 64)
        .sum::<usize>()
        + messages.len() * 128
}
