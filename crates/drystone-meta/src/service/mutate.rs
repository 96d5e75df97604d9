//! Namespace commands.

use super::inline::{inline_voters, live_domains, policy_of, voter_domains};
use super::refused::{Refused, unknown};
use crate::config::Config;
use crate::leader::office::Leader;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use drystone_env::{Clock, Monotonic};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::{NewChunk, Op, Origin, Target};
use drystone_proto::envelope::Envelope;
use drystone_proto::meta::{MutateReply, MutateRequest};
use drystone_rpc::{Request, refusal};
use drystone_types::{ClientId, Code};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long an inline write that is applied waits for the voters that its policy names beyond a majority: longer than
/// a healthy voter ever takes, and short enough that the content can be moved to a chunk within a second.
const INLINE_WAIT: Duration = Duration::from_millis(600);

/// Failure domains whose voters must have an inline write synced.
#[derive(Clone, Copy)]
struct InlineNeed {
    /// So many are waited for.
    wanted: u32,
    /// With fewer it is not acknowledged.
    least: u32,
}

/// Why everything else is refused then.
pub(super) const DISK_FULL: &str = "the metadata server's disk is nearly full: only deletions are taken";

pub(super) const LOG_FULL: &str =
    "the log kept for exports is at its limit: commands are taken again after the next export";
pub(super) const NO_ROOM: &str = "the metadata server's file system is full, and what it can hold until there is room is used up: \
                                  nothing is taken, not even deletions, until somebody makes room on it";
/// An export takes seconds.
const LOG_FULL_RETRY_MS: u32 = 500;

