//! `drystone admin servers --remove`: takes a chunk server out of the cluster for good.

use super::Context;
use crate::output::line;
use anyhow::Context as _;
use drystone_client::admin::{AdminOp, RemoveServer};
use drystone_types::ByteCount;
use serde_json::json;

/// Removes `node`, and says what went with it.
pub async fn run(context: &Context, node: u64, force: bool) -> anyhow::Result<()> {
    let op = AdminOp::RemoveServer(RemoveServer { node, force });
    let reply = context.client.admin(op).await?;
    let removed = reply
        .removed
        .context("the leader answered without what was removed")?;
    if context.json {
        line(json!({
            "node": node,
            "replicas": removed.replicas,
            "lost_chunks": removed.lost_chunks,
            "lost_bytes": removed.lost_bytes,
        }))?;
        return Ok(());
    }
    if context.quiet {
        return Ok(());
    }
    line(format_args!(
        "node {node} is removed; {} chunks have one replica less",
        removed.replicas
    ))?;
    if removed.lost_chunks > 0 {
        line(format_args!(
            "{} chunks with {} are lost: `drystone admin lost` names their files",
            removed.lost_chunks,
            ByteCount(removed.lost_bytes)
        ))?;
    }
    Ok(())
}
