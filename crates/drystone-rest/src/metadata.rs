//! `/metadata/{path}`: attributes, and where the bytes are.

use crate::call::Call;
use crate::respond::{insert, invalid, json, with_session};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use drystone_client::{AckPolicy, ByteCount, Code, Kind, Policy, RenameOptions, SetAttributes};
use drystone_gateway::request_body::broken_off;
use drystone_gateway::time::parse_rfc3339;
use drystone_gateway::{Problem, RequestBody, Response, describe};
use http::{StatusCode, header};
use http_body_util::{BodyExt, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::collections::BTreeMap;

/// Xattrs are the largest part of a change: 64 KiB each in base64, and some more.
pub(crate) const MAX_CHANGE_BYTES: usize = 1 << 20;

const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A path as it stands in a URL.
pub fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, IN_PATH).to_string()
}

/// `GET`.
pub async fn show(call: Call) -> Result<Response, Problem> {
    let (attributes, extents) = if call.query.flag("extents")? {
        let attributes = call.client.stat(&call.path).await?;
        if attributes.kind != Kind::File {
            (attributes, Some(Vec::new()))
        } else {
            let layout = call.client.extents(&call.path).await?;
            (
                layout.attributes,
                Some(layout.extents.iter().map(describe::extent).collect::<Vec<_>>()),
            )
        }
    } else {
        (call.client.stat(&call.path).await?, None)
    };
    let mut value = describe::attributes(&attributes);
    value["path"] = call.path.clone().into();
    if let Some(target) = &attributes.link {
        value["target"] = target.clone().into();
    }
    if let Some(extents) = extents {
        value["extents"] = extents.into();
    }
    let mut response = json(StatusCode::OK, &value)?;
    if attributes.kind == Kind::File {
        insert(
            &mut response,
            header::ETAG,
            &call.client.etag(attributes.content_version()),
        );
    }
    Ok(with_session(response, &call.client))
}

/// Body of a `PUT`: what is absent stays.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(default, deserialize_with = "present")]
    mode: Option<String>,
    #[serde(default, deserialize_with = "present")]
    owner: Option<String>,
    #[serde(default, deserialize_with = "present")]
    group: Option<String>,
    #[serde(default, deserialize_with = "present")]
    modified: Option<String>,
    #[serde(default, deserialize_with = "present")]
    accessed: Option<String>,
    /// Name to base64; null removes the attribute.
    #[serde(default, deserialize_with = "present")]
    xattrs: Option<BTreeMap<String, Option<String>>>,
    /// Null: the parent's again.
    #[serde(default, deserialize_with = "nullable")]
    policy: Option<Option<PolicyChange>>,
    #[serde(default, deserialize_with = "present")]
    rename_to: Option<String>,
    #[serde(default)]
    overwrite: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyChange {
    replicas: Option<u32>,
    ack: Option<String>,
    degraded_minimum: Option<u32>,
    chunk_bytes: Option<u64>,
}

/// Absent is one thing, null another: null is refused where it means nothing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

/// `PUT`: changes attributes, or renames.
pub async fn change(call: Call, body: &mut RequestBody) -> Result<Response, Problem> {
    let precondition = call.judged().await?;
    let content = small_body(body, MAX_CHANGE_BYTES).await?;
    match Wanted::understand(&call, &content)? {
        Wanted::Rename(to, mut options) => {
            options.precondition = precondition;
            call.client.rename(&call.path, &to, options).await?;
        }
        Wanted::Attributes(mut wanted, policy) => {
            wanted.precondition = precondition;
            if let Some(policy) = policy {
                wanted.policy = Some(changed_policy(&call, policy).await?);
            }
            call.client.set_attributes(&call.path, wanted).await?;
        }
    }
    Ok(with_session(
        json(StatusCode::OK, &json!({ "path": call.path }))?,
        &call.client,
    ))
}

/// A whole body of at most `most` bytes.
///
/// # Errors
/// `too_large`, `slow_body`, `invalid` if it broke off.
pub(crate) async fn small_body(body: &mut RequestBody, most: usize) -> Result<Bytes, Problem> {
    let limited = Limited::new(&mut *body, most).collect().await;
    let content = limited.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            let detail = format!("this body has at most {most} bytes");
            Problem::new(Code::TooLarge, detail)
        } else {
            broken_off(&error, body.received())
        }
    })?;
    Ok(content.to_bytes())
}

/// What a change asks for.
pub(crate) enum Wanted {
    /// To move it.
    Rename(String, RenameOptions),
    /// To set attributes, and to change its policy.
    Attributes(SetAttributes, Option<PolicyChange>),
}

