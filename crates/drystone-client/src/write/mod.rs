//! Writing: chunks streamed down chains in parallel, then one command that makes the content visible.

use crate::attributes::Idempotency;
use crate::error::Error;
use crate::version::{ContentVersion, Precondition};
use bytes::Bytes;
use drystone_types::{ByteCount, InodeId, Since};
use std::time::Duration;

/// How new content meets what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteMode {
    /// It becomes the whole content, atomically.
    #[default]
    Replace,
    /// It is added at the end, atomically; [`Published::offset`] says where. The file is created if need be.
    Append,
    /// It replaces the bytes from here, which must not lie beyond the end; it may lengthen the file.
    Range(u64),
}

/// How a file is written. The default replaces or creates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WriteOptions {
    /// See [`WriteMode`].
    pub mode: WriteMode,
    /// Must hold when the content is published.
    pub precondition: Precondition,
    /// Make missing directories on the way.
    pub parents: bool,
    /// Permission bits of a new file; 0: 0644.
    pub file_mode: u32,
    /// See [`Idempotency`].
    pub idempotency: Option<Idempotency>,
    /// How many bytes will come, if it is known: chooses slots that fit. More or fewer may come.
    pub size_hint: Option<u64>,
    /// Overrides the directory's chunk size.
    pub chunk_bytes: Option<ByteCount>,
    /// Overrides the client's deadline: for each step, and for the publication.
    pub deadline: Option<Duration>,
}

/// What was published. It is durable and visible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// The file.
    pub inode: InodeId,
    /// Its content version now.
    pub version: Since,
    /// The file was not there before.
    pub created: bool,
    /// File size now.
    pub size: u64,
    /// Where the bytes begin in the file (of an append: where they landed).
    pub offset: u64,
    /// Least number of replicas among the chunks written; 0 if all of it is in the namespace's own log.
    pub redundancy: u32,
    /// The ETag, with its quotes.
    pub etag: String,
}

impl Published {
    /// What the ETag stands for.
    pub fn content_version(&self) -> ContentVersion {
        ContentVersion {
            inode: self.inode,
            version: self.version,
        }
    }
}

/// A file being written. Dropping it before [`Writer::finish`] leaves nothing visible; the space is reclaimed.
pub struct Writer {}

impl Writer {
    /// Takes the next bytes. Returns when they are buffered or on their way, waiting while the budget of
    /// unacknowledged bytes is used up. Failures of chunk servers are dealt with behind it.
    ///
    /// # Errors
    /// What makes the whole write impossible: `not_found`, `denied`, `not_enough_domains`, `no_space`,
    /// `unavailable`... Every later call returns the same.
    pub async fn write(&mut self, _data: Bytes) -> Result<(), Error> {
        unreachable!("written next")
    }

    /// Waits until everything is durable on the replicas that the policy names, then publishes it with one command.
    ///
    /// # Errors
    /// `unknown` if the answer to that command did not come in time: then it may have happened. All others mean that
    /// nothing was published.
    pub async fn finish(self) -> Result<Published, Error> {
        unreachable!("written next")
    }

    /// Gives it up. The same as dropping it.
    pub fn abort(self) {}
}
