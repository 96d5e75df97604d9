//! `drystone admin`: the cluster at a glance, and operators' decisions.

mod chunk;
mod lost;
mod remove;
mod status;

use super::Context;
use crate::args::{AdminCommand, RaftCommand};
use crate::output::{Lines, line};
use anyhow::Context as _;
use drystone_client::admin::{AdminOp, AdminReply, ClusterInfo, Empty, RaftReplace, UpdateNode};
use drystone_gateway::health;
use serde_json::{Value, json};

/// Runs one of them.
pub async fn run(context: &Context, command: &AdminCommand) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        AdminCommand::Status { check } => status::show(context, &client.status().await?, *check)?,
        AdminCommand::Lost => lost::run(context).await?,
        AdminCommand::Servers {
            remove: Some(node),
            force,
            ..
        } => remove::run(context, *node, *force).await?,
        AdminCommand::Servers { release: None, .. } => status::servers(context, &client.status().await?)?,
        AdminCommand::Servers {
            release: Some(node), ..
        } => {
            let update = UpdateNode {
                node: *node,
                fenced: Some(false),
                ..UpdateNode::default()
            };
            client.admin(AdminOp::UpdateNode(update)).await?;
            if !context.quiet {
                line(format_args!(
                    "node {node} is not fenced (any more); its process comes back if it waits for that, or when it is started \
                     again"
                ))?;
            }
        }
        AdminCommand::Raft(RaftCommand::Status) => {
            print_members(context, client.admin(AdminOp::Raft(Empty {})).await?)?
        }
        AdminCommand::Raft(RaftCommand::Replace { old, new }) => {
            let op = AdminOp::RaftReplace(RaftReplace { old: *old, new: *new });
            print_members(context, client.admin(op).await?)?;
        }
        AdminCommand::Raft(RaftCommand::Remove { node }) => {
            print_members(context, client.admin(AdminOp::RemoveLearner(*node)).await?)?;
        }
        AdminCommand::Raft(RaftCommand::Transfer { node }) => {
            print_members(context, client.admin(AdminOp::TransferLeader(*node)).await?)?;
        }
        AdminCommand::Drain { node, undo } => {
            let update = UpdateNode {
                node: *node,
                draining: Some(!undo),
                ..UpdateNode::default()
            };
            client.admin(AdminOp::UpdateNode(update)).await?;
            if !undo && !context.quiet {
                line(format_args!(
                    "node {node} takes no new data; moving what it has comes with repair"
                ))?;
            }
        }
        AdminCommand::Chunk { chunk } => {
            let reply = client.admin(AdminOp::Chunk(*chunk)).await?;
            let record = reply.chunk.context("the leader answered without the chunk")?;
            chunk::show(context, &record)?;
        }
        AdminCommand::ReleaseSweep { node } => {
            client.admin(AdminOp::ReleaseSweep(*node)).await?;
            if !context.quiet {
                line(format_args!(
                    "node {node}: everything that nothing refers to is deleted now"
                ))?;
            }
        }
        AdminCommand::ReleaseDeletion => {
            client.admin(AdminOp::ReleaseDeletion(Empty {})).await?;
            if !context.quiet {
                line("replicas that the restored namespace does not need are deleted from now on")?;
            }
        }
        // They work on directories, without a cluster.
        AdminCommand::Recover { .. } | AdminCommand::Adopt { .. } => {}
    }
    Ok(())
}

fn print_members(context: &Context, reply: AdminReply) -> anyhow::Result<()> {
    let info: ClusterInfo = reply.info.context("the leader answered without the members")?;
    if context.json {
        let members: Vec<Value> = info.members.iter().map(health::member).collect();
        let value =
            json!({ "leader": info.leader, "term": info.term, "applied": info.applied, "members": members });
        return Ok(line(value)?);
    }
    let mut out = Lines::new();
    out.line(format_args!("term {}, applied {}", info.term, info.applied))?;
    for member in &info.members {
        out.line(format_args!(
            "{:>6} {:<14} {:<21} {:<8} {:<7} synced to {}{}{}",
            member.node,
            member.name,
            member.address,
            if member.voter { "voter" } else { "learner" },
            if member.alive { "alive" } else { "silent" },
            member.matched,
            if member.node == info.leader {
                "  (leader)"
            } else {
                ""
            },
            if member.fenced { "  (fenced)" } else { "" }
        ))?;
    }
    Ok(out.finish()?)
}
