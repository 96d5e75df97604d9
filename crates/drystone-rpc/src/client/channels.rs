//! All channels of one process, and what they have learned of their cluster.

use super::channel::Shared;
use super::{Channel, ChannelOptions};
use crate::error::refusal;
use crate::locks;
use drystone_env::Env;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_proto::cluster::{ErrorReply, HelloReply};
use drystone_types::{ClusterId, Code, HistoryId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Channels that are kept though nobody holds them: more than a large cluster has servers.
const KEPT: usize = 4_096;

/// What all channels share.
pub(super) struct Common {
    pub(super) env: Env,
    pub(super) options: ChannelOptions,
    known: Mutex<Known>,
}

#[derive(Clone, Copy)]
struct Known {
    cluster: Option<ClusterId>,
    history: Option<HistoryId>,
}

impl Common {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.known().cluster
    }

    pub(super) fn history(&self) -> Option<HistoryId> {
        self.known().history
    }

    /// Accepts a server of our cluster and history, and learns them from the first one.
    pub(super) fn learn(&self, reply: &HelloReply) -> Result<HistoryId, ErrorReply> {
        let (Some(cluster), Some(history)) = (
            ClusterId::from_slice(&reply.cluster),
            HistoryId::from_slice(&reply.history),
        ) else {
            return Err(refusal(Code::Stranger, "the server names no cluster and history"));
        };
        let mut known = self.known();
        if known.cluster.is_some_and(|ours| ours != cluster)
            || known.history.is_some_and(|ours| ours != history)
        {
            let message = format!("the server belongs to cluster {cluster}, history {history}, not to ours");
            return Err(refusal(Code::Stranger, message));
        }
        (known.cluster, known.history) = (Some(cluster), Some(history));
        Ok(history)
    }
}

struct Inner {
    common: Arc<Common>,
    channels: Mutex<BTreeMap<(String, NodeId, u8), Arc<Shared>>>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, NodeId, u8), Arc<Shared>>> {
        self.channels.lock()
    }
}

/// All channels of one process (or node): one per address, shared by all who ask for it. Cheap to clone.
#[derive(Clone)]
pub struct Channels {
    inner: Arc<Inner>,
}

impl Channels {
    /// No connection is made yet.
    pub fn new(env: Env, options: ChannelOptions) -> Self {
        let known = Known {
            cluster: options.cluster,
            history: options.history,
        };
        let known = Mutex::new(locks::KNOWN, known);
        let common = Arc::new(Common { env, options, known });
        Self {
            inner: Arc::new(Inner {
                common,
                channels: Mutex::new(locks::CHANNELS, BTreeMap::new()),
            }),
        }
    }

    /// The channel to whoever listens on `address` (`host:port`).
    pub fn to(&self, address: &str) -> Channel {
        self.to_node(address, NodeId(0))
    }

    /// The channel to `node` at `address`: a connection to any other node is refused.
    pub fn to_node(&self, address: &str, node: NodeId) -> Channel {
        self.to_lane(address, node, 0)
    }

    /// A connection of its own (a lane) to `node`, so that bulk data does not stand before small calls.
    pub fn to_lane(&self, address: &str, node: NodeId, lane: u8) -> Channel {
        let mut channels = self.inner.lock();
        if channels.len() >= KEPT {
            // Only those that nobody holds and whose driver has ended.
            channels.retain(|_, shared| Arc::strong_count(shared) > 1);
        }
        let shared = channels
            .entry((address.to_owned(), node, lane))
            .or_insert_with(|| Arc::new(Shared::new(Arc::clone(&self.inner.common), address, node)));
        Channel {
            shared: Arc::clone(shared),
        }
    }

    /// The cluster: given, or learned from the first server met.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.inner.common.cluster()
    }

    /// The history: given, or learned from the first server met.
    pub fn history(&self) -> Option<HistoryId> {
        self.inner.common.history()
    }

    /// Closes every connection; calls fail, later ones on the same channels too.
    pub fn close(&self) {
        self.inner.lock().values().for_each(|shared| shared.close());
    }
}
