//! Servers that failed this process lately.

use crate::locks;
use drystone_env::Monotonic;
use drystone_env::sync::Mutex;
use drystone_types::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// A server that failed is avoided for this long: about what the cluster needs to suspect it by itself.
const AVOID_FOR: Duration = Duration::from_secs(10);

/// Node ids with the time until which they are avoided; as many as a cluster has servers.
#[derive(Debug)]
pub(crate) struct ReadSuspects(Mutex<BTreeMap<NodeId, Monotonic>>);

impl Default for ReadSuspects {
    fn default() -> Self {
        Self(Mutex::new(locks::READ_SUSPECTS, BTreeMap::new()))
    }
}

impl ReadSuspects {
    pub(crate) fn add(&self, node: NodeId, now: Monotonic) {
        self.0.lock().insert(node, now.plus(AVOID_FOR));
    }

    pub(crate) fn now(&self, now: Monotonic) -> Vec<NodeId> {
        let mut suspects = self.0.lock();
        suspects.retain(|_, until| *until > now);
        suspects.keys().copied().collect()
    }
}
