//! Responses and their bodies.

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// A response's body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;
/// A response.
pub type Response = http::Response<Body>;
/// Why a body ends before its length: the connection is closed, so that nobody takes it for whole.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The connection ends with this response.
pub fn close(response: &mut Response) {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
}
