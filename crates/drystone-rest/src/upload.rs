//! A body on its way into a file: counted, compared with the checksums that came with it, published when it is whole.

use crate::call::Call;
use crate::respond::invalid;
use drystone_client::{Published, WriteMode, WriteOptions};
use drystone_gateway::digest::Digests;
use drystone_gateway::request_body::broken_off;
use drystone_gateway::{Problem, RequestBody};
use http::StatusCode;
use http_body_util::BodyExt;

/// What a body must be.
pub(crate) struct Expected {
    /// So many bytes, if the request says so elsewhere than in its length.
    pub(crate) length: Option<u64>,
    /// These checksums.
    pub(crate) digests: Digests,
}

impl Expected {
    /// What the headers of `call` say of a body that is published in this `mode`.
    ///
    /// # Errors
    /// A malformed header.
    pub(crate) fn of(call: &Call, mode: WriteMode, length: Option<u64>) -> Result<Self, Problem> {
        let digests = Digests::of(&call.headers, mode == WriteMode::Replace).map_err(invalid)?;
        Ok(Self { length, digests })
    }
}

/// Streams the body into the file; nothing is visible unless all of it came and is what was expected.
///
/// # Errors
/// `slow_body`, `digest_mismatch`, `invalid`, and those of a writer.
pub(crate) async fn receive(
    call: &Call,
    body: &mut RequestBody,
    options: WriteOptions,
    expected: Expected,
) -> Result<Published, Problem> {
    let Expected { length, mut digests } = expected;
    let mut writer = call.client.write(&call.path, options);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken_off(&error, body.received()))?;
        if let Ok(data) = frame.into_data() {
            if length.is_some_and(|length| body.received() > length) {
                return Err(invalid("the body is longer than Content-Range says"));
            }
            digests.update(&data);
            writer.write(data).await?;
        }
    }
    let received = body.received();
    if let Some(length) = length.filter(|length| *length != received) {
        return Err(invalid(format!(
            "the body has {received} bytes, Content-Range says {length}"
        )));
    }
    digests
        .verify()
        .map_err(|fault| Problem::named(StatusCode::BAD_REQUEST, "digest_mismatch", fault))?;
    writer.finish().await.map_err(|error| call.told(error))
}
