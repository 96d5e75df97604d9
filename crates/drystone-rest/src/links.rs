//! `/links/{path}`: symbolic links. The cluster keeps what a link points to and never follows it; a path that leads
//! through one is refused. Listed and renamed they are as files are, and deleted by `DELETE /files/{path}`.

use crate::call::Call;
use crate::metadata::{self, MAX_CHANGE_BYTES};
use crate::respond::{insert, invalid, json, with_session};
use drystone_client::{Code, Error, ErrorKind, MakeSymbolicLinkOptions};
use drystone_gateway::{Problem, RequestBody, Response};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

/// Body of a `POST` or `PUT`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    target: String,
}

/// `GET`: what it points to.
pub async fn read(call: Call) -> Result<Response, Problem> {
    let attributes = call.client.stat(&call.path).await?;
    let Some(target) = attributes.link else {
        let detail = format!("{} is no symbolic link", call.path);
        return Err(Problem::new(Code::Invalid, detail));
    };
    let value = json!({ "path": call.path, "target": target });
    Ok(with_session(json(StatusCode::OK, &value)?, &call.client))
}

/// `POST`: makes one; `PUT`: makes one in the place of a file or link.
pub async fn make(call: Call, body: &mut RequestBody) -> Result<Response, Problem> {
    let mut options = MakeSymbolicLinkOptions {
        overwrite: call.method == Method::PUT,
        parents: call.query.flag("parents")?,
        idempotency: call.idempotency()?,
        ..MakeSymbolicLinkOptions::default()
    };
    if call.path == "/" {
        return Err(Error::new(ErrorKind::IsADirectory, "make symbolic link", "/").into());
    }
    options.precondition = call.judged_new().await?;
    let body = metadata::small_body(body, MAX_CHANGE_BYTES).await?;
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body is not {{\"target\": TEXT}}: {error}")))?;
    let made = call
        .client
        .make_symbolic_link(&call.path, &wanted.target, options)
        .await;
    made.map_err(|error| call.told(error))?;
    let value = json!({ "path": call.path, "target": wanted.target });
    let mut response = json(StatusCode::CREATED, &value)?;
    insert(
        &mut response,
        header::LOCATION,
        &format!("/links{}", metadata::encode_path(&call.path)),
    );
    Ok(with_session(response, &call.client))
}
