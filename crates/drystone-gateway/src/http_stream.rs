//! A connection of the Net seam as hyper wants it, which does not write for ever to a peer that reads nothing.

use crate::pace::{Pace, Patience};
use drystone_env::connections::{Busy, Place};
use drystone_env::{BoxStream, Clock};
use futures_io::{AsyncRead as _, AsyncWrite as _};
use hyper::rt::ReadBufCursor;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Read from a connection at once: what a bulk frame carries.
pub(crate) const READ_BYTES: usize = 256 << 10;
/// Read at once while no request is under way: more than most heads have.
const IDLE_READ_BYTES: usize = 8 << 10;

/// See the module.
pub(crate) struct HttpStream {
    stream: BoxStream,
    buffer: Vec<u8>,
    place: Arc<Place>,
    patience: Patience,
    /// While the peer takes nothing of what waits for it.
    writing: Option<Busy>,
}

impl HttpStream {
    pub(crate) fn new(stream: BoxStream, clock: Arc<dyn Clock>, place: Arc<Place>, pace: Pace) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            patience: Patience::new(clock, pace),
            place,
            writing: None,
        }
    }

    /// What a write came to, unless the peer takes its answer too slowly.
    fn watched(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(outcome) = &written {
            self.patience.moved(*outcome.as_ref().unwrap_or(&0));
            self.writing = None;
            return written;
        }
        self.writing.get_or_insert_with(|| self.place.busy());
        ready!(self.patience.poll_wait(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer reads its answer too slowly",
        )))
    }
}

impl hyper::rt::Read for HttpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let most = if this.place.is_idle() {
            // An idle connection holds no more memory than a head needs.
            if this.buffer.len() > IDLE_READ_BYTES {
                this.buffer = Vec::new();
            }
            IDLE_READ_BYTES
        } else {
            READ_BYTES
        };
        let room = cursor.remaining().min(most);
        if this.buffer.len() < room {
            this.buffer.resize(room, 0);
        }
        let buffer = &mut this.buffer[..room];
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(count)) => {
                cursor.put_slice(&buffer[..count]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl hyper::rt::Write for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, data);
        self.watched(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watched(context, written)
    }
}
