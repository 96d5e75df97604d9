//! Pieces of a file in order, several under way.

use super::fetch::fetch;
use super::locate::ExtentPage;
use super::open_file::OpenFile;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use bytes::Bytes;
use drystone_env::BoxFuture;
use futures_util::Stream;
use futures_util::stream::FuturesOrdered;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Pieces of a file in order; see [`crate::Reader::read`].
pub struct ReadStream {
    opened: Arc<OpenFile>,
    position: u64,
    end: u64,
    page: Arc<ExtentPage>,
    loading: Option<BoxFuture<Result<Arc<ExtentPage>, Error>>>,
    under_way: FuturesOrdered<BoxFuture<Result<Bytes, Error>>>,
    failed: Option<Error>,
}

impl ReadStream {
    pub(crate) fn new(opened: Arc<OpenFile>, offset: u64, length: u64) -> Self {
        let size = opened.attributes.size;
        let end = offset.saturating_add(length).min(size);
        let failed = (offset > size).then(|| {
            opened.error(
                ErrorKind::Range,
                format_args!("offset {offset} is beyond the end at {size}"),
            )
        });
        let page = Arc::clone(&opened.first);
        Self {
            opened,
            position: offset,
            end,
            page,
            loading: None,
            under_way: FuturesOrdered::new(),
            failed,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Starts pieces while the window has room; `Pending` while the next page of locations is on its way.
    fn fill(&mut self, context: &mut Context<'_>) {
        let window = self.opened.context.requester.options().read_window;
        while self.failed.is_none() && self.under_way.len() < window && self.position < self.end {
            if let Some(inline) = &self.opened.inline {
                let (from, to) = (self.position as usize, self.end as usize);
                let whole = inline.len() as u64 == self.opened.attributes.size;
                let piece = whole.then(|| inline.slice(from..to));
                let missing = || {
                    self.opened
                        .error(ErrorKind::Corrupt, "inline content of another length")
                };
                let piece = piece.ok_or_else(missing);
                self.under_way.push_back(Box::pin(std::future::ready(piece)));
                self.position = self.end;
                return;
            }
            if !self.page.covers(self.position) {
                match self.load(context) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => self.failed = Some(error),
                    Poll::Pending => {}
                }
                return;
            }
            let Some(piece) = self.page.piece(self.position, self.end.min(self.page.to)) else {
                let hole = self
                    .opened
                    .error(ErrorKind::Corrupt, format_args!("no extent at {}", self.position));
                self.failed = Some(hole);
                return;
            };
            self.position += piece.length;
            self.under_way.push_back(Box::pin(fetch(
                Arc::clone(&self.opened),
                Arc::clone(&self.page),
                piece,
            )));
        }
    }

    fn load(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let (opened, position) = (Arc::clone(&self.opened), self.position);
        let loading = self
            .loading
            .get_or_insert_with(|| Box::pin(async move { opened.page(position).await }));
        let Poll::Ready(result) = loading.as_mut().poll(context) else {
            return Poll::Pending;
        };
        self.loading = None;
        let page = result?;
        if !page.covers(position) {
            return Poll::Ready(Err(self
                .opened
                .error(ErrorKind::Corrupt, format_args!("no extents at {position}"))));
        }
        self.page = page;
        Poll::Ready(Ok(()))
    }
}

impl Stream for ReadStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.fill(context);
        match Pin::new(&mut this.under_way).poll_next(context) {
            Poll::Ready(Some(Ok(piece))) => {
                Metrics::add(
                    &this.opened.context.requester.metrics().bytes_read,
                    piece.len() as u64,
                );
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.position = this.end;
                this.under_way = FuturesOrdered::new();
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => match this.failed.take() {
                Some(error) => {
                    this.position = this.end;
                    Poll::Ready(Some(Err(error)))
                }
                None if this.position < this.end => Poll::Pending,
                None => Poll::Ready(None),
            },
            Poll::Pending => Poll::Pending,
        }
    }
}
