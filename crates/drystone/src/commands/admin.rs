//! `drystone admin`: the cluster at a glance, and operators' decisions.

use super::Context;
use crate::args::{AdminCommand, RaftCommand};
use anyhow::{Context as _, bail};
use drystone_client::admin::{
    AdminOp, AdminReply, ClusterInfo, ClusterStatus, Empty, RaftReplace, ServerStatus, UpdateNode,
};
use serde_json::{Value, json};

/// Runs one of them.
pub async fn run(context: &Context, command: &AdminCommand) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        AdminCommand::Status => print_status(context, &client.status().await?),
        AdminCommand::Servers { release: None } => print_servers(context, &client.status().await?),
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
                println!(
                    "node {node} is not fenced (any more); its process comes back when it is started again"
                );
            }
        }
        AdminCommand::Raft(RaftCommand::Status) => {
            print_members(context, client.admin(AdminOp::Raft(Empty {})).await?)?
        }
        AdminCommand::Raft(RaftCommand::Replace { old, new }) => {
            let op = AdminOp::RaftReplace(RaftReplace { old: *old, new: *new });
            print_members(context, client.admin(op).await?)?;
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
                println!("node {node} takes no new data; moving what it has comes with repair");
            }
        }
        AdminCommand::Chunk { chunk } => {
            let reply = client.admin(AdminOp::Chunk(*chunk)).await?;
            println!(
                "{:#?}",
                reply.chunk.context("the leader answered without the chunk")?
            );
        }
        AdminCommand::Repair {
            release_sweep: Some(node),
        } => {
            client.admin(AdminOp::ReleaseSweep(*node)).await?;
            if !context.quiet {
                println!("node {node}: everything that nothing refers to is deleted now");
            }
        }
        AdminCommand::Repair { release_sweep: None }
        | AdminCommand::Scrub
        | AdminCommand::Rebalance
        | AdminCommand::Fsck
        | AdminCommand::Backup => bail!("not built yet"),
        AdminCommand::ReleaseDeletion => {
            client.admin(AdminOp::ReleaseDeletion(Empty {})).await?;
            if !context.quiet {
                println!("replicas that the restored namespace does not need are deleted from now on");
            }
        }
        // They work on directories, without a cluster.
        AdminCommand::Recover { .. } | AdminCommand::Adopt { .. } => {}
    }
    Ok(())
}

fn server(server: &ServerStatus) -> Value {
    let node = server.node.clone().unwrap_or_default();
    let sum = |of: fn(&drystone_client::admin::DiskLoad) -> u64| server.disks.iter().map(of).sum::<u64>();
    json!({
        "name": node.name,
        "node": node.id,
        "state": server.state,
        "rack": node.rack,
        "address": node.address,
        "used_bytes": sum(|disk| disk.used_bytes),
        "free_bytes": sum(|disk| disk.free_bytes),
        "chunks": sum(|disk| disk.chunks),
        "io_errors": sum(|disk| u64::from(disk.io_errors)),
        "checksum_errors": sum(|disk| u64::from(disk.checksum_errors)),
        "last_heartbeat_ms": (server.last_heartbeat_ms != u64::MAX).then_some(server.last_heartbeat_ms),
    })
}

fn print_status(context: &Context, status: &ClusterStatus) {
    if context.json {
        let value = json!({
            "leader": status.leader_name,
            "leader_node": status.leader,
            "term": status.term,
            "servers": status.servers.iter().map(server).collect::<Vec<_>>(),
            "chunks": {
                "total": status.chunks_total,
                "under_redundant": status.chunks_under_redundant,
                "lost": status.chunks_lost,
                "doomed": status.chunks_doomed,
            },
            "exposure_bytes": status.exposure_bytes,
            "repair": { "queued": 0, "bytes_per_second": 0, "eta_seconds": null },
            "files": status.files,
            "directories": status.directories,
            "file_bytes": status.file_bytes,
            "damage_reports": status.damage_reports,
            "grant_floor": status.grant_floor,
            "applied": status.applied,
            "warnings": status.warnings,
        });
        println!("{value}");
        return;
    }
    println!(
        "exposure    {} bytes are lost if one more disk fails (repair is not built yet)",
        status.exposure_bytes
    );
    println!(
        "chunks      {} in all, {} under-redundant, {} lost, {} being deleted",
        status.chunks_total, status.chunks_under_redundant, status.chunks_lost, status.chunks_doomed
    );
    println!(
        "files       {} in {} directories, {} bytes",
        status.files, status.directories, status.file_bytes
    );
    println!(
        "leader      {} (node {}, term {})",
        status.leader_name, status.leader, status.term
    );
    let alive = status.members.iter().filter(|member| member.alive).count();
    println!("metadata    {alive} of {} servers alive", status.members.len());
    if status.damage_reports > 0 {
        println!(
            "damage      {} reports from readers since this leader took office",
            status.damage_reports
        );
    }
    for warning in &status.warnings {
        println!("warning     {warning}");
    }
    print_servers(context, status);
}

fn print_servers(context: &Context, status: &ClusterStatus) {
    if context.json {
        println!(
            "{}",
            Value::from(status.servers.iter().map(server).collect::<Vec<_>>())
        );
        return;
    }
    println!(
        "{:<14} {:>6} {:<10} {:<10} {:>8} {:>14} {:>14}  last heartbeat",
        "server", "node", "state", "rack", "chunks", "used", "free"
    );
    for one in &status.servers {
        let value = server(one);
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let last = value["last_heartbeat_ms"]
            .as_u64()
            .map_or("none to this leader".to_owned(), |ms| format!("{ms} ms ago"));
        println!(
            "{:<14} {:>6} {:<10} {:<10} {:>8} {:>14} {:>14}  {last}",
            text("name"),
            value["node"],
            text("state"),
            text("rack"),
            value["chunks"],
            value["used_bytes"],
            value["free_bytes"]
        );
        for disk in one.disks.iter().filter(|disk| disk.read_only) {
            println!("  disk {} takes no writes: {}", disk.disk, disk.reason);
        }
    }
}

fn print_members(context: &Context, reply: AdminReply) -> anyhow::Result<()> {
    let info: ClusterInfo = reply.info.context("the leader answered without the members")?;
    if context.json {
        let members: Vec<Value> = info
            .members
            .iter()
            .map(|member| {
                json!({
                    "node": member.node,
                    "name": member.name,
                    "address": member.address,
                    "voter": member.voter,
                    "alive": member.alive,
                    "fenced": member.fenced,
                    "matched": member.matched,
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "leader": info.leader, "term": info.term, "applied": info.applied, "members": members })
        );
        return Ok(());
    }
    println!("term {}, applied {}", info.term, info.applied);
    for member in &info.members {
        println!(
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
        );
    }
    Ok(())
}
