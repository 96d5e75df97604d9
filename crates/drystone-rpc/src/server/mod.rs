//! The server side: accepts connections, admits requests by class, runs a [`Service`].
//!
//! Read [`options`](ServerOptions), then `connection` for one connection's life and `admission` for who is let in.

mod admission;
mod connection;
mod identity;
mod listen;
mod options;
mod running;
mod shared;

pub use identity::ServerIdentity;
pub use listen::{ServerHandle, serve};
pub use options::{ClassLimit, ServerOptions};
