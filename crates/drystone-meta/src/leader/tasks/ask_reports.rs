//! A leader that takes office asks the chunk servers to report to it.

use super::parts::TaskParts;
use crate::leader::chunk_server::ChunkServerStub;
use crate::leader::office::Leader;
use drystone_env::Clock;
use drystone_proto::record::{NodeRecord, role};
use drystone_rpc::{CallError, NotSent};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A chunk server that does not answer a new leader within this time is not waited for.
const ASK_PATIENCE: Duration = Duration::from_secs(1);
/// Chunk servers that are asked at the same time.
const ASKED_AT_ONCE: usize = 128;

/// Asks them, so that nobody waits for their next heartbeats. Those that do not answer are not waited for. Goes on
/// beside the leader's rounds.
pub(super) fn ask_reports(parts: &TaskParts, term: u64) {
    let servers: Vec<(NodeRecord, ChunkServerStub)> = {
        let state = parts.state.read();
        let counts = |node: &&NodeRecord| node.roles & role::CHUNK != 0 && !node.fenced;
        let stub = |node: &NodeRecord| (node.clone(), ChunkServerStub::new(&parts.channels, node));
        state.nodes().filter(counts).map(stub).collect()
    };
    let asking = Asking {
        clock: Arc::clone(&parts.clock),
        leader: Arc::clone(&parts.leader),
        term,
        address: parts.address.clone(),
    };
    let lifecycle = Arc::clone(&parts.lifecycle);
    parts.lifecycle.spawn("meta-ask-reports", async move {
        let mut servers = servers.into_iter().peekable();
        while servers.peek().is_some() {
            let calls: Vec<_> = (servers.by_ref().take(ASKED_AT_ONCE))
                .map(|(node, stub)| {
                    let (asked, answer) = oneshot::channel();
                    let call = asking.call(stub);
                    lifecycle.spawn("meta-ask-report", async move {
                        let _ = asked.send(call.await);
                    });
                    (node.id, answer)
                })
                .collect();
            for (node, answer) in calls {
                match answer.await {
                    Ok(Err(CallError::NotSent(NotSent::Unreachable { .. } | NotSent::Hello(_)))) => {
                        asking.note(node, true);
                    }
                    Ok(Err(_)) => asking.note(node, false),
                    Ok(Ok(())) | Err(_) => {}
                }
            }
        }
    });
}

struct Asking {
    clock: Arc<dyn Clock>,
    leader: Arc<Leader>,
    term: u64,
    address: String,
}

impl Asking {
    /// Completes when the server has answered, or not in time.
    fn call(&self, stub: ChunkServerStub) -> impl Future<Output = Result<(), CallError>> + Send + 'static {
        let (term, address) = (self.term, self.address.clone());
        let deadline = self.clock.now().plus(ASK_PATIENCE);
        async move { stub.ask_report(term, address, deadline).await }
    }

    /// The server cannot be reached, or has only not answered: then it may be there.
    fn note(&self, node: u64, unreachable: bool) {
        tracing::debug!(node, unreachable, "a chunk server does not answer the new leader");
        self.leader.with(|office| {
            if office.term != self.term {
                return;
            }
            if unreachable {
                office.servers.note_unreachable(node);
            } else {
                office.servers.note_silent(node);
            }
        });
    }
}
