//! The futures that callers hold.

use crate::error::CallError;
use crate::message::Answer;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The answer to come of [`super::Channel::call`]. Never pending beyond the call's deadline. Dropping it forgets
/// the answer; a frame that was not written yet is then not sent.
#[must_use = "a call whose future is dropped may never be sent"]
pub struct CallFuture<Rep> {
    answer: PhantomData<fn() -> Rep>,
}

impl<Rep> Future for CallFuture<Rep> {
    type Output = Result<Answer<Rep>, CallError>;
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

/// See [`super::Channel::ready`].
pub struct Ready {}

impl Future for Ready {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        unimplemented!()
    }
}
