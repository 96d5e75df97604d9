//! Namespace commands.

use super::{MetaService, Refused, unknown};
use crate::membership::domains::Domains;
use crate::message::ToRaft;
use drystone_env::Monotonic;
use drystone_namespace::Caller;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::{Op, Origin, Target};
use drystone_proto::meta::{MutateReply, MutateRequest};
use drystone_proto::record::PolicyRecord;
use drystone_rpc::{Request, refusal};
use drystone_types::{AckPolicy, ByteCount, ClientId, Code, Policy};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// A policy record of the wire, checked.
pub(super) fn policy_of(record: &PolicyRecord) -> Result<Policy, ErrorReply> {
    let ack = AckPolicy::from_number(record.ack);
    let ack = ack.ok_or_else(|| {
        refusal(
            Code::Invalid,
            format!("{} is no acknowledgement policy", record.ack),
        )
    })?;
    let policy = Policy {
        replicas: record.replicas,
        ack,
        degraded_minimum: record.degraded_minimum,
        chunk_bytes: ByteCount(record.chunk_bytes),
    };
    let faults = policy.faults();
    if faults.is_empty() {
        Ok(policy)
    } else {
        Err(refusal(Code::Invalid, faults.join("; ")))
    }
}

/// Domains whose voters must have an inline write synced, with `live` of them answering; `None`: too few live ones.
pub(crate) fn inline_voters(policy: &Policy, live: u32) -> Option<u32> {
    (live >= policy.minimum()).then(|| policy.ack.required(policy.replicas).min(live).max(1))
}

/// Commands that free space: what is still taken when the disk is nearly full.
fn frees_space(op: &Op) -> bool {
    matches!(
        op,
        Op::Delete(_) | Op::StageAbandon(_) | Op::OpenSession(_) | Op::CloseSession(_)
    )
}

fn is_internal(op: &Op) -> bool {
    matches!(
        op,
        Op::Initialize(_)
            | Op::AllocateRange(_)
            | Op::RaiseGrantFloor(_)
            | Op::Housekeep(_)
            | Op::ForgetReplicas(_)
            | Op::RegisterNode(_)
            | Op::UpdateNode(_)
            | Op::ReleaseDeletion(_)
    )
}

fn inline_of(op: &Op) -> Option<(usize, Option<&Target>)> {
    let (content, target) = match op {
        Op::Publish(publish) => (publish.content.as_ref(), publish.target.as_ref()),
        Op::StageExtend(extend) => (extend.content.as_ref(), None),
        _ => return None,
    };
    let inline = content?.inline.as_ref()?;
    // No bytes need no redundancy.
    (!inline.is_empty()).then_some((inline.len(), target))
}

impl MetaService {
    pub(super) async fn mutate(
        self: Arc<Self>,
        mutate: MutateRequest,
        request: Request,
    ) -> Result<MutateReply, Refused> {
        let invalid = |message: &str| Refused::Error(refusal(Code::Invalid, message));
        let op = mutate
            .command
            .and_then(|command| command.op)
            .ok_or_else(|| refusal(Code::NotSupported, "the command is not known here"))?;
        let origin = mutate
            .origin
            .ok_or_else(|| invalid("a command needs an origin"))?;
        if ClientId::from_slice(&origin.client).is_none() {
            return Err(invalid("a client id has 16 bytes"));
        }
        if is_internal(&op) {
            return Err(refusal(Code::Denied, "only the cluster itself does this").into());
        }
        self.begun()?;
        if op.encoded_len() > self.shared.config.command_bytes() {
            let limit = self.shared.config.command_bytes();
            let message = format!(
                "the command has {} bytes, at most {limit} are taken",
                op.encoded_len()
            );
            return Err(refusal(Code::TooLarge, message).into());
        }
        // A repeat of what was applied takes nothing and gets its answer, whatever a new command would be told.
        let full = self.shared.disk_full.load(Ordering::Relaxed);
        if full && !frees_space(&op) && !self.keeps_answer(&origin)? {
            let message = "the metadata server's disk is nearly full: only deletions are taken";
            return Err(refusal(Code::NoSpace, message).into());
        }
        let need = match inline_of(&op) {
            Some((bytes, target)) => Some(self.inline_need(bytes, target, &origin)?),
            None => None,
        };
        let deadline = request.deadline;
        // Past the deadline the proposal goes on; its answer is given up.
        let applied = self
            .until(deadline, self.shared.propose(op, Some(origin)))
            .await
            .unwrap_or(Err(drystone_raft::DropReason::Unknown))?;
        let mut reply = MutateReply {
            outcome: Some(applied.outcome),
            index: applied.index,
            voters: 0,
        };
        let done = reply.outcome.as_ref().is_some_and(|outcome| outcome.code == 0);
        if let Some(need) = need
            && done
        {
            reply.voters = self.synced(applied.index, need, deadline).await?;
        }
        Ok(reply)
    }

