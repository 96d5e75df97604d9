//! The handle of one content of a file.

use super::locate::ExtentPage;
use super::open_file::OpenFile;
use super::options::ReadOptions;
use super::shared::ReadContext;
use super::stream::ReadStream;
use crate::attributes::Attributes;
use crate::error::{Error, ErrorKind};
use crate::target::Target;
use crate::version::ContentVersion;
use bytes::{Bytes, BytesMut};
use drystone_proto::meta::{LookupReply, LookupRequest};
use drystone_proto::record::InodeRecord;
use std::sync::Arc;

/// One content of one file, open for reading. It reads the same bytes for ever or says `changed`; renames do not
/// matter to it. Cheap to clone; no server knows of it.
#[derive(Clone)]
pub struct Reader {
    opened: Arc<OpenFile>,
}

/// Opens a file: one look-up.
pub(crate) async fn open(
    context: ReadContext,
    target: Target,
    options: ReadOptions,
) -> Result<Reader, Error> {
    let request = LookupRequest {
        content: true,
        offset: options.offset,
        length: options.length.unwrap_or(0),
        pinned: options.pinned.map(ContentVersion::tag),
        ..LookupRequest::default()
    };
    let reply = context
        .requester
        .look_up("open", target.message("open")?, options.consistency, request)
        .await;
    let reply = reply.map_err(|failed| failed.error.about(&target))?;
    let missing = || {
        Error::new(
            ErrorKind::Unavailable,
            "open",
            format!("{target}: the answer holds no inode"),
        )
    };
    let inode = reply.inode.as_ref().ok_or_else(missing)?;
    let attributes = Attributes::of(inode, reply.policy.as_ref());
    if let Some(link) = &attributes.link {
        let detail = format!("{target}: a symbolic link to {link:?}");
        return Err(Error::new(ErrorKind::IsALink, "open", detail));
    }
    if attributes.is_directory() {
        return Err(Error::new(ErrorKind::IsADirectory, "open", target.to_string()));
    }
    if options
        .pinned
        .is_some_and(|pinned| pinned != attributes.content_version())
    {
        return Err(Error::new(ErrorKind::Changed, "open", target.to_string()));
    }
    let first = Arc::new(ExtentPage::of(
        &reply,
        options.offset,
        options.length,
        attributes.size,
    ));
    let inline = inode.inline.clone();
    Ok(Reader {
        opened: Arc::new(OpenFile {
            context,
            target,
            attributes,
            options,
            inline,
            first,
            is_private: false,
        }),
    })
}

/// All of what was written for `target` and is not published: `size` bytes, which are at `places`.
pub(crate) fn written(context: ReadContext, target: Target, places: &LookupReply, size: u64) -> ReadStream {
    let inode = InodeRecord {
        size,
        ..InodeRecord::default()
    };
    let opened = OpenFile {
        context,
        target,
        attributes: Attributes::of(&inode, None),
        options: ReadOptions::default(),
        inline: None,
        first: Arc::new(ExtentPage::of(places, 0, None, size)),
        is_private: true,
    };
    ReadStream::new(Arc::new(opened), 0, size)
}

impl Reader {
    /// Attributes as of the moment it was opened.
    pub fn attributes(&self) -> &Attributes {
        &self.opened.attributes
    }

    /// The content that it reads.
    pub fn content_version(&self) -> ContentVersion {
        self.attributes().content_version()
    }

    /// Its ETag, with its quotes.
    pub fn etag(&self) -> String {
        self.content_version()
            .etag(self.opened.context.requester.history())
    }

    /// Streams `length` bytes from `offset` in order, cut at the end of the file. Each piece has at most 1 MiB and
    /// has passed its checksums. Up to the read window of pieces is fetched ahead; dropping the stream cancels them.
    /// An offset beyond the end gives `range`. After an error the stream ends.
    pub fn read(&self, offset: u64, length: u64) -> ReadStream {
        ReadStream::new(Arc::clone(&self.opened), offset, length)
    }

    /// The whole content in memory.
    ///
    /// # Errors
    /// `changed`, `corrupt`, `unavailable`.
    pub async fn read_all(&self) -> Result<Bytes, Error> {
        self.read_range(0, self.attributes().size).await
    }

    /// `length` bytes from `offset` in memory, cut at the end of the file.
    ///
    /// # Errors
    /// As [`Reader::read_all`], and `range`.
    pub async fn read_range(&self, offset: u64, length: u64) -> Result<Bytes, Error> {
        let mut stream = self.read(offset, length);
        let Some(first) = stream.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        let Some(second) = stream.next().await.transpose()? else {
            return Ok(first);
        };
        let total = length.min(self.attributes().size.saturating_sub(offset));
        let mut all = BytesMut::with_capacity(usize::try_from(total).unwrap_or(0));
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }
}
