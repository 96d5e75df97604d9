//! All channels of one process.

use super::common::Common;
use super::shared::Shared;
use super::{Channel, ChannelOptions};
use crate::locks;
use drystone_env::Env;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_types::{ClusterId, HistoryId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Channels that are kept though nobody holds them: more than a large cluster has servers.
const KEPT: usize = 4_096;

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
        let common = Arc::new(Common::new(env, options));
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
