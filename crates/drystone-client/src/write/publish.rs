//! The command that makes content visible, and the short ways of small files.

use super::buffer::StretchFrame;
use super::chunk::{GrantedChunk, SealedPart};
use super::grants::granted_at;
use super::options::{Published, WriteMode};
use super::parts::{WRITE, content, impossible};
use super::run::{Stretch, StretchJob, run};
use super::shared::WriteContext;
use super::writer::Writer;
use crate::error::{Error, ErrorKind};
use crate::meta::{Alternative, Failed};
use crate::metrics::Metrics;
use crate::version::ContentVersion;
use bytes::Bytes;
use drystone_proto::command::{AttributeChanges, Content, Op, Outcome, Publish, PublishMode};
use drystone_proto::meta::MutateReply;
use drystone_proto::record::PolicyRecord;
use drystone_types::{Code, InodeId, Since};
use tokio::sync::mpsc;

impl Writer {
    /// The whole content is one frame in memory: inline, or a chunk of its own. `None` if it needs several chunks.
    pub(super) async fn finish_small(&self, data: &Bytes) -> Result<Option<Published>, Error> {
        if data.is_empty() {
            let outcome = self
                .publish(Content::default())
                .await
                .map_err(|failed| failed.error)?;
            return Ok(Some(self.published(&outcome)));
        }
        if let Some(published) = self.finish_inline(data).await? {
            return Ok(Some(published));
        }
        let (mut fresh, mut exact) = (false, false);
        loop {
            let Some(parts) = self.write_small(data, fresh, exact).await? else {
                return Ok(None);
            };
            match self.publish_in_chunks(&content(&parts)).await {
                Ok(outcome) => {
                    Metrics::add(&self.context.requester.metrics().bytes_written, data.len() as u64);
                    return Ok(Some(self.published(&outcome)));
                }
                // Everything is still here: once more, with a grant that was not fetched ahead.
                Err(failed) if failed.code == Code::GrantExpired && !fresh => {
                    self.context.shared.grants.forget();
                    fresh = true;
                }
                // The file has a policy of its own, or the directory has got another one.
                Err(failed) if failed.code == Code::PolicyDiffers && !exact => {
                    self.context.shared.policies.forget(&self.target);
                    exact = true;
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// One chunk under the policy that its directory had lately, or, if that is not known or it must be `exact`, the one
    /// that the leader finds in force as it grants the chunk: no look-up of its own. The command that publishes is
    /// refused (`policy_differs`) if another one counts that asks for more. `None` if the content needs several chunks.
    async fn write_small(
        &self,
        data: &Bytes,
        fresh: bool,
        exact: bool,
    ) -> Result<Option<Vec<SealedPart>>, Error> {
        let WriteContext {
            requester, shared, ..
        } = self.context.clone();
        let now = requester.now();
        let directory = self.target.parent().filter(|_| !exact);
        let known = directory
            .as_ref()
            .and_then(|directory| shared.policies.recent(directory, now));
        let (policy, granted) = match known {
            Some(policy) => (policy, None),
            None => {
                let place = directory.as_ref().unwrap_or(&self.target).message(WRITE)?;
                let avoid = shared.suspects.nodes(now);
                let granted = granted_at(&requester, place, data.len() as u64, avoid).await;
                let granted = granted.map_err(|trouble| impossible(&self.target, trouble))?;
                if let Some(directory) = directory {
                    shared.policies.learned(directory, granted.policy, now);
                }
                (granted.policy, Some(granted))
            }
        };
        let policy = self.with_chunk_bytes(policy)?;
        if data.len() as u64 > policy.chunk_bytes {
            return Ok(None);
        }
        self.write_single(data, policy, granted, fresh).await.map(Some)
    }

    /// Puts the content into the command itself, if the cluster takes so much now.
    async fn finish_inline(&self, data: &Bytes) -> Result<Option<Published>, Error> {
        let requester = &self.context.requester;
        if !requester.options().inline {
            return Ok(None);
        }
        let info = requester.meta().recent_info(requester.deadline()).await?;
        if data.len() as u64 > u64::from(info.inline_max) {
            return Ok(None);
        }
        let inline = Content {
            inline: Some(data.clone()),
            ..Content::default()
        };
        // If nobody may know whether it was applied, because the leader died and the next one takes no inline content:
        // the same bytes in a chunk.
        let chunk = async {
            let parts = self.write_small(data, true, true).await?;
            let parts =
                parts.ok_or_else(|| Error::new(ErrorKind::TooLarge, WRITE, self.target.to_string()))?;
            let content = content(&parts);
            // It may be on its way when this is over: it is not given up, whatever is answered.
            drop(self.context.begun.sent(&content));
            Ok::<Op, Failed>(self.publication(content)?)
        };
        match self.send(self.publication(inline)?, Some(Box::pin(chunk))).await {
            Ok(reply) => {
                Metrics::add(&requester.metrics().bytes_written, data.len() as u64);
                let outcome = reply.outcome.unwrap_or_default();
                let outcome = match reply.short {
                    true => self.move_to_chunk(outcome, data).await?,
                    false => outcome,
                };
                Ok(Some(self.published(&outcome)))
            }
            // The last two are told of the chunk that should have settled it: it has, nothing was applied.
            Err(failed)
                if matches!(
                    failed.code,
                    Code::InlineRefused | Code::TooLarge | Code::PolicyDiffers | Code::GrantExpired
                ) =>
            {
                Ok(None)
            }
            Err(failed) => Err(failed.error),
        }
    }

    /// One frame, one append, run here: no task of its own.
    pub(super) async fn write_single(
        &self,
        data: &Bytes,
        policy: PolicyRecord,
        granted: Option<GrantedChunk>,
        fresh: bool,
    ) -> Result<Vec<SealedPart>, Error> {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let max_bytes = data.len() as u64;
        let permit = self.permit(data.len()).await?;
        let _ = jobs.send(StretchJob::Frame(StretchFrame::new(data.clone()), permit));
        let _ = jobs.send(StretchJob::End);
        let stretch = Stretch {
            policy,
            max_bytes,
            fresh,
            granted,
        };
        let mut parts = Vec::new();
        run(self.context.clone(), stretch, inbox, |part| parts.push(part))
            .await
            .map_err(|trouble| impossible(&self.target, trouble))?;
        Ok(parts)
    }

    pub(super) async fn publish(&self, content: Content) -> Result<Outcome, Failed> {
        let begun = &self.context.begun;
        let sent = begun.sent(&content);
        match self.send(self.publication(content)?, None).await {
            Ok(reply) => Ok(reply.outcome.unwrap_or_default()),
            Err(failed) => {
                if failed.error.kind() != ErrorKind::Unknown {
                    begun.refused(sent);
                }
                Err(failed)
            }
        }
    }

    /// The command that makes `content` visible, or what was staged.
    fn publication(&self, content: Content) -> Result<Op, Error> {
        let place = self.target.message(WRITE)?;
        let (mode, offset) = match self.options.mode {
            WriteMode::Replace => (PublishMode::Replace, 0),
            WriteMode::Append => (PublishMode::Append, 0),
            WriteMode::Range(offset) => (PublishMode::Range, offset),
        };
        Ok(Op::Publish(Publish {
            target: Some(place),
            precondition: self.options.precondition.message(),
            mode: mode as i32,
            offset,
            // Staged content comes alone.
            content: self.staged.is_none().then_some(content),
            parents: self.options.parents,
            file_mode: self.options.file_mode,
            attributes: Some(self.options.attributes.message())
                .filter(|changes| *changes != AttributeChanges::default()),
            staged: self.staged.map_or(0, |staged| staged.inode),
        }))
    }

    async fn send(&self, op: Op, other: Option<Alternative<'_>>) -> Result<MutateReply, Failed> {
        let requester = &self.context.requester;
        let wait = self.options.deadline.unwrap_or(requester.options().deadline);
        let deadline = requester.now().plus(wait);
        let key = self.options.idempotency.as_ref();
        let reply = requester.mutate_inline(WRITE, key, op, other, deadline).await;
        reply.map_err(|failed| Failed {
            error: failed.error.about(&self.target),
            ..failed
        })
    }

    pub(super) fn published(&self, outcome: &Outcome) -> Published {
        let version = ContentVersion {
            inode: InodeId(outcome.inode),
            version: Since(outcome.version),
        };
        Published {
            inode: version.inode,
            version: version.version,
            created: outcome.created,
            size: outcome.size,
            offset: outcome.offset,
            // The publication of a staged file brings no chunks.
            redundancy: self.staged.map_or(outcome.redundancy, |staged| staged.redundancy),
            etag: version.etag(self.context.requester.history()),
        }
    }
}
