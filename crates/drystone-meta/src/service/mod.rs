//! What others ask of a metadata server.
//!
//! Owns the way of a request: answered here, or handed on to the leader, one hop only (`router`). What a request does
//! is in a file per kind: `lookup`, `mutate`, `grant`, `abandon`, `chunk_server`, `admin`, `lost`, and in `membership`. `dispatch` is
//! what the wire sees.

pub(crate) mod abandon;
pub(crate) mod admin;
pub(crate) mod chunk_server;
pub(crate) mod dispatch;
pub(crate) mod grant;
pub(crate) mod inline;
pub(crate) mod lookup;
mod lost;
pub(crate) mod mutate;
pub(crate) mod refused;
pub(crate) mod remove_server;
pub(crate) mod router;
mod used_up;