/// Commands that free space: what is still taken when the disk is nearly full.
fn frees_space(op: &Op) -> bool {
    matches!(
        op,
        Op::Delete(_) | Op::StageAbandon(_) | Op::OpenSession(_) | Op::CloseSession(_)
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

/// The chunks that the command records, each with its length.
fn recorded_by(op: &Op) -> Vec<(u64, u64)> {
    let content = match op {
        Op::Publish(publish) => publish.content.as_ref(),
        Op::StageExtend(extend) => extend.content.as_ref(),
        Op::ConvertInline(convert) => convert.content.as_ref(),
        _ => None,
    };
    let chunks = content.map_or(&[][..], |content| &content.chunks);
    let length = |chunk: &NewChunk| chunk.receipts.first().map_or(0, |receipt| receipt.length);
    chunks.iter().map(|chunk| (chunk.chunk, length(chunk))).collect()
}

/// Takes commands.
pub(crate) struct Mutations {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) leader: Arc<Leader>,
    /// Only commands that free space are taken.
    pub(crate) disk_full: Arc<AtomicBool>,
    /// Too much log is kept for exports: commands are taken again in a moment.
    pub(crate) log_full: Arc<AtomicBool>,
    /// Nothing is taken: the state store waits for room, or the log does.
    pub(crate) memory_full: Arc<AtomicBool>,
    pub(crate) log_short: Arc<AtomicBool>,
}

impl Mutations {
    pub(super) async fn mutate(
        &self,
        mutate: MutateRequest,
        request: &Request,
    ) -> Result<MutateReply, Refused> {
        let invalid = |message: &str| Refused::Error(refusal(Code::Invalid, message));
        let command = Envelope::read(mutate.command, mutate.origin)
            .map_err(|error| refusal(Code::NotSupported, error.to_string()))?;
        let (op, origin) = (command.op(), command.origin());
        let origin = origin.ok_or_else(|| invalid("a command needs an origin"))?;
        if ClientId::from_slice(&origin.client).is_none() {
            return Err(invalid("a client id has 16 bytes"));
        }
        if op.is_internal() {
            return Err(refusal(Code::Denied, "only the cluster itself does this").into());
        }
        self.state.initialized()?;
        let (bytes, limit) = (command.command_bytes(), self.config.command_bytes());
        if bytes > limit {
            let message = format!("the command has {bytes} bytes, at most {limit} are taken");
            return Err(refusal(Code::TooLarge, message).into());
        }
        // A repeat of what was applied takes nothing and gets its answer, whatever a new command would be told.
        let full = self.disk_full.load(Ordering::Relaxed);
        if full && !frees_space(op) && !self.keeps_answer(origin)? {
            return Err(refusal(Code::NoSpace, DISK_FULL).into());
        }
        let no_room = self.memory_full.load(Ordering::Relaxed) || self.log_short.load(Ordering::Relaxed);
        if no_room && !self.keeps_answer(origin)? {
            return Err(refusal(Code::NoSpace, NO_ROOM).into());
        }
        if self.log_full.load(Ordering::Relaxed) && !self.keeps_answer(origin)? {
            return Err(Refused::Error(ErrorReply {
                retry_after_ms: LOG_FULL_RETRY_MS,
                ..refusal(Code::Busy, LOG_FULL)
            }));
        }
        let recorded = recorded_by(op);
        let need = match inline_of(op) {
            Some((bytes, target)) => Some(self.inline_need(bytes, target, origin)?),
            None => None,
        };
        let deadline = request.deadline;
        // Past the deadline the proposal goes on; its answer is given up.
        let applied = self
            .clock
            .until(deadline, self.raft.propose_encoded(command))
            .await
            .unwrap_or(Err(drystone_raft::DropReason::Unknown))?;
        let mut reply = MutateReply {
            outcome: Some(applied.outcome),
            index: applied.index,
            voters: 0,
            short: false,
        };
        let done = reply.outcome.as_ref().is_some_and(|outcome| outcome.code == 0);
        if done && !recorded.is_empty() {
            self.leader.note_committed(&recorded);
        }
        if let Some(need) = need
            && done
        {
            reply.voters = self.synced(applied.index, need.wanted, deadline).await?;
            reply.short = reply.voters < need.least;
        }
        Ok(reply)
    }

    fn keeps_answer(&self, origin: &Origin) -> Result<bool, ErrorReply> {
        let Some(client) = origin.client.first_chunk() else {
            return Ok(false);
        };
        let kept = self.state.read().has_answer(client, origin.sequence);
        kept.map_err(|error| self.state.store_error(&error))
    }

    fn inline_need(
        &self,
        bytes: usize,
        target: Option<&Target>,
        origin: &Origin,
    ) -> Result<InlineNeed, ErrorReply> {
        if bytes as u64 > self.config.inline_max.0 && !self.keeps_answer(origin)? {
            let limit = self.config.inline_max;
            return Err(refusal(
                Code::InlineRefused,
                format!("{bytes} bytes inline, {limit} are allowed"),
            ));
        }
        let policy = {
            let state = self.state.read();
            let policy = target.map_or_else(|| Ok(state.default_policy()), |target| state.policy_at(target));
            policy.map_err(|error| self.state.store_error(&error))?
        };
        let policy = policy_of(&policy)?;
        let live = live_domains(&self.raft, &self.state);
        match inline_voters(&policy, live) {
            Some(wanted) => Ok(InlineNeed {
                wanted,
                least: wanted.min(policy.minimum()),
            }),
            // It is done already: the answer is that too few have it.
            None if self.keeps_answer(origin)? => Ok(InlineNeed {
                wanted: policy.minimum(),
                least: policy.minimum(),
            }),
            None => {
                let message = format!(
                    "voters in {live} failure domains answer, {} must hold inline content: write it to a chunk",
                    policy.minimum()
                );
                Err(refusal(Code::InlineRefused, message))
            }
        }
    }

    /// Waits until voters in `wanted` failure domains have synced `index`, but not for one that may have died; gives in
    /// how many they have.
    async fn synced(&self, index: u64, wanted: u32, deadline: Monotonic) -> Result<u32, ErrorReply> {
        let domains = voter_domains(&self.raft, &self.state);
        let patience = self.clock.now().plus(INLINE_WAIT).min(deadline);
        let answer = self.raft.synced(index, wanted, domains.clone());
        let answer = match self.clock.until(patience, answer).await {
            Some(answer) => Some(answer),
            None => {
                self.clock
                    .until(deadline, self.raft.synced(index, 0, domains))
                    .await
            }
        };
        match answer {
            Some(Ok(synced)) => Ok(synced),
            // It is dropped when this server leads no more.
            _ => Err(unknown()),
        }
    }
}
