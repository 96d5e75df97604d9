//! What the doors share: the HTTP server, the caller's identity, how an error of the client library
//! is told, and how a file is described.
//!
//! Architecture invariant: knows the client library and no wire, and nothing of any one door's vocabulary.

pub mod caller;
pub mod describe;
pub mod http_server;
mod http_stream;
pub mod problem;
mod request_body;
pub mod time;

pub use http_server::{Body, HttpOptions, HttpServer, Response};
pub use problem::Problem;
pub use request_body::RequestBody;
