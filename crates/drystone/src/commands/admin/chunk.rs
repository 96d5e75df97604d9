//! One chunk's record.

use super::super::Context;
use crate::output::{Lines, OutputError, bytes, line};
use drystone_client::admin::ChunkRecord;
use serde_json::json;

/// `drystone admin chunk`.
pub fn show(context: &Context, chunk: &ChunkRecord) -> Result<(), OutputError> {
    let word = |state: &dyn std::fmt::Debug| format!("{state:?}").to_lowercase();
    let state = word(&chunk.state());
    if context.json {
        let replicas: Vec<_> = (chunk.replicas.iter())
            .map(|replica| {
                json!({
                    "disk": replica.disk,
                    "incarnation": format!("{:016x}", replica.incarnation),
                    "placement": replica.placement,
                    "state": word(&replica.state()),
                })
            })
            .collect();
        return line(json!({
            "chunk": chunk.id,
            "state": state,
            "length": chunk.length,
            "crc32c": format!("{:08x}", chunk.checksum),
            "epoch": chunk.epoch,
            "policy": chunk.policy.as_ref().map(|policy| json!({ "replicas": policy.replicas })),
            "replicas": replicas,
        }));
    }
    let mut out = Lines::new();
    out.line(format_args!(
        "chunk     {} ({state}, epoch {})",
        chunk.id, chunk.epoch
    ))?;
    out.line(format_args!(
        "length    {} ({} bytes), CRC32C {:08x}",
        bytes(chunk.length),
        chunk.length,
        chunk.checksum
    ))?;
    for replica in &chunk.replicas {
        out.line(format_args!(
            "replica   disk {}/{:016x}, placed at {}, {}",
            replica.disk,
            replica.incarnation,
            replica.placement,
            word(&replica.state())
        ))?;
    }
    out.finish()
}
