//! Connections over the wire: framing, deadlines, retry budget, admission control.
//!
//! Owns how frames travel: one pipelined connection per address, many frames per read and per write, a deadline
//! on everything, bounded queues on both sides. Must never: know what a message means (beyond hello and the
//! error reply), retry a call, start a task or flush per request.
//!
//! Read [`message`] for what a service and a caller see, [`decode`] and [`encode`] for bytes, then [`server`]
//! ([`serve`]) and [`client`] ([`Channels`]); [`retry`] holds what callers need to retry politely.

#![allow(
    clippy::result_large_err,
    reason = "an error reply has 168 bytes and is moved once per failed call; a box would cost every caller a line"
)]

pub mod client;
pub mod decode;
pub mod encode;
pub mod error;
mod locks;
pub mod message;
pub mod retry;
pub mod server;
mod wire;

pub use client::{CallFuture, Channel, ChannelOptions, Channels, Ready};
pub use decode::{Frame, FrameDecoder, FrameLimits, decode_stream};
pub use error::{CallError, NotSent, SendError, Uncertain, refusal};
pub use message::{Answer, CallOptions, Payload, Peer, Reply, Request, Service};
pub use retry::{Backoff, RetryBudget};
pub use server::{ClassLimit, ServerHandle, ServerIdentity, ServerOptions, serve};

#[cfg(test)]
mod tests;