impl Wanted {
    /// # Errors
    /// What is wrong with the body or the headers.
    pub(crate) fn understand(call: &Call, body: &[u8]) -> Result<Self, Problem> {
        let change: Change = serde_json::from_slice(body)
            .map_err(|error| invalid(format!("the body is not a change: {error}")))?;
        match change.rename_to {
            Some(_) => rename(call, change),
            None => attributes(call, change),
        }
    }
}

fn rename(call: &Call, change: Change) -> Result<Wanted, Problem> {
    let is_more = change.mode.is_some()
        || change.owner.is_some()
        || change.group.is_some()
        || change.modified.is_some()
        || change.accessed.is_some()
        || change.xattrs.is_some()
        || change.policy.is_some();
    if is_more {
        return Err(invalid(
            "rename_to stands with overwrite only: change attributes in a request of its own",
        ));
    }
    let to = change.rename_to.unwrap_or_default();
    drystone_types::path::split_path(&to).map_err(|error| invalid(format!("rename_to: {error}")))?;
    let options = RenameOptions {
        overwrite: change.overwrite,
        idempotency: call.idempotency()?,
        ..RenameOptions::default()
    };
    Ok(Wanted::Rename(to, options))
}

fn attributes(call: &Call, change: Change) -> Result<Wanted, Problem> {
    if change.overwrite {
        return Err(invalid("overwrite stands with rename_to only"));
    }
    let mut wanted = SetAttributes {
        mode: change.mode.as_deref().map(parse_mode).transpose()?,
        owner: change.owner.map(|name| user("owner", name)).transpose()?,
        group: change.group.map(|name| user("group", name)).transpose()?,
        modified: change
            .modified
            .as_deref()
            .map(|text| parse_time("modified", text))
            .transpose()?,
        accessed: change
            .accessed
            .as_deref()
            .map(|text| parse_time("accessed", text))
            .transpose()?,
        idempotency: call.idempotency()?,
        ..SetAttributes::default()
    };
    for (name, value) in change.xattrs.unwrap_or_default() {
        match value {
            None => wanted.remove_xattrs.push(name),
            Some(text) => {
                let bytes = STANDARD
                    .decode(&text)
                    .map_err(|error| invalid(format!("xattr {name}: not base64: {error}")))?;
                wanted.set_xattrs.insert(name, Bytes::from(bytes));
            }
        }
    }
    wanted.inherit_policy = matches!(change.policy, Some(None));
    Ok(Wanted::Attributes(wanted, change.policy.flatten()))
}

/// The policy of the path with what the change names.
async fn changed_policy(call: &Call, change: PolicyChange) -> Result<Policy, Problem> {
    let now = call.client.stat(&call.path).await?;
    let mut policy = now.own_policy.or(now.policy).unwrap_or_default();
    if let Some(ack) = &change.ack {
        policy.ack = ack.parse::<AckPolicy>().map_err(invalid)?;
    }
    policy.replicas = change.replicas.unwrap_or(policy.replicas);
    policy.degraded_minimum = change.degraded_minimum.unwrap_or(policy.degraded_minimum);
    policy.chunk_bytes = change.chunk_bytes.map_or(policy.chunk_bytes, ByteCount);
    match policy.faults() {
        faults if faults.is_empty() => Ok(policy),
        faults => Err(invalid(faults.join("; "))),
    }
}

fn parse_mode(text: &str) -> Result<u32, Problem> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.ok_or_else(|| {
        invalid(format!(
            "mode is {text:?}, must be three or four octal digits, as 0644"
        ))
    })
}

fn user(field: &str, name: String) -> Result<String, Problem> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(invalid(format!(
            "{field} must have 1 to 255 bytes and no control characters"
        )));
    }
    Ok(name)
}

fn parse_time(field: &str, text: &str) -> Result<u64, Problem> {
    parse_rfc3339(text).ok_or_else(|| {
        invalid(format!(
            "{field} is {text:?}, must be an RFC 3339 time from 1970 on, as 2026-11-22T05:33:18Z"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_strict() {
        let parse = |text: &str| serde_json::from_str::<Change>(text);
        assert!(parse("{\"mode\": \"0644\"}").is_ok());
        assert!(parse("{\"colour\": 1}").is_err());
        assert!(parse("{\"mode\": null}").is_err());
        assert!(matches!(parse("{\"policy\": null}").unwrap().policy, Some(None)));
        assert!(parse("{}").unwrap().policy.is_none());
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0644").unwrap(), 0o644);
        assert_eq!(parse_mode("1777").unwrap(), 0o1777);
        for bad in ["", "8", "0888", "00644", "rw-"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }
}
