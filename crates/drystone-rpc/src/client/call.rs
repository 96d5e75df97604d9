//! The futures that callers hold.

use super::shared::Shared;
use super::state::Outcome;
use crate::error::{CallError, Uncertain};
use crate::message::Answer;
use drystone_proto::Message;
use drystone_proto::cluster::ErrorReply;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// The answer to come of [`super::Channel::call`]. Never pending beyond the call's deadline. Dropping it forgets
/// the answer; a frame that was not written yet is then not sent.
#[must_use = "a call whose future is dropped may never be sent"]
pub struct CallFuture<Rep> {
    state: CallState,
    answer: PhantomData<fn() -> Rep>,
}

enum CallState {
    Waiting {
        shared: Arc<Shared>,
        id: u64,
        receiver: oneshot::Receiver<Outcome>,
    },
    Failed(CallError),
    Done,
}

impl<Rep> CallFuture<Rep> {
    pub(super) fn waiting(shared: Arc<Shared>, id: u64, receiver: oneshot::Receiver<Outcome>) -> Self {
        Self {
            state: CallState::Waiting { shared, id, receiver },
            answer: PhantomData,
        }
    }

    pub(super) fn failed(error: CallError) -> Self {
        Self {
            state: CallState::Failed(error),
            answer: PhantomData,
        }
    }
}

impl<Rep: Message + Default> Future for CallFuture<Rep> {
    type Output = Result<Answer<Rep>, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let CallState::Waiting { shared, receiver, .. } = &mut self.state {
            let outcome = std::task::ready!(Pin::new(receiver).poll(context)).unwrap_or_else(|_| {
                // The driver answers every call before it ends; this is for one that was torn down.
                let address = shared.address.clone();
                Err(CallError::Unknown(Uncertain::Lost {
                    address,
                    reason: "the driver ended".to_owned(),
                }))
            });
            self.state = CallState::Done;
            return Poll::Ready(outcome.and_then(decode));
        }
        match std::mem::replace(&mut self.state, CallState::Done) {
            CallState::Failed(error) => Poll::Ready(Err(error)),
            CallState::Done | CallState::Waiting { .. } => panic!("a call was polled after its answer"),
        }
    }
}

fn decode<Rep: Message + Default>(frame: crate::Frame) -> Result<Answer<Rep>, CallError> {
    let malformed =
        |error| CallError::Unknown(Uncertain::Malformed(format!("{:?}: {error}", frame.header.kind)));
    if frame.header.error {
        return Err(CallError::Refused(
            ErrorReply::decode(frame.body.clone()).map_err(malformed)?,
        ));
    }
    let body = Rep::decode(frame.body.clone()).map_err(malformed)?;
    Ok(Answer {
        body,
        payload: frame.payload,
        checksums: frame.checksums,
    })
}

impl<Rep> Drop for CallFuture<Rep> {
    fn drop(&mut self) {
        if let CallState::Waiting { shared, id, .. } = &self.state {
            // It may have been the one that filled the window.
            if shared.lock().forget(*id) {
                shared.driver.wake();
            }
        }
    }
}

/// See [`super::Channel::ready`].
#[must_use = "it waits only when awaited"]
pub struct Ready {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) bytes: usize,
}

impl Future for Ready {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.lock().wait(self.id, self.bytes, context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.shared.lock().stop_waiting(self.id);
    }
}
