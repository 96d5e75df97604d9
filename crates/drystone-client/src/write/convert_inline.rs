//! Moves content out of the metadata into a chunk, when bytes in chunks are added to it or too few voters have it: one
//! command replaces the content, provided that it still is the one that was read.

use super::chunk::SealedPart;
use super::options::WriteMode;
use super::parts::{WRITE, content};
use super::writer::Writer;
use crate::error::{Error, ErrorKind};
use crate::meta::Failed;
use crate::metrics::Metrics;
use crate::options::Consistency;
use crate::target::Target;
use crate::version::{ContentVersion, Precondition};
use drystone_proto::command::{Content, NewExtent, Op, Outcome, Publish, PublishMode};
use drystone_proto::meta::LookupRequest;
use drystone_types::{Code, InodeId, Since};

/// Times that another writer may come first.
const MAX_RACES: u32 = 5;

fn refused(code: Code, target: &Target) -> Failed {
    Failed {
        code,
        error: Error::new(ErrorKind::from_code(code), WRITE, target.to_string()),
    }
}

impl Writer {
    /// Publishes sealed parts, whatever the file's content is kept in.
    pub(super) async fn publish_parts(&mut self, parts: &[SealedPart]) -> Result<Outcome, Failed> {
        for _ in 0..MAX_RACES {
            match self.publish(content(parts)).await {
                Err(failed)
                    if failed.code == Code::InlineRefused && self.options.mode != WriteMode::Replace => {}
                result => return result,
            }
            match self.convert_inline(parts).await? {
                Some(outcome) => return Ok(outcome),
                None => continue,
            }
        }
        Err(refused(Code::Busy, &self.target))
    }

    /// `None` if another writer came first.
    async fn convert_inline(&mut self, parts: &[SealedPart]) -> Result<Option<Outcome>, Failed> {
        let place = self.target.message(WRITE)?;
        let request = LookupRequest {
            content: true,
            ..LookupRequest::default()
        };
        let reply = self
            .context
            .requester
            .look_up(WRITE, place, Consistency::Linearizable, request)
            .await?;
        let mut inode = reply.inode.unwrap_or_default();
        let Some(old) = inode.inline.take() else {
            return Ok(None);
        };
        let found = ContentVersion {
            inode: InodeId(inode.id),
            version: Since(inode.version),
        };
        self.check(found)?;
        let at = match self.options.mode {
            WriteMode::Range(offset) if offset > old.len() as u64 => {
                return Err(refused(Code::Range, &self.target));
            }
            WriteMode::Range(offset) => offset,
            _ => old.len() as u64,
        };
        let policy = self.policy().await?;
        let kept = self.write_single(&old, policy, None, true).await?;
        let spliced = splice(&kept, parts, at);
        match self
            .publish_as(
                WriteMode::Replace,
                Precondition::version(found).message(),
                spliced,
            )
            .await
        {
            Ok(outcome) => Ok(Some(Outcome {
                offset: at,
                ..outcome
            })),
            Err(failed) if failed.code == Code::PreconditionFailed => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// The content is in the metadata of fewer failure domains than its policy names, because a voter may just have
    /// died: it moves to a chunk at once. What others made of the file since is moved with it, or needs no move.
    ///
    /// # Errors
    /// `unknown`: the write is visible, and it is less redundant than it should be.
    pub(super) async fn move_to_chunk(&mut self, written: Outcome) -> Result<Outcome, Error> {
        let moved = self.try_move_to_chunk(written).await;
        moved.map_err(|error| {
            let message = "it is written, in fewer failure domains than its policy names";
            Error::new(ErrorKind::Unknown, WRITE, message)
                .about(&self.target)
                .because(error)
        })
    }

    async fn try_move_to_chunk(&mut self, written: Outcome) -> Result<Outcome, Error> {
        let file = Target::inode(InodeId(written.inode)).message(WRITE)?;
        for _ in 0..MAX_RACES {
            let request = LookupRequest {
                content: true,
                ..LookupRequest::default()
            };
            let looked =
                self.context
                    .requester
                    .look_up(WRITE, file.clone(), Consistency::Linearizable, request);
            let reply = match looked.await {
                // Somebody has deleted it since.
                Err(failed) if failed.code == Code::NotFound => return Ok(written),
                reply => reply?,
            };
            let mut inode = reply.inode.unwrap_or_default();
            let Some(bytes) = inode.inline.take() else {
                return Ok(written);
            };
            let found = ContentVersion {
                inode: InodeId(inode.id),
                version: Since(inode.version),
            };
            let policy = self.policy().await?;
            let parts = self.write_single(&bytes, policy, None, true).await?;
            let op = Op::Publish(Publish {
                target: Some(file.clone()),
                precondition: Precondition::version(found).message(),
                mode: PublishMode::Replace as i32,
                content: Some(content(&parts)),
                ..Publish::default()
            });
            let deadline = self.context.requester.deadline();
            match self.context.requester.mutate(WRITE, None, op, deadline).await {
                Ok(moved) if inode.version == written.version => {
                    Metrics::add(&self.context.requester.metrics().inline_moved, 1);
                    return Ok(Outcome {
                        version: moved.version,
                        redundancy: moved.redundancy,
                        ..written
                    });
                }
                Ok(_) => return Ok(written),
                Err(failed) if matches!(failed.code, Code::PreconditionFailed | Code::NotFound) => {}
                Err(failed) => return Err(failed.error),
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            WRITE,
            "others change it all the time",
        ))
    }

    /// The caller's own precondition, which the replacing command cannot carry beside ours.
    fn check(&self, found: ContentVersion) -> Result<(), Failed> {
        let wanted = &self.options.precondition;
        if wanted.absent {
            return Err(refused(Code::Exists, &self.target));
        }
        let fits = wanted.versions.is_empty() || wanted.versions.contains(&found);
        match fits && !wanted.not_versions.contains(&found) {
            true => Ok(()),
            false => Err(refused(Code::PreconditionFailed, &self.target)),
        }
    }
}

/// The old bytes (now in `kept`) before `at`, the new ones, and what is left of the old ones behind them.
fn splice(kept: &[SealedPart], new: &[SealedPart], at: u64) -> Content {
    let added: u64 = new.iter().map(|part| part.length).sum();
    let (mut before, mut behind, mut position) = (Vec::new(), Vec::new(), 0);
    for part in kept {
        let (from, to) = (position, position + part.length);
        let piece = |list: &mut Vec<NewExtent>, start: u64, end: u64| {
            let (start, end) = (start.max(from), end.min(to));
            if start < end {
                list.push(NewExtent {
                    length: end - start,
                    chunk: part.chunk.chunk,
                    chunk_offset: start - from,
                });
            }
        };
        piece(&mut before, 0, at);
        piece(&mut behind, at + added, u64::MAX);
        position = to;
    }
    let new = content(new);
    let chunks = kept
        .iter()
        .map(|part| part.chunk.clone())
        .chain(new.chunks)
        .collect();
    Content {
        inline: None,
        extents: before.into_iter().chain(new.extents).chain(behind).collect(),
        chunks,
    }
}
