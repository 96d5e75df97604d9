//! A request that the service works on.

use super::admission::Permit;
use crate::message::Reply;
use drystone_env::{BoxFuture, Monotonic};
use drystone_proto::FrameHeader;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// See the module.
pub(super) struct Running {
    future: Option<BoxFuture<Reply>>,
    header: FrameHeader,
    pub(super) deadline: Monotonic,
    waker: Option<Waker>,
    _permit: Permit,
}

impl Running {
    pub(super) fn new(
        future: BoxFuture<Reply>,
        header: FrameHeader,
        deadline: Monotonic,
        permit: Permit,
    ) -> Self {
        Self {
            future: Some(future),
            header,
            deadline,
            waker: None,
            _permit: permit,
        }
    }

    /// Drops the work; the next poll gives no reply.
    pub(super) fn expire(&mut self) {
        self.future = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Running {
    /// The request's header and the reply, unless the deadline has passed.
    type Output = (FrameHeader, Option<Reply>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = match self.future.as_mut().map(|future| future.as_mut().poll(context)) {
            None => None,
            Some(Poll::Ready(reply)) => Some(reply),
            Some(Poll::Pending) => {
                if !self
                    .waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(context.waker()))
                {
                    self.waker = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
        };
        self.future = None;
        Poll::Ready((self.header.clone(), reply))
    }
}
