//! How a file is written, and what is said of it once it is.

use crate::attributes::{Idempotency, SetAttributes};
use crate::version::{ContentVersion, Precondition};
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
    /// Permission bits of a new file; default 0644.
    pub file_mode: Option<u32>,
    /// Attributes that the file gets in the same step as the content, be it new or not; what these changes say of
    /// preconditions and idempotency keys does not count.
    pub attributes: SetAttributes,
    /// See [`Idempotency`].
    pub idempotency: Option<Idempotency>,
    /// How many bytes will come, if it is known: servers keep so much space ready. More or fewer may come.
    pub size_hint: Option<u64>,
    /// Zeros, by whole blocks of 64 KiB of what is handed over at once, become holes: they cost nothing and are read as
    /// zeros. For [`WriteMode::Replace`]; default no.
    pub sparse: bool,
    /// Overrides the directory's chunk size.
    pub chunk_bytes: Option<ByteCount>,
    /// Overrides the client's deadline for the publication.
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
