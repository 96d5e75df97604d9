//! A request's body that does not wait for ever.

use crate::pace::{Pace, Patience};
use crate::problem::Problem;
use crate::response::BodyError;
use bytes::Bytes;
use drystone_env::Clock;
use drystone_types::Code;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What is read of a refused body: more than what lies in the buffers of a connection.
const DRAIN_BYTES: usize = 8 << 20;
/// How long it is waited for.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The peer sends its body slower than [`crate::HttpOptions::pace`] allows.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body comes too slowly: at least {} bytes each second are asked for, over {} s", .0.bytes_per_second, .0.window.as_secs())]
pub struct TooSlow(pub Pace);

/// What a door reads of a request. It ends with [`TooSlow`] when its peer is: one that has vanished without a sign
/// would hold its connection, and whatever its request has begun, for ever.
///
/// A client that sent `Expect: 100-continue` is told to go on when the body is first asked for, and not before.
pub struct RequestBody {
    body: Incoming,
    patience: Patience,
    pace: Pace,
    was_asked: bool,
    /// The client waits to be told that it may send it.
    is_expected: bool,
    received: Arc<AtomicU64>,
}

impl RequestBody {
    pub(crate) fn new(
        body: Incoming,
        clock: Arc<dyn Clock>,
        pace: Pace,
        received: Arc<AtomicU64>,
        is_expected: bool,
    ) -> Self {
        Self {
            body,
            is_expected,
            patience: Patience::new(clock, pace.of_sender()),
            pace,
            was_asked: false,
            received,
        }
    }

    /// True if the client still waits to be told to go on (`Expect: 100-continue`).
    pub fn is_awaited(&self) -> bool {
        self.is_expected && !self.was_asked
    }

    /// Reads what is left of the body of a request that is refused, within bounds: a client that still sends would
    /// find its connection reset in place of the answer. False if there is more, or if the client was not told to send
    /// it: the connection must end then.
    pub async fn drain(&mut self, clock: &dyn Clock) -> bool {
        if self.is_end_stream() {
            return true;
        }
        if self.is_awaited() {
            return false;
        }
        let deadline = clock.now().plus(DRAIN_TIME);
        let mut left = DRAIN_BYTES;
        while !self.is_end_stream() {
            match clock.until(deadline, self.frame()).await {
                Some(Some(Ok(frame))) => match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(rest) => left = rest,
                    None => return false,
                },
                Some(None) => return true,
                Some(Some(Err(_))) | None => return false,
            }
        }
        true
    }

    /// Bytes that came.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// True if the client waits to be told to send its body.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// How it is told that a body ended with `error` after so many bytes.
pub fn broken_off(error: &BodyError, received: u64) -> Problem {
    if let Some(slow) = error.downcast_ref::<TooSlow>() {
        return Problem::named(
            StatusCode::REQUEST_TIMEOUT,
            "slow_body",
            format!("{slow}; {received} bytes came"),
        );
    }
    Problem::new(
        Code::Invalid,
        format!("the body broke off after {received} bytes: {error}"),
    )
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.was_asked = true;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.patience.moved(bytes);
                this.received.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        ready!(this.patience.poll_wait(context));
        Poll::Ready(Some(Err(TooSlow(this.pace).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
