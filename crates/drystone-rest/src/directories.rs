//! `/directories/{path}`: names.

use crate::call::{Call, Query};
use crate::metadata;
use crate::respond::{insert, invalid, json, no_content, with_session};
use drystone_client::{Code, DeleteOptions, Expect, MakeDirectoryOptions};
use drystone_gateway::{Problem, Response, describe};
use http::{StatusCode, header};
use serde_json::{Value, json};

const DEFAULT_LIMIT: u32 = 1000;
const MAX_LIMIT: u32 = 10_000;

/// Names on one page.
pub(crate) fn limit(query: &Query) -> Result<u32, Problem> {
    let Some(text) = query.get("limit") else {
        return Ok(DEFAULT_LIMIT);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| invalid(format!("limit is {text:?}, must be 1 to {MAX_LIMIT}")))
}

/// `GET`.
pub async fn list(call: Call) -> Result<Response, Problem> {
    let limit = limit(&call.query)?;
    let after = call.query.get("after").unwrap_or_default();
    let page = call.client.list(&call.path, after, limit).await?;
    let entries: Vec<Value> = page
        .entries
        .iter()
        .map(|entry| {
            let mut value = describe::attributes(&entry.attributes);
            value["name"] = entry.name.clone().into();
            value
        })
        .collect();
    let response = json(StatusCode::OK, &json!({ "entries": entries, "next": page.next }))?;
    Ok(with_session(response, &call.client))
}

/// `POST`.
pub async fn create(call: Call) -> Result<Response, Problem> {
    let options = MakeDirectoryOptions {
        parents: call.query.flag("parents")?,
        mode: None,
        idempotency: call.idempotency()?,
    };
    let created = call.client.make_directory(&call.path, options).await?;
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = json(status, &json!({ "path": call.path, "created": created }))?;
    if created {
        insert(
            &mut response,
            header::LOCATION,
            &format!("/directories{}", metadata::encode_path(&call.path)),
        );
    }
    Ok(with_session(response, &call.client))
}

/// `DELETE`.
pub async fn delete(call: Call) -> Result<Response, Problem> {
    if call.path == "/" {
        return Err(Problem::new(Code::Denied, "the root directory cannot be deleted"));
    }
    let options = DeleteOptions {
        recursive: call.query.flag("recursive")?,
        expect: Expect::Directory,
        precondition: call.judged().await?,
        idempotency: call.idempotency()?,
    };
    call.client.delete(&call.path, options).await?;
    Ok(with_session(no_content(), &call.client))
}
