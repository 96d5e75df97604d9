//! Attributes and extents as JSON, the same at every door.

use crate::time::rfc3339;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drystone_client::{Attributes, ExtentInfo, Kind, Policy};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Attributes: the values of xattrs in base64, times as RFC 3339, the policy that counts (for a directory without
/// one that is passed on: its own).
pub fn attributes(attributes: &Attributes) -> Value {
    let xattrs: BTreeMap<&String, String> = attributes
        .xattrs
        .iter()
        .map(|(name, value)| (name, STANDARD.encode(value)))
        .collect();
    json!({
        "inode": attributes.inode.0,
        "kind": kind(attributes.kind),
        "size": attributes.size,
        "mode": format!("{:04o}", attributes.mode),
        "owner": attributes.owner,
        "group": attributes.group,
        "created": rfc3339(attributes.created),
        "modified": rfc3339(attributes.modified),
        "accessed": rfc3339(attributes.accessed),
        "changed": rfc3339(attributes.changed),
        "version": attributes.version.0,
        "policy": attributes.policy.or(attributes.own_policy).map(|it| policy(&it)),
        "xattrs": xattrs,
    })
}

/// The kind in words.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::SymbolicLink => "symbolic_link",
    }
}

/// A policy.
pub fn policy(policy: &Policy) -> Value {
    json!({
        "replicas": policy.replicas,
        "ack": policy.ack.to_string(),
        "degraded_minimum": policy.degraded_minimum,
        "chunk_bytes": policy.chunk_bytes.0,
    })
}

/// An extent with its replicas.
pub fn extent(extent: &ExtentInfo) -> Value {
    let replicas: Vec<Value> = extent
        .replicas
        .iter()
        .map(|replica| json!({ "server": replica.server, "disk": replica.disk, "rack": replica.rack }))
        .collect();
    json!({
        "offset": extent.offset,
        "length": extent.length,
        "chunk": extent.chunk,
        "chunk_offset": extent.chunk_offset,
        "state": extent.state,
        "replicas": replicas,
    })
}
