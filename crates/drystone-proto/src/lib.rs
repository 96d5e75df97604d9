//! The wire: frames, message kinds and messages, and the records and commands that are stored or replicated.
//!
//! Owns every encoding that two processes, or two versions of one process, must agree on. Architecture
//! invariant: knows nothing of sockets, files or what a server does with a message.
//!
//! Read [`frame`] for what a frame is, [`kind`] for who may send what to whom, then the messages:
//! [`cluster`] (hello, registration, heartbeat, administration), [`meta`] (clients to metadata servers), [`data`]
//! (clients and chunk servers to chunk servers), [`raft`] (voters to voters); then what is replicated:
//! [`command`] (on its way: [`envelope`]) and [`record`]; then [`grant`] for what is signed.
//!
//! Numbers of kinds, codes and fields are never reused. In messages ids are plain integers (the codec knows
//! nothing else); they become the types of drystone-types at the boundary of the crate that uses them.

pub mod checksum;
pub mod cluster;
pub mod command;
pub mod data;
pub mod envelope;
pub mod frame;
pub mod grant;
pub mod kind;
pub mod meta;
pub mod policy;
pub mod raft;
pub mod record;

pub use frame::{FrameError, FrameHeader, Priority};
pub use kind::Kind;
pub use prost::Message;
