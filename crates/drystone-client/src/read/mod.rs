//! Reading: pinned to one content version, verified, hedged, in order, in bounded memory.
//!
//! [`piece`] is the synchronous core of one read over its replicas, [`locate`] knows where bytes are, [`fetch`] runs
//! a piece, [`stream`] keeps several under way.

mod fetch;
mod locate;
mod piece;
mod stream;

pub(crate) use fetch::ReadPath;
pub use stream::ReadStream;

use crate::attributes::Attributes;
use crate::client::{Client, target};
use crate::error::{Error, ErrorKind};
use crate::version::ContentVersion;
use bytes::{Bytes, BytesMut};
use drystone_proto::command::Target;
use drystone_proto::meta::LookupRequest;
use drystone_types::Code;
use locate::ExtentPage;
use std::sync::Arc;

const READ: &str = "read";

/// How fresh a look-up must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consistency {
    /// Sees everything that was answered to anybody before the look-up began.
    #[default]
    Linearizable,
    /// Sees at least what this handle, or its session token, has seen.
    Session,
}

/// How a file is opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadOptions {
    /// The content must be this one; otherwise `changed`.
    pub pinned: Option<ContentVersion>,
    /// See [`Consistency`].
    pub consistency: Consistency,
    /// Where reading will begin: only the locations from here on are fetched at once. Default 0.
    pub offset: u64,
    /// How much will be read from there, if it is known: saves locations that are not needed.
    pub length: Option<u64>,
    /// Ask the replica on this disk first, whatever its load (tests: to read one replica's bytes).
    pub prefer_disk: Option<u64>,
    /// Never send a second read because the first is slow.
    pub no_hedge: bool,
}

/// One content of one file, open for reading. It reads the same bytes for ever or says `changed`; renames do not
/// matter to it. Cheap to clone; no server knows of it.
#[derive(Clone)]
pub struct Reader {
    opened: Arc<Opened>,
}

pub(crate) struct Opened {
    client: Client,
    path: String,
    attributes: Attributes,
    options: ReadOptions,
    inline: Option<Bytes>,
    first: Arc<ExtentPage>,
}

pub(crate) async fn open(client: &Client, path: &str, options: ReadOptions) -> Result<Reader, Error> {
    let request = LookupRequest {
        content: true,
        offset: options.offset,
        length: options.length.unwrap_or(0),
        pinned: options.pinned.map(ContentVersion::tag),
        ..LookupRequest::default()
    };
    let reply = client
        .look_up("open", target("open", path)?, options.consistency, request)
        .await;
    let reply = reply.map_err(|failed| failed.error.about(path))?;
    let missing = || {
        Error::new(
            ErrorKind::Unavailable,
            "open",
            format!("{path}: the answer holds no inode"),
        )
    };
    let inode = reply.inode.as_ref().ok_or_else(missing)?;
    let attributes = Attributes::of(inode, reply.policy.as_ref());
    if attributes.is_directory() {
        return Err(Error::new(ErrorKind::IsADirectory, "open", path));
    }
    if options
        .pinned
        .is_some_and(|pinned| pinned != attributes.content_version())
    {
        return Err(Error::new(ErrorKind::Changed, "open", path));
    }
    let first = Arc::new(ExtentPage::of(
        &reply,
        options.offset,
        options.length,
        attributes.size,
    ));
    let (client, path, inline) = (client.clone(), path.to_owned(), inode.inline.clone());
    Ok(Reader {
        opened: Arc::new(Opened {
            client,
            path,
            attributes,
            options,
            inline,
            first,
        }),
    })
}

impl Opened {
    /// The page of extents from `offset` on, of the pinned content.
    pub(crate) async fn page(&self, offset: u64) -> Result<Arc<ExtentPage>, Error> {
        let request = LookupRequest {
            content: true,
            offset,
            pinned: Some(self.attributes.content_version().tag()),
            ..LookupRequest::default()
        };
        let place = Target {
            base: self.attributes.inode.0,
            path: String::new(),
        };
        match self
            .client
            .look_up(READ, place, self.options.consistency, request)
            .await
        {
            Ok(reply) => Ok(Arc::new(ExtentPage::of(
                &reply,
                offset,
                None,
                self.attributes.size,
            ))),
            Err(failed) if matches!(failed.code, Code::NotFound | Code::Changed) => {
                Err(Error::new(ErrorKind::Changed, READ, self.path.clone()).because(failed.error))
            }
            Err(failed) => Err(failed.error.about(&self.path)),
        }
    }

    pub(crate) fn error(&self, kind: ErrorKind, context: impl std::fmt::Display) -> Error {
        Error::new(kind, READ, format!("{}: {context}", self.path))
    }
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
        self.opened.client.etag(self.content_version())
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
