//! A request's body that does not wait for ever.

use crate::http_server::BodyError;
use bytes::Bytes;
use drystone_env::{BoxFuture, Clock};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What a door reads of a request. It ends with an error when nothing comes for [`crate::HttpOptions::stall_timeout`]
/// while somebody reads: a peer that has vanished without a sign would hold its connection, and whatever its request
/// has begun, for ever.
pub struct RequestBody {
    body: Incoming,
    clock: Arc<dyn Clock>,
    stall_timeout: Duration,
    alarm: Option<BoxFuture<()>>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, clock: Arc<dyn Clock>, stall_timeout: Duration) -> Self {
        Self {
            body,
            clock,
            stall_timeout,
            alarm: None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.alarm = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let alarm = this
            .alarm
            .get_or_insert_with(|| this.clock.sleep(this.stall_timeout));
        ready!(alarm.as_mut().poll(context));
        this.alarm = None;
        let error = format!("nothing came for {} s", this.stall_timeout.as_secs());
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
