//! What all channels of one process share: seams, options, and what they have learned of their cluster.

use super::ChannelOptions;
use crate::error::refusal;
use crate::locks;
use drystone_env::Env;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_proto::cluster::{ErrorReply, HelloReply};
use drystone_types::{ClusterId, Code, HistoryId};

/// See the module.
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
    /// Knows what the options say.
    pub(super) fn new(env: Env, options: ChannelOptions) -> Self {
        let known = Known {
            cluster: options.cluster,
            history: options.history,
        };
        Self {
            env,
            options,
            known: Mutex::new(locks::KNOWN, known),
        }
    }

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
