//! One channel.

use super::{CallFuture, Ready};
use crate::error::SendError;
use crate::message::{CallOptions, Payload};
use drystone_proto::{Kind, Message, Priority};
use drystone_types::NodeId;

/// One pipelined connection to an address, made when it is needed and again when it was lost. Cheap to clone.
#[derive(Clone)]
pub struct Channel {}

impl Channel {
    /// Where to.
    pub fn address(&self) -> &str {
        unimplemented!()
    }

    /// Queues a call; it stands in the queue of its class, in the order of calls, when this returns. The future
    /// gives the answer; dropping it takes the frame out of the queue or, once written, forgets the answer.
    pub fn call<Req: Message, Rep: Message + Default>(
        &self,
        _kind: Kind,
        _request: &Req,
        _payload: Option<Payload>,
        _options: CallOptions,
    ) -> CallFuture<Rep> {
        unimplemented!()
    }

    /// Queues a one-way message, best effort: it is lost with the connection, and nobody is told.
    ///
    /// # Errors
    /// If it certainly will not be sent: the queue is full or the channel backs off.
    pub fn send<M: Message>(
        &self,
        _kind: Kind,
        _message: &M,
        _payload: Option<Payload>,
        _priority: Priority,
    ) -> Result<(), SendError> {
        unimplemented!()
    }

    /// Waits until less than `bytes` wait in the queue: back-pressure for those who produce bulk data.
    pub fn ready(&self, _bytes: usize) -> Ready {
        unimplemented!()
    }

    /// The node that answered the last hello.
    pub fn peer_node(&self) -> Option<NodeId> {
        unimplemented!()
    }
}
