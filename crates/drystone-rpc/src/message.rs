//! What a service and a caller see of a frame: requests, replies, answers, payloads.

use crate::error::refusal;
use bytes::Bytes;
use drystone_env::{BoxFuture, Monotonic};
use drystone_proto::checksum::Checksums;
use drystone_proto::cluster::{ErrorReply, Hello, HelloReply};
use drystone_proto::{Kind, Message, Priority};
use drystone_types::{ClientId, Code};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a server does with requests.
pub trait Service: Send + Sync + 'static {
    /// Decides about a connection: checks cluster, history and node. See [`crate::ServerIdentity::answer`].
    ///
    /// # Errors
    /// What the peer is told before the connection is closed.
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply>;

    /// Handles a request. Called in arrival order of one connection: what runs before the future is returned
    /// runs in that order and must not block; futures of one connection run concurrently in one task. A future
    /// is dropped when its deadline passes or its connection ends: work that must be finished belongs to a task
    /// or thread of the service. The reply to a one-way request is thrown away.
    fn handle(&self, request: Request) -> BoxFuture<Reply>;

    /// Asked before more is read from a peer that has requests under way: `None` to go on, or what completes when
    /// to ask again. Until then the peer waits and nothing fails; answers go on. This is how a service bounds what
    /// it holds by making senders wait. Whoever says so must be sure that it ends: answering what is under way
    /// may not depend on reading more from the same peers. Default: never.
    fn hold_back(&self, _peer: &Peer) -> Option<BoxFuture<()>> {
        None
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// As it introduced itself.
    pub hello: Hello,
    /// Where it connects from.
    pub address: SocketAddr,
}

/// A request as it arrived; everything that a checksum covers has been verified.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the body is.
    pub kind: Kind,
    /// No reply is sent.
    pub one_way: bool,
    /// On whose behalf.
    pub client: ClientId,
    /// Its class.
    pub priority: Priority,
    /// When the sender stops waiting, by this node's clock.
    pub deadline: Monotonic,
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// The encoded message.
    pub body: Bytes,
    /// Raw bytes, aligned to 4 KiB and pooled; empty if there are none.
    pub payload: Bytes,
    /// One for each 4 KiB of the payload.
    pub checksums: Checksums,
}

impl Request {
    /// The body as a message.
    ///
    /// # Errors
    /// `invalid`, ready to be sent, if it is not one.
    pub fn decode<M: Message + Default>(&self) -> Result<M, ErrorReply> {
        M::decode(self.body.clone()).map_err(|error| {
            refusal(
                Code::Invalid,
                format!("malformed body of kind {:?}: {error}", self.kind),
            )
        })
    }
}

/// What a service answers.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) error: bool,
    pub(crate) body: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) checksums: Checksums,
}

impl Reply {
    /// A message.
    pub fn ok<M: Message>(message: &M) -> Self {
        Self {
            error: false,
            body: encode(message),
            payload: Bytes::new(),
            checksums: Checksums::default(),
        }
    }

    /// A message and raw bytes. `checksums` are those of each 4 KiB of `payload`; `None` computes them here.
    ///
    /// # Panics
    /// If the number of checksums is not that of the payload's blocks.
    pub fn with_payload<M: Message>(message: &M, payload: Bytes, checksums: Option<Checksums>) -> Self {
        let payload = Payload::with_checksums(payload, checksums);
        Self {
            error: false,
            body: encode(message),
            payload: payload.data,
            checksums: payload.checksums,
        }
    }

    /// A refusal.
    pub fn error(reply: ErrorReply) -> Self {
        Self {
            error: true,
            body: encode(&reply),
            payload: Bytes::new(),
            checksums: Checksums::default(),
        }
    }

    /// A refusal with a code and a text for people.
    pub fn refuse(code: Code, message: impl Into<String>) -> Self {
        Self::error(refusal(code, message))
    }

    /// The result of an operation without payload.
    pub fn from_result<M: Message>(result: Result<M, ErrorReply>) -> Self {
        match result {
            Ok(message) => Self::ok(&message),
            Err(error) => Self::error(error),
        }
    }

    /// True for a refusal.
    pub fn is_error(&self) -> bool {
        self.error
    }

    /// The encoded message (or [`ErrorReply`]); for tests and forwarding.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The raw bytes.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

pub(crate) fn encode<M: Message>(message: &M) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

/// Raw bytes with the checksum of each 4 KiB of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Payload {
    /// At most `MAX_PAYLOAD_BYTES`.
    pub data: Bytes,
    /// One for each 4 KiB.
    pub checksums: Checksums,
}

impl Payload {
    /// Sums `data`.
    pub fn new(data: Bytes) -> Self {
        Self::with_checksums(data, None)
    }

    /// `data` with the checksums that its source gave, or summed here.
    ///
    /// # Panics
    /// If the number of checksums is not that of the blocks.
    pub fn with_checksums(data: Bytes, checksums: Option<Checksums>) -> Self {
        let checksums = checksums.unwrap_or_else(|| Checksums::of(&data));
        assert_eq!(
            checksums.len(),
            data.len().div_ceil(drystone_types::CHECKSUM_BLOCK),
            "one checksum for each 4 KiB of payload"
        );
        Self { data, checksums }
    }
}

/// The answer to a call; everything that a checksum covers has been verified.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer<Rep> {
    /// The message.
    pub body: Rep,
    /// Raw bytes, aligned to 4 KiB and pooled; empty if there are none.
    pub payload: Bytes,
    /// One for each 4 KiB of the payload.
    pub checksums: Checksums,
}

/// How to make a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallOptions {
    /// When the caller stops waiting; what remains of it travels with the call.
    pub deadline: Monotonic,
    /// Its class.
    pub priority: Priority,
    /// On whose behalf; `None`: the channels' own id.
    pub client: Option<ClientId>,
}

impl CallOptions {
    /// Foreground, on our own behalf, until `deadline`.
    pub fn until(deadline: Monotonic) -> Self {
        Self {
            deadline,
            priority: Priority::Foreground,
            client: None,
        }
    }

    /// The same in another class.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The same on behalf of `client`.
    pub fn client(mut self, client: ClientId) -> Self {
        self.client = Some(client);
        self
    }
}
