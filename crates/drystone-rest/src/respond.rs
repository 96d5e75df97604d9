//! Responses, and the refusal of what is malformed.

use bytes::Bytes;
use drystone_client::{Client, Code};
use drystone_gateway::response::{empty, full};
use drystone_gateway::{Problem, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// Names the log index that the client has seen, in both directions.
pub const SESSION_HEADER: &str = "drystone-session";

/// A malformed request.
pub fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid, detail)
}

/// A response with a body that is there already.
pub fn bytes(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
    let body = body.into();
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = full(body);
    response
}

/// JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value)
        .map_err(|error| Problem::new(Code::Invalid, format!("the answer cannot be written: {error}")))?;
    Ok(bytes(status, "application/json", body))
}

/// No content.
pub fn no_content() -> Response {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Sets a header; what cannot stand in a header is left out.
pub fn insert(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Tells the client what it has seen.
pub fn with_session(mut response: Response, client: &Client) -> Response {
    insert(
        &mut response,
        header::HeaderName::from_static(SESSION_HEADER),
        &client.session_token(),
    );
    response
}

/// The answer to HEAD: the same headers.
pub fn without_body(mut response: Response) -> Response {
    *response.body_mut() = empty();
    response
}
