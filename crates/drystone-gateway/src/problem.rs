//! Errors as RFC 9457 problem documents with a stable `code`.

use crate::response::{Response, empty, full};
use drystone_client::Error;
use drystone_types::Code;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// Codes that are a door's own, beside those of [`Code`]: a body that comes too slowly (408), a body without the
/// checksum that was named (400), a head that is too large (431), a host for which the door does not answer (421), a
/// change that a web page of another origin asks for (403).
pub const DOOR_CODES: [&str; 5] = [
    "slow_body",
    "digest_mismatch",
    "head_too_large",
    "wrong_host",
    "cross_origin",
];

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: String,
    /// The status as a number.
    pub status: u16,
    /// Stable name of the problem.
    pub code: &'static str,
    /// What was wrong, where, and what to do.
    pub detail: String,
    /// Seconds after which to come back, for the `Retry-After` header; not in the document.
    #[serde(skip)]
    pub retry_after_seconds: Option<u64>,
    /// Length of the file, for `Content-Range` of a range that lies outside it; not in the document.
    #[serde(skip)]
    pub length: Option<u64>,
}

impl Problem {
    /// The problem with this code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::with_status(status(code), code, detail)
    }

    /// The same code under another status (405 and 411 are `invalid` too).
    pub fn with_status(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            code: public(code).name(),
            detail: detail.into(),
            retry_after_seconds: matches!(code, Code::Busy | Code::Unavailable | Code::NotEnoughDomains)
                .then_some(1),
            length: None,
        }
    }

    /// A problem that doors alone have, under a code of their own.
    pub fn named(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        debug_assert!(DOOR_CODES.contains(&code), "{code} is not documented");
        Self {
            code,
            ..Self::with_status(status, Code::Invalid, detail)
        }
    }

    /// The response that tells it.
    pub fn response(&self) -> Response {
        let mut response = Response::new(empty());
        *response.status_mut() = self.status();
        let body = serde_json::to_vec(self).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(length) = self.length
            && let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}"))
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.body_mut() = full(body);
        response
    }

    /// The status as HTTP knows it.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = match error.context() {
            "" => format!("{}: {}", error.operation(), error.kind()),
            context => format!("{}: {context}", error.operation()),
        };
        Self::new(error.code(), detail)
    }
}

/// Codes that only servers say to each other are told as what they mean to a user.
fn public(code: Code) -> Code {
    match code {
        Code::Stranger | Code::NotLeader | Code::GrantExpired | Code::Fenced | Code::InlineRefused => {
            Code::Unavailable
        }
        Code::SessionUnknown => Code::Unknown,
        Code::Conflict | Code::PolicyDiffers => Code::Changed,
        other => other,
    }
}

/// The status of a code.
pub fn status(code: Code) -> StatusCode {
    match public(code) {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Exists
        | Code::NotEmpty
        | Code::IsADirectory
        | Code::NotADirectory
        | Code::IsALink
        | Code::Changed => StatusCode::CONFLICT,
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::Range => StatusCode::RANGE_NOT_SATISFIABLE,
        Code::Denied => StatusCode::FORBIDDEN,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Busy => StatusCode::TOO_MANY_REQUESTS,
        Code::NotEnoughDomains | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown => StatusCode::GATEWAY_TIMEOUT,
        Code::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        Code::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
        Code::NotSupported => StatusCode::NOT_IMPLEMENTED,
        // `public` leaves none of the others.
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_documented_status() {
        let table = [
            (Code::NotFound, 404),
            (Code::Exists, 409),
            (Code::NotEmpty, 409),
            (Code::IsADirectory, 409),
            (Code::NotADirectory, 409),
            (Code::IsALink, 409),
            (Code::PolicyDiffers, 409),
            (Code::Changed, 409),
            (Code::PreconditionFailed, 412),
            (Code::Invalid, 400),
            (Code::Range, 416),
            (Code::Denied, 403),
            (Code::TooLarge, 413),
            (Code::IdempotencyKeyReused, 422),
            (Code::Busy, 429),
            (Code::Unavailable, 503),
            (Code::NotEnoughDomains, 503),
            (Code::Unknown, 504),
            (Code::NoSpace, 507),
            (Code::Corrupt, 500),
            (Code::NotSupported, 501),
            (Code::Stranger, 503),
            (Code::NotLeader, 503),
            (Code::GrantExpired, 503),
            (Code::Fenced, 503),
            (Code::InlineRefused, 503),
            (Code::SessionUnknown, 504),
            (Code::Conflict, 409),
        ];
        for &code in Code::ALL {
            let expected = table
                .iter()
                .find(|(of, _)| *of == code)
                .map(|(_, status)| *status);
            assert_eq!(Some(status(code).as_u16()), expected, "{code}");
        }
    }
}
