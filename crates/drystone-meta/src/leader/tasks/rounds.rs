//! The rounds of a leader, while it holds an office.

use super::doomed_chunks::DoomedChunks;
use super::forget_replicas::forget;
use super::grant_floor::raise_floor;
use super::housekeeping::Housekeeping;
use super::initialize::initialize;
use super::parts::TaskParts;
use super::redundancy::RedundancyScan;
use std::time::Duration;

/// Between rounds of a leader's work.
const ROUND: Duration = Duration::from_millis(500);

/// Runs the leader's rounds while this server holds an office.
pub(crate) async fn serve_terms(parts: TaskParts) {
    let mut watch = parts.raft.watch();
    loop {
        let Ok(term) = watch
            .wait_for(|view| view.office.is_some())
            .await
            .map(|view| view.office.unwrap_or(0))
        else {
            return;
        };
        tracing::info!(node = %parts.me, term, "leading");
        parts.metrics.leading.set(1);
        serve_term(&parts, term).await;
        parts.metrics.leading.set(0);
    }
}

async fn serve_term(parts: &TaskParts, term: u64) {
    let now = parts.clock.now();
    // The ids of earlier leaders begin to age now.
    parts.leader.with(|_| ());
    initialize(parts).await;
    let mut housekeeping = Housekeeping::default();
    let mut doomed = DoomedChunks::new(now);
    let mut redundancy = RedundancyScan::default();
    while parts.raft.office() == Some(term) {
        parts.membership.return_vote().await;
        raise_floor(parts).await;
        forget(parts).await;
        housekeeping.step(parts).await;
        doomed.step(parts);
        redundancy.step(parts);
        parts.clock.sleep(ROUND).await;
    }
}
