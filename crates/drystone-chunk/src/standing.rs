//! Where a server stands: registered, stopped, ended.

use crate::error::StopReason;
use tokio::sync::watch;

/// What is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ServerState {
    /// A leader has taken its registration at least once.
    pub(crate) registered: bool,
    pub(crate) stopped: Option<StopReason>,
    /// Nothing of it runs any more, but for work on these disks, which do not answer.
    pub(crate) ended: Option<Vec<String>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Standing {
    state: watch::Sender<ServerState>,
}

impl Standing {
    pub(crate) fn now(&self) -> ServerState {
        self.state.borrow().clone()
    }

    /// A leader has taken the registration.
    pub(crate) fn registered(&self) {
        self.state
            .send_if_modified(|state| !std::mem::replace(&mut state.registered, true));
    }

    /// It stops serving, for the first reason given.
    pub(crate) fn stop(&self, reason: StopReason) {
        self.state.send_if_modified(|state| {
            let first = state.stopped.is_none();
            if first {
                state.stopped = Some(reason);
            }
            first
        });
    }

    /// Nothing of it runs any more, but for work on the disks `hanging`.
    pub(crate) fn ended(&self, hanging: Vec<String>) {
        self.state.send_modify(|state| state.ended = Some(hanging));
    }

    /// Completes when `until` holds.
    pub(crate) async fn wait(&self, until: impl Fn(&ServerState) -> bool) -> ServerState {
        let mut state = self.state.subscribe();
        match state.wait_for(|state| until(state)).await {
            Ok(state) => state.clone(),
            // The sender lives as long as `self`.
            Err(_) => ServerState::default(),
        }
    }
}
