//! A connection of the Net seam as hyper wants it, which does not write for ever to a peer that reads nothing.

use drystone_env::{BoxFuture, BoxStream, Clock};
use futures_io::{AsyncRead as _, AsyncWrite as _};
use hyper::rt::ReadBufCursor;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Read from a connection at once: what a bulk frame carries.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// See the module.
pub(crate) struct HttpStream {
    stream: BoxStream,
    buffer: Vec<u8>,
    clock: Arc<dyn Clock>,
    stall_timeout: Duration,
    /// Runs while the peer takes nothing.
    alarm: Option<BoxFuture<()>>,
}

impl HttpStream {
    pub(crate) fn new(stream: BoxStream, clock: Arc<dyn Clock>, stall_timeout: Duration) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            clock,
            stall_timeout,
            alarm: None,
        }
    }

    /// What a write came to, unless the peer has taken nothing for too long.
    fn watched(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.alarm = None;
            return written;
        }
        let alarm = self
            .alarm
            .get_or_insert_with(|| self.clock.sleep(self.stall_timeout));
        ready!(alarm.as_mut().poll(context));
        self.alarm = None;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read its answer",
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
        let room = cursor.remaining().min(READ_BYTES);
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
