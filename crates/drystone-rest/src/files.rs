//! `/files/{path}`: content.

use crate::call::Call;
use crate::conditions::{self, Verdict, range_counts};
use crate::respond::{insert, invalid, json, no_content, with_session};
use crate::upload::{Expected, receive};
use crate::{media_type, metadata, range};
use base64::Engine;
use drystone_client::{
    Client, DeleteOptions, Expect, FileLayout, Published, ReadOptions, Reader, WriteMode, WriteOptions,
};
use drystone_gateway::response::empty;
use drystone_gateway::time::http_date;
use drystone_gateway::{Problem, RequestBody, Response};
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame};
use serde_json::json;

/// `GET` and `HEAD`.
pub async fn read(call: Call) -> Result<Response, Problem> {
    let reader = call.client.open(&call.path, ReadOptions::default()).await?;
    let present = reader.content_version();
    let verdict = call.conditions()?.judge_read(reader.attributes());
    if verdict == Verdict::Failed {
        return Err(conditions::failed(&call.path, Some(&reader.etag())));
    }
    let mut response = Response::new(empty());
    describe(&mut response, &reader);
    if verdict == Verdict::NotModified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(with_session(response, &call.client));
    }
    let size = reader.attributes().size;
    let asked = call
        .headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let part = match asked
        .filter(|_| call.method == Method::GET && range_counts(&call.client, &call.headers, present))
    {
        Some(asked) => range::requested(asked, size)?,
        None => None,
    };
    let (offset, length) = part.map_or((0, size), |part| (part.offset, part.length));
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(
            &mut response,
            header::CONTENT_RANGE,
            &format!("bytes {offset}-{}/{size}", offset + length - 1),
        );
    }
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if call.headers.contains_key("want-repr-digest")
        && let Some(digest) = digest(&call.client, &call.path, &reader).await
    {
        insert(
            &mut response,
            header::HeaderName::from_static("repr-digest"),
            &digest,
        );
    }
    if call.method == Method::GET && length > 0 {
        *response.body_mut() = content(&reader, offset, length).await?;
    }
    Ok(with_session(response, &call.client))
}

fn describe(response: &mut Response, reader: &Reader) {
    insert(response, header::ETAG, &reader.etag());
    insert(
        response,
        header::LAST_MODIFIED,
        &http_date(reader.attributes().modified),
    );
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, media_type::of(reader.attributes()));
    // What somebody stored here is no page of this door: a browser must not run it with the door's rights.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox"),
    );
}

/// The bytes as they come. The first of them are here, and verified, before a status is sent: what cannot be read at
/// all is a problem with its own status. An error in the middle cuts the connection: the client sees that the body
/// is short.
async fn content(reader: &Reader, offset: u64, length: u64) -> Result<drystone_gateway::Body, Problem> {
    let mut pieces = Box::pin(reader.read(offset, length));
    let first = pieces.next().await.transpose()?;
    let first = futures_util::stream::iter(first.map(|bytes| Ok(Frame::data(bytes))));
    let rest = pieces.map(|piece| match piece {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(error) => {
            tracing::warn!(%error, "a read failed after its answer had begun");
            Err(Box::new(error) as drystone_gateway::response::BodyError)
        }
    });
    Ok(StreamBody::new(first.chain(rest)).boxed_unsync())
}

/// `crc32c=:...:` of the whole content, from the checksums of its chunks; `None` where that cannot be said (parts of
/// chunks, content in the namespace).
async fn digest(client: &Client, path: &str, reader: &Reader) -> Option<String> {
    let layout: FileLayout = client.extents(path).await.ok()?;
    if layout.attributes.content_version() != reader.content_version() || layout.inline {
        return None;
    }
    let mut sum = 0;
    for extent in &layout.extents {
        if extent.chunk_offset != 0 || extent.length != extent.chunk_length {
            return None;
        }
        sum = crc32c::crc32c_combine(sum, extent.checksum, extent.length as usize);
    }
    Some(format!(
        "crc32c=:{}:",
        base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes())
    ))
}

/// `PUT`: create or replace, or write a range.
pub async fn replace(call: Call, body: &mut RequestBody) -> Result<Response, Problem> {
    let length = body.size_hint().exact();
    let (mut options, expected) = replacement(&call, length)?;
    call.look(&mut options, length).await?;
    finish(&call, receive(&call, body, options, expected).await?)
}

/// What a `PUT` with a body of so many bytes (if that is known) asks for, and how many there must be.
pub(crate) fn replacement(call: &Call, body: Option<u64>) -> Result<(WriteOptions, Expected), Problem> {
    let mut options = options(call, body)?;
    let Some(value) = call.headers.get(header::CONTENT_RANGE) else {
        let expected = Expected::of(call, options.mode, None)?;
        return Ok((options, expected));
    };
    let text = value
        .to_str()
        .map_err(|_| invalid("Content-Range is not printable ASCII"))?;
    let part = range::written(text)?;
    if body.is_some_and(|length| length != part.length) {
        return Err(invalid(format!(
            "Content-Range names {} bytes, Content-Length another number",
            part.length
        )));
    }
    options.mode = WriteMode::Range(part.offset);
    options.attributes = media_type::changed(&call.headers, options.mode)?;
    options.size_hint = Some(part.length);
    let expected = Expected::of(call, options.mode, Some(part.length))?;
    Ok((options, expected))
}

/// `POST`: create, or append a record.
pub async fn create(call: Call, body: &mut RequestBody) -> Result<Response, Problem> {
    let length = body.size_hint().exact();
    let mut options = creation(&call, length)?;
    let expected = Expected::of(&call, options.mode, None)?;
    call.look(&mut options, length).await?;
    finish(&call, receive(&call, body, options, expected).await?)
}

/// What a `POST` asks for.
pub(crate) fn creation(call: &Call, body: Option<u64>) -> Result<WriteOptions, Problem> {
    let mut options = options(call, body)?;
    if call.query.flag("append")? {
        options.mode = WriteMode::Append;
        options.attributes = media_type::changed(&call.headers, options.mode)?;
    } else {
        options.precondition.absent = true;
    }
    Ok(options)
}

/// `DELETE`.
pub async fn delete(call: Call) -> Result<Response, Problem> {
    let options = DeleteOptions {
        expect: Expect::File,
        precondition: call.judged().await?,
        idempotency: call.idempotency()?,
        ..DeleteOptions::default()
    };
    call.client.delete(&call.path, options).await?;
    Ok(with_session(no_content(), &call.client))
}

fn options(call: &Call, body: Option<u64>) -> Result<WriteOptions, Problem> {
    if call.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(invalid(
            "Content-Encoding is not supported: send the bytes as they shall be stored",
        ));
    }
    Ok(WriteOptions {
        precondition: call.conditions()?.precondition(),
        parents: call.query.flag("parents")?,
        idempotency: call.idempotency()?,
        size_hint: body,
        attributes: media_type::changed(&call.headers, WriteMode::Replace)?,
        ..WriteOptions::default()
    })
}

fn finish(call: &Call, published: Published) -> Result<Response, Problem> {
    let status = if published.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let value = json!({
        "path": call.path,
        "inode": published.inode.0,
        "version": published.version.0,
        "size": published.size,
        "offset": published.offset,
        "redundancy": published.redundancy,
    });
    let mut response = json(status, &value)?;
    insert(&mut response, header::ETAG, &published.etag);
    if published.created {
        insert(
            &mut response,
            header::LOCATION,
            &format!("/files{}", metadata::encode_path(&call.path)),
        );
    }
    Ok(with_session(response, &call.client))
}
