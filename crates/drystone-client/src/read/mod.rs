//! Reading: pinned to one content version, verified, hedged, in order, in bounded memory.

use crate::attributes::Attributes;
use crate::error::Error;
use crate::version::ContentVersion;
use bytes::Bytes;
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};

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
pub struct Reader {}

impl Reader {
    /// Attributes as of the moment it was opened.
    pub fn attributes(&self) -> &Attributes {
        unreachable!("written next")
    }

    /// The content that it reads.
    pub fn content_version(&self) -> ContentVersion {
        self.attributes().content_version()
    }

    /// Its ETag, with its quotes.
    pub fn etag(&self) -> String {
        unreachable!("written next")
    }

    /// Streams `length` bytes from `offset` in order, cut at the end of the file. Each piece has at most 1 MiB and
    /// has passed its checksums. Up to the read window of pieces is fetched ahead; dropping the stream cancels them.
    /// An offset beyond the end gives `range`. After an error the stream ends.
    pub fn read(&self, _offset: u64, _length: u64) -> ReadStream {
        unreachable!("written next")
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
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.into())
    }
}

/// Pieces of a file in order; see [`Reader::read`].
pub struct ReadStream {}

impl ReadStream {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for ReadStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