    fn keeps_answer(&self, origin: &Origin) -> Result<bool, ErrorReply> {
        let Some(client) = origin.client.first_chunk() else {
            return Ok(false);
        };
        let kept = self.shared.read().has_answer(client, origin.sequence);
        kept.map_err(|error| self.store_error(&error))
    }

    fn inline_need(&self, bytes: usize, target: Option<&Target>, origin: &Origin) -> Result<u32, ErrorReply> {
        if bytes as u64 > self.shared.config.inline_max.0 && !self.keeps_answer(origin)? {
            let limit = self.shared.config.inline_max;
            return Err(refusal(
                Code::InlineRefused,
                format!("{bytes} bytes inline, {limit} are allowed"),
            ));
        }
        let policy = policy_of(&self.policy_at(target)?)?;
        let live = self.live_domains();
        match inline_voters(&policy, live) {
            Some(need) => Ok(need),
            // It is done, and is told so when enough voters are back.
            None if self.keeps_answer(origin)? => Ok(policy.minimum()),
            None => {
                let message = format!(
                    "voters in {live} failure domains answer, {} must hold inline content: write it to a chunk",
                    policy.minimum()
                );
                Err(refusal(Code::InlineRefused, message))
            }
        }
    }

    /// The policy in force at the nearest place on the way to `target` that exists.
    fn policy_at(&self, target: Option<&Target>) -> Result<PolicyRecord, ErrorReply> {
        let state = self.shared.read();
        let Some(target) = target else {
            return Ok(state.default_policy());
        };
        let mut target = target.clone();
        loop {
            match state.lookup(
                &target,
                &Caller::superuser(),
                drystone_namespace::Want::Attributes,
            ) {
                Ok(found) => return Ok(found.policy),
                Err(drystone_namespace::ReadError::Store(error)) => return Err(self.store_error(&error)),
                Err(_) if target.path.trim_matches('/').is_empty() => return Ok(state.default_policy()),
                Err(_) => {
                    let path = target.path.trim_end_matches('/');
                    target.path = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
                }
            }
        }
    }

    /// Which voters fail together.
    pub(super) fn domains(&self) -> Domains {
        let voters = self.shared.view.borrow().conf.voters.clone();
        let state = self.shared.read();
        Domains::new(&voters, |voter| state.node(voter))
    }

    /// Failure domains in which a voter answered this leader lately.
    pub(super) fn live_domains(&self) -> u32 {
        self.domains().count(self.shared.view.borrow().live_voters())
    }

    /// Waits until voters in `need` failure domains have synced `index`.
    async fn synced(&self, index: u64, need: u32, deadline: Monotonic) -> Result<u32, ErrorReply> {
        let (reply, answer) = oneshot::channel();
        self.shared.to_raft(ToRaft::Synced {
            index,
            need,
            domains: self.domains(),
            reply,
        });
        match self.until(deadline, answer).await {
            Some(Ok(synced)) => Ok(synced),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_content_needs_the_voters_that_its_policy_asks_for() {
        let policy = Policy::default();
        assert_eq!(inline_voters(&policy, 3), Some(3));
        assert_eq!(inline_voters(&policy, 5), Some(3));
        assert_eq!(inline_voters(&policy, 2), None);
        let degraded = Policy {
            degraded_minimum: 2,
            ..policy
        };
        assert_eq!(inline_voters(&degraded, 2), Some(2));
        assert_eq!(inline_voters(&degraded, 1), None);
        let one = Policy {
            ack: AckPolicy::One,
            replicas: 1,
            ..policy
        };
        assert_eq!(inline_voters(&one, 1), Some(1));
    }
}
