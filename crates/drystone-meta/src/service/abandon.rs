//! Chunks that their writers give up.

use super::refused::{Refused, unknown};
use crate::leader::office::Leader;
use crate::raft::handle::RaftHandle;
use drystone_env::Clock;
use drystone_identity::Identity;
use drystone_proto::cluster::Empty;
use drystone_proto::command::{AbandonChunks, AbandonedChunk, Op};
use drystone_proto::grant::verify_grant;
use drystone_proto::meta::AbandonRequest;
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::{Request, refusal};
use drystone_types::Code;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Grants in one request.
const MAX_GRANTS: usize = drystone_namespace::limits::MAX_ABANDONED;

/// Proposes that chunks are doomed whose writers gave them up.
pub(crate) struct Abandonments {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) identity: Identity,
    pub(crate) raft: RaftHandle,
    pub(crate) leader: Arc<Leader>,
}

impl Abandonments {
    pub(super) async fn abandon(&self, ask: AbandonRequest, request: &Request) -> Result<Empty, Refused> {
        if ask.grants.len() > MAX_GRANTS {
            return Err(refusal(Code::TooLarge, format!("at most {MAX_GRANTS} grants at once")).into());
        }
        let identity = &self.identity;
        let mut replicas: BTreeMap<u64, Vec<ReplicaRecord>> = BTreeMap::new();
        for token in &ask.grants {
            let grant = verify_grant(&identity.key, identity.history, token);
            let grant =
                grant.ok_or_else(|| refusal(Code::Denied, "a grant is not signed with the cluster key"))?;
            replicas.entry(grant.chunk).or_default().extend(grant.replicas);
        }
        if replicas.is_empty() {
            return Ok(Empty {});
        }
        tracing::debug!(chunks = replicas.len(), "chunks are given up");
        for chunk in replicas.keys() {
            self.leader.abandon(*chunk);
        }
        let chunks = replicas
            .into_iter()
            .map(|(chunk, replicas)| AbandonedChunk { chunk, replicas });
        let command = AbandonChunks {
            chunks: chunks.collect(),
        };
        let propose = self.raft.propose(Op::AbandonChunks(command), None);
        let applied = self.clock.until(request.deadline, propose).await;
        let outcome = applied.ok_or_else(unknown)??.outcome;
        match Code::from_number(outcome.code) {
            Some(code) => Err(refusal(code, outcome.message).into()),
            None => Ok(Empty {}),
        }
    }
}
