//! One end of a connection: what a process reads and writes.

use super::executor::{State, World};
use super::fabric::send;
use super::pipe::{Segment, WINDOW};
use crate::rng::Rng;
use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// One end of a connection.
pub(super) struct End {
    pub(super) world: World,
    /// The pipe that is read here; the other direction is written.
    pub(super) incoming: u64,
}

/// The end that reads `incoming` goes away.
pub(super) fn close(state: &mut State, incoming: u64) {
    let Some(pipe) = state.fabric.pipes.get_mut(&incoming) else {
        return;
    };
    if pipe.reader_gone {
        return;
    }
    pipe.reader_gone = true;
    pipe.reader = None;
    let unread = !pipe.arrived.is_empty();
    pipe.arrived.clear();
    let Some(outgoing) = state.fabric.pipes.get_mut(&(incoming ^ 1)) else {
        return;
    };
    if !outgoing.writer_gone {
        outgoing.writer_gone = true;
        outgoing.writer = None;
        send(
            state,
            incoming ^ 1,
            if unread { Segment::Reset } else { Segment::Fin },
        );
    }
    state.fabric.forget(incoming);
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut guard = self.world.state();
        let state = &mut *guard;
        let Some(pipe) = state.fabric.pipes.get(&self.incoming) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let back = state.fabric.link(pipe.to, pipe.from).open;
        let pipe = state
            .fabric
            .pipes
            .get_mut(&self.incoming)
            .expect("it was there just now");
        let Some(data) = pipe.arrived.front_mut() else {
            if pipe.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if pipe.ended {
                return Poll::Ready(Ok(0));
            }
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let count = data.len().min(out.len());
        out[..count].copy_from_slice(&data[..count]);
        data.advance(count);
        if data.is_empty() {
            pipe.arrived.pop_front();
        }
        let waker = if back {
            pipe.acknowledge(count)
        } else {
            pipe.unacknowledged += count;
            None
        };
        drop(guard);
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut guard = self.world.state();
        let state = &mut *guard;
        let number = self.incoming ^ 1;
        let Some(pipe) = state.fabric.pipes.get_mut(&number) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.reset || pipe.writer_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut count = data.len().min(WINDOW.saturating_sub(pipe.held));
        if count == 0 && !data.is_empty() {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        // A write may be cut short anywhere.
        if count > 1 && state.rng.chance(1, 16) {
            count = 1 + state.rng.below(count as u64 - 1) as usize;
        }
        pipe.held += count;
        state.fabric.stats.bytes += count as u64;
        send(
            state,
            number,
            Segment::Data(Bytes::copy_from_slice(&data[..count])),
        );
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.world.state();
        let number = self.incoming ^ 1;
        if let Some(pipe) = guard.fabric.pipes.get_mut(&number)
            && !pipe.writer_gone
        {
            pipe.writer_gone = true;
            pipe.writer = None;
            send(&mut guard, number, Segment::Fin);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        close(&mut self.world.state(), self.incoming);
    }
}
