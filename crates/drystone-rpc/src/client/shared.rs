//! What a channel's clones, its calls and its driver share.

use super::common::Common;
use super::state::State;
use crate::locks;
use crate::retry::Backoff;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_types::NodeId;
use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::time::Duration;

/// The first pause after a failed connection attempt.
const RECONNECT_BASE: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    pub(super) address: String,
    pub(super) node: NodeId,
    pub(super) driver: AtomicWaker,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(common: Arc<Common>, address: &str, node: NodeId) -> Self {
        let rng = common.env.rng(address);
        let backoff = Backoff::new(RECONNECT_BASE, common.options.reconnect_cap, rng);
        Self {
            common,
            address: address.to_owned(),
            node,
            driver: AtomicWaker::new(),
            state: Mutex::new(locks::CHANNEL, State::new(backoff)),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Refuses everything from now on; the driver ends what is under way.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.driver.wake();
    }
}
