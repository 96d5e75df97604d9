//! How a background task of a leader runs: rounds, as long as this server holds an office.

use super::parts::TaskParts;
use std::sync::Arc;
use std::time::Duration;

/// Work of a leader that goes on for as long as it leads. Each one is a task of its own: a round that waits for a
/// proposal delays no other.
pub(super) trait LeaderTask: Send + Sized {
    /// Between two rounds.
    const PAUSE: Duration;

    /// At the beginning of an office. What an earlier one knew is forgotten.
    fn begin(parts: &TaskParts) -> Self;

    /// Does what there is to do. Must return when the office ends, which ends proposals too.
    fn round(&mut self, parts: &TaskParts) -> impl Future<Output = ()> + Send;
}

/// Runs a task in every office of this server, from when the namespace is initialized.
pub(super) async fn run<T: LeaderTask>(parts: Arc<TaskParts>) {
    let mut watch = parts.raft.watch();
    loop {
        let Ok(term) = watch
            .wait_for(|view| view.office.is_some())
            .await
            .map(|view| view.office)
        else {
            return;
        };
        let mut task = T::begin(&parts);
        while parts.raft.office() == term {
            if parts.state.read().initialized() {
                task.round(&parts).await;
            }
            parts.clock.sleep(T::PAUSE).await;
        }
    }
}
