//! Voters that lost their vote by moving get it back.

use super::parts::TaskParts;
use super::task::LeaderTask;
use std::time::Duration;

/// See the module.
pub(super) struct ReturnVotes;

impl LeaderTask for ReturnVotes {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(_: &TaskParts) -> Self {
        Self
    }

    async fn round(&mut self, parts: &TaskParts) {
        parts.membership.return_vote().await;
    }
}
