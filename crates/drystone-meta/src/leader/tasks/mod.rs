//! What a leader does by itself.
//!
//! Everything here is a proposal or soft state; a step that is lost is simply done again.

mod doomed_chunks;
mod forget_replicas;
mod grant_floor;
mod housekeeping;
mod redundancy;

use crate::membership::introduce::introduce;
use crate::membership::ping::ping_members;
use crate::service::MetaService;
use crate::shared::Shared;
use drystone_env::Monotonic;
use drystone_proto::command::{Initialize, Op};
use drystone_proto::record::PolicyRecord;
use forget_replicas::forget;
use grant_floor::raise_floor;
use redundancy::Scan;
use std::sync::Arc;
use std::time::Duration;

/// Between rounds of a leader's work.
const ROUND: Duration = Duration::from_millis(500);

/// Starts the tasks.
pub(crate) fn start(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let (inner, to) = (Arc::clone(shared), Arc::clone(service));
    shared.spawn("meta-introduce", async move { introduce(&inner, &to).await });
    let inner = Arc::clone(shared);
    shared.spawn("meta-pulse", async move { ping_members(&inner).await });
    let (inner, to) = (Arc::clone(shared), Arc::clone(service));
    shared.spawn("meta-steward", async move { serve_terms(&inner, &to).await });
}

/// Runs the leader's rounds while this server holds an office.
async fn serve_terms(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let mut watch = shared.view.subscribe();
    loop {
        let Ok(term) = watch
            .wait_for(|view| view.office.is_some())
            .await
            .map(|view| view.office.unwrap_or(0))
        else {
            return;
        };
        tracing::info!(node = %shared.identity.node, term, "leading");
        shared.metrics.leading.set(1);
        serve_term(shared, service, term).await;
        shared.metrics.leading.set(0);
    }
}

async fn serve_term(shared: &Arc<Shared>, service: &Arc<MetaService>, term: u64) {
    let now = shared.env.clock.now();
    // The ids of earlier leaders begin to age now.
    service.leader.with(shared, |_| ());
    initialize(shared).await;
    let mut rounds = Rounds {
        housekept: None,
        seen: 0,
        scan: Scan::default(),
        doomed_after: 0,
        log_time: (0, now),
    };
    while shared.office() == Some(term) {
        service.return_vote().await;
        raise_floor(shared, service).await;
        forget(shared, service).await;
        rounds.housekeep(shared).await;
        rounds.doomed(shared, service);
        rounds.scan(shared, service);
        shared.env.clock.sleep(ROUND).await;
    }
}

async fn initialize(shared: &Arc<Shared>) {
    if shared.read().initialized() {
        return;
    }
    let policy = shared.config.policy.policy();
    let policy = PolicyRecord {
        replicas: policy.replicas,
        ack: policy.ack.number(),
        degraded_minimum: policy.degraded_minimum,
        chunk_bytes: policy.chunk_bytes.0,
    };
    let initialize = Initialize {
        policy: Some(policy),
        owner: shared.config.owner.clone(),
        mode: 0,
    };
    if let Err(reason) = shared.propose(Op::Initialize(initialize), None).await {
        tracing::warn!(
            ?reason,
            "the first command was dropped; the next leader proposes it"
        );
    }
}

struct Rounds {
    housekept: Option<Monotonic>,
    /// Applied index after the last housekeeping.
    seen: u64,
    scan: Scan,
    doomed_after: u64,
    /// Log time when it was last seen to change, and when that was.
    log_time: (u64, Monotonic),
}
