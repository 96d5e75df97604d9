//! What the doors share: the HTTP server with its limits and metrics, who may reach it, the caller's identity, how an
//! error of the client library is told, and how a file is described.
//!
//! Architecture invariant: knows the client library and no wire, and nothing of any one door's vocabulary.

pub mod caller;
pub mod describe;
pub mod digest;
pub mod health;
pub mod http_server;
mod http_stream;
mod locks;
pub mod metrics;
pub mod origin;
pub mod pace;
pub mod problem;
pub mod request_body;
pub mod response;
pub mod time;

pub use http_server::{HttpOptions, HttpServer};
pub use metrics::{Metrics, Operation};
pub use pace::Pace;
pub use problem::Problem;
pub use request_body::RequestBody;
pub use response::{Body, Response};

/// The extended attribute that holds a file's media type: the one that freedesktop.org defined, which web servers and
/// downloaders use on local file systems.
pub const CONTENT_TYPE_XATTR: &str = "user.mime_type";
