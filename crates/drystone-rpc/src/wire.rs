//! One connection's bytes: a stream, its decoder and its outbox. No policy.

use crate::decode::{Frame, FrameDecoder, FrameLimits};
use crate::encode::Outbox;
use drystone_env::{BoxStream, BufferPool};
use drystone_proto::FrameError;
use futures_io::{AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the peer closed it")]
    Closed,
    #[error("the peer closed it within a frame")]
    Cut,
    #[error("{0}")]
    Protocol(&'static str),
}

pub(crate) struct Wire {
    stream: BoxStream,
    decoder: FrameDecoder,
    pub(crate) outbox: Outbox,
    /// Bytes written ever: whoever watches for a stall compares it with its last value.
    pub(crate) written: u64,
    /// Bytes read ever.
    pub(crate) read: u64,
}

impl Wire {
    pub(crate) fn new(stream: BoxStream, pool: BufferPool, limits: FrameLimits) -> Self {
        let decoder = FrameDecoder::new(pool, limits);
        Self {
            stream,
            decoder,
            outbox: Outbox::default(),
            written: 0,
            read: 0,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: FrameLimits) {
        self.decoder.set_limits(limits);
    }

    /// Writes what waits. `Ready` when nothing waits any more.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        let mut wrote = false;
        while !self.outbox.is_empty() {
            let stream = Pin::new(&mut self.stream);
            match self
                .outbox
                .with_slices(|slices| stream.poll_write_vectored(context, slices))
            {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(WireError::Closed)),
                Poll::Ready(Ok(count)) => {
                    self.outbox.written(count);
                    self.written += count as u64;
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        if wrote {
            // Sockets have nothing to flush; a stream that buffers is asked once per batch.
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(context) {
                return Poll::Ready(Err(error.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and decodes all that came. `Ready` with the bytes read.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut impl Extend<Frame>,
    ) -> Poll<Result<usize, WireError>> {
        let target = self.decoder.target();
        let count = match Pin::new(&mut self.stream).poll_read(context, target) {
            Poll::Ready(Ok(0)) => {
                let end = if self.decoder.is_idle() {
                    WireError::Closed
                } else {
                    WireError::Cut
                };
                return Poll::Ready(Err(end));
            }
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Pending => return Poll::Pending,
        };
        self.read += count as u64;
        self.decoder.filled(count);
        while let Some(frame) = self.decoder.next_frame()? {
            frames.extend([frame]);
        }
        Poll::Ready(Ok(count))
    }

    /// Reads once and forgets what came; an error is also an end.
    pub(crate) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, WireError>> {
        match Pin::new(&mut self.stream).poll_read(context, &mut [0; 4096]) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(WireError::Closed)),
            other => other.map_err(WireError::from),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.stream).poll_close(context).map(|_| ())
    }
}
