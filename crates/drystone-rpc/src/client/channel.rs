//! One channel: what callers do with it. Its connection is made and run by the driver.

use super::driver;
use super::shared::Shared;
use super::state::State;
use super::{CallFuture, Ready};
use crate::encode::OutFrame;
use crate::error::{NotSent, SendError};
use crate::message::{CallOptions, Payload, encode};
use bytes::Bytes;
use drystone_env::sync::MutexGuard;
use drystone_proto::frame::MAX_BODY_BYTES;
use drystone_proto::{FrameHeader, Kind, Message, Priority};
use drystone_types::{ClientId, HistoryId, MAX_PAYLOAD_BYTES, NodeId};
use std::sync::Arc;

/// One pipelined connection to an address, made when it is needed and again when it was lost. Cheap to clone.
#[derive(Clone)]
pub struct Channel {
    pub(super) shared: Arc<Shared>,
}

impl Channel {
    /// Where to.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Queues a call; it stands in the queue of its class, in the order of calls, when this returns. The future
    /// gives the answer; dropping it takes the frame out of the queue or, once written, forgets the answer.
    pub fn call<Req: Message, Rep: Message + Default>(
        &self,
        kind: Kind,
        request: &Req,
        payload: Option<Payload>,
        options: CallOptions,
    ) -> CallFuture<Rep> {
        self.call_encoded(kind, encode(request), payload, options)
    }

    /// The same with an encoded message: for forwarding.
    pub fn call_encoded<Rep: Message + Default>(
        &self,
        kind: Kind,
        body: Bytes,
        payload: Option<Payload>,
        options: CallOptions,
    ) -> CallFuture<Rep> {
        let common = &self.shared.common;
        let client = options.client.unwrap_or(common.options.client);
        let frame = match frame(kind, body, payload, (options.priority, client), false) {
            Ok(frame) => frame,
            Err(error) => return CallFuture::failed(error.into()),
        };
        let now = common.env.clock.now();
        let mut state = self.shared.lock();
        let pushed = match state.obstacle(now) {
            Some(reason) => Err(reason),
            None => state.push_call(now, frame, options.deadline, &common.options),
        };
        match pushed {
            Ok((id, receiver)) => {
                self.drive(state);
                CallFuture::waiting(Arc::clone(&self.shared), id, receiver)
            }
            Err(error) => {
                drop(state);
                CallFuture::failed(error.into())
            }
        }
    }

    /// Queues a one-way message, best effort: it is lost with the connection, and nobody is told.
    ///
    /// # Errors
    /// If it certainly will not be sent: the queue is full or the channel backs off.
    pub fn send<M: Message>(
        &self,
        kind: Kind,
        message: &M,
        payload: Option<Payload>,
        priority: Priority,
    ) -> Result<(), SendError> {
        let common = &self.shared.common;
        let frame = frame(
            kind,
            encode(message),
            payload,
            (priority, common.options.client),
            true,
        )?;
        let now = common.env.clock.now();
        let mut state = self.shared.lock();
        if let Some(reason) = state.obstacle(now) {
            return Err(reason.into());
        }
        state.push_one_way(frame, &common.options)?;
        self.drive(state);
        Ok(())
    }

    /// Waits until less than `bytes` wait in the queue: back-pressure for those who produce bulk data.
    pub fn ready(&self, bytes: usize) -> Ready {
        let id = self.shared.lock().take_id();
        Ready {
            shared: Arc::clone(&self.shared),
            id,
            bytes: bytes.max(1),
        }
    }

    /// The node that answered the last hello.
    pub fn peer_node(&self) -> Option<NodeId> {
        self.shared.lock().peer_node
    }

    /// Starts the driver or tells it that there is work.
    fn drive(&self, mut state: MutexGuard<'_, State>) {
        let start = !std::mem::replace(&mut state.driven, true);
        drop(state);
        if start {
            driver::start(Arc::clone(&self.shared));
        } else {
            self.shared.driver.wake();
        }
    }
}

fn frame(
    kind: Kind,
    body: Bytes,
    payload: Option<Payload>,
    (priority, client): (Priority, ClientId),
    one_way: bool,
) -> Result<OutFrame, NotSent> {
    let payload = payload.unwrap_or_default();
    if body.len() > MAX_BODY_BYTES || payload.data.len() > MAX_PAYLOAD_BYTES {
        return Err(NotSent::TooLarge {
            body: body.len(),
            payload: payload.data.len(),
        });
    }
    assert_eq!(
        payload.checksums.len(),
        payload.data.len().div_ceil(drystone_types::CHECKSUM_BLOCK),
        "one checksum for each 4 KiB of payload"
    );
    let header = FrameHeader {
        kind,
        reply: false,
        one_way,
        error: false,
        priority,
        deadline_ms: 0,
        request_id: 0,
        history: HistoryId::default(),
        client,
        body_len: 0,
        payload_len: 0,
        body_crc: 0,
    };
    Ok(OutFrame::new(header, body, payload.data, payload.checksums))
}
