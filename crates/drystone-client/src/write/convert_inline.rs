//! Moves content out of the metadata into a chunk, when bytes in chunks are added to it or too few voters have it. The
//! file stays what it is, down to its version: one command moves it, provided that it still is what was read.

use super::grants::granted_at;
use super::options::WriteMode;
use super::parts::{WRITE, content, impossible};
use super::writer::Writer;
use crate::error::{Error, ErrorKind};
use crate::meta::Failed;
use crate::metrics::Metrics;
use crate::options::Consistency;
use crate::target::Target;
use bytes::Bytes;
use drystone_proto::command::{self, Content, ConvertInline, Op, Outcome};
use drystone_proto::meta::LookupRequest;
use drystone_types::{Code, InodeId};

/// Times that another writer may come first.
const MAX_RACES: u32 = 5;

/// Content in the metadata.
struct Inline {
    inode: u64,
    version: u64,
    bytes: Bytes,
}

impl Writer {
    /// Publishes content in chunks, whatever the file's content is kept in.
    pub(super) async fn publish_in_chunks(&self, content: &Content) -> Result<Outcome, Failed> {
        for _ in 0..MAX_RACES {
            match self.publish(content.clone()).await {
                Err(failed)
                    if failed.code == Code::InlineRefused && self.options.mode != WriteMode::Replace => {}
                result => return result,
            }
            // Bytes in chunks are added to a file that is inline. Nothing of this is part of what the caller's
            // idempotency key stands for: the publication alone is, and its answer is kept.
            match self.inline_at(self.target.message(WRITE)?).await {
                Ok(Some(inline)) => drop(self.convert(&inline).await?),
                Ok(None) => {}
                Err(failed) if failed.code == Code::NotFound => {}
                Err(failed) => return Err(failed),
            }
        }
        Err(Failed {
            code: Code::Busy,
            error: self.raced(),
        })
    }

    fn raced(&self) -> Error {
        Error::new(ErrorKind::Busy, WRITE, "others change it all the time").about(&self.target)
    }

    /// What a file keeps in the metadata, if it does. To move it is a part of writing: the caller need not be able to
    /// read the file.
    async fn inline_at(&self, place: command::Target) -> Result<Option<Inline>, Failed> {
        let request = LookupRequest {
            content: true,
            to_convert: true,
            ..LookupRequest::default()
        };
        let requester = &self.context.requester;
        let reply = requester
            .look_up(WRITE, place, Consistency::Linearizable, request)
            .await?;
        let inode = reply.inode.unwrap_or_default();
        Ok(inode.inline.map(|bytes| Inline {
            inode: inode.id,
            version: inode.version,
            bytes,
        }))
    }

    /// Moves it to a chunk under the policy in force; `None` if it is not what the file holds any more.
    async fn convert(&self, inline: &Inline) -> Result<Option<Outcome>, Failed> {
        let requester = &self.context.requester;
        let file = Target::inode(InodeId(inline.inode)).message(WRITE)?;
        let avoid = self.context.shared.suspects.nodes(requester.now());
        let granted = granted_at(requester, file, inline.bytes.len() as u64, avoid).await;
        let granted = granted.map_err(|trouble| impossible(&self.target, trouble))?;
        let policy = self.with_chunk_bytes(granted.policy)?;
        let parts = self
            .write_single(&inline.bytes, policy, Some(granted), true)
            .await?;
        let content = content(&parts);
        let sent = self.context.begun.sent(&content);
        let op = Op::ConvertInline(ConvertInline {
            inode: inline.inode,
            version: inline.version,
            content: Some(content),
        });
        let converted = requester.mutate(WRITE, None, op, requester.deadline()).await;
        if let Err(failed) = &converted
            && failed.error.kind() != ErrorKind::Unknown
        {
            self.context.begun.refused(sent);
        }
        match converted {
            Ok(outcome) => Ok(Some(outcome)),
            Err(failed) if matches!(failed.code, Code::PreconditionFailed | Code::NotFound) => Ok(None),
            Err(failed) => Err(Failed {
                error: failed.error.about(&self.target),
                ..failed
            }),
        }
    }

    /// The content is in the metadata of fewer failure domains than its policy names, because a voter may just have
    /// died: it moves to a chunk at once. What others made of the file since is moved with it, or needs no move.
    ///
    /// # Errors
    /// `unknown`: the write is visible, and it is less redundant than it should be.
    pub(super) async fn move_to_chunk(&self, written: Outcome, data: &Bytes) -> Result<Outcome, Error> {
        let moved = self.try_move_to_chunk(written, data).await;
        moved.map_err(|error| {
            let message = "it is written, in fewer failure domains than its policy names";
            Error::new(ErrorKind::Unknown, WRITE, message)
                .about(&self.target)
                .because(error)
        })
    }

    async fn try_move_to_chunk(&self, written: Outcome, data: &Bytes) -> Result<Outcome, Error> {
        let file = Target::inode(InodeId(written.inode)).message(WRITE)?;
        // All that it holds was written here, unless it was added to something: its writer need not be able to read it.
        let mut known = (self.options.mode == WriteMode::Replace).then(|| Inline {
            inode: written.inode,
            version: written.version,
            bytes: data.clone(),
        });
        for _ in 0..MAX_RACES {
            let inline = match known.take() {
                Some(inline) => inline,
                None => match self.inline_at(file.clone()).await {
                    Ok(Some(inline)) => inline,
                    Ok(None) => return Ok(written),
                    // Somebody has deleted it since.
                    Err(failed) if failed.code == Code::NotFound => return Ok(written),
                    Err(failed) => return Err(failed.error),
                },
            };
            match self.convert(&inline).await? {
                Some(moved) if inline.version == written.version => {
                    Metrics::add(&self.context.requester.metrics().inline_moved, 1);
                    return Ok(Outcome {
                        redundancy: moved.redundancy,
                        ..written
                    });
                }
                Some(_) => return Ok(written),
                None => {}
            }
        }
        Err(self.raced())
    }
}
