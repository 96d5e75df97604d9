//! The cluster at a glance: for people with units, for programs as plain numbers, for monitoring as an exit code.

use super::super::Context;
use crate::exit::{Exit, Printed};
use crate::output::{Lines, OutputError, bytes, line};
use drystone_client::admin::ClusterStatus;
use drystone_gateway::health::{self, Condition, condition};
use serde_json::Value;

/// What `admin status --check` says by its exit code.
fn exit(condition: Condition) -> Option<Exit> {
    match condition {
        Condition::Well => None,
        Condition::Unknown => Some(Exit::CheckUnknown),
        Condition::Reduced => Some(Exit::CheckReduced),
        Condition::Refused => Some(Exit::CheckRefused),
        Condition::Lost => Some(Exit::CheckLost),
    }
}

/// `drystone admin status`.
///
/// # Errors
/// With `check`: [`Printed`], unless everything is well.
pub fn show(context: &Context, status: &ClusterStatus, check: bool) -> anyhow::Result<()> {
    if context.json {
        line(health::status(status))?;
    } else if !(context.quiet && check) {
        print(status)?;
    }
    match exit(condition(status)).filter(|_| check) {
        Some(exit) => Err(Printed(exit).into()),
        None => Ok(()),
    }
}

/// What stands for a number that a new leader does not know yet.
fn unknown() -> String {
    "unknown".to_owned()
}

fn or_unknown(count: Option<u64>) -> String {
    count.map_or_else(unknown, |count| count.to_string())
}

fn print(status: &ClusterStatus) -> Result<(), OutputError> {
    let mut out = Lines::new();
    let summary = match condition(status) {
        Condition::Well => "well",
        Condition::Unknown => "not known yet: the leader has not heard from every chunk server",
        Condition::Reduced => "reduced: less redundancy than there should be",
        Condition::Refused => "NEW DATA IS REFUSED, some or all",
        Condition::Lost => {
            "DATA CANNOT BE READ: no server that answers has it (`drystone admin lost` lists the files)"
        }
    };
    out.line(format_args!("condition   {summary}"))?;
    if !status.writes_refused.is_empty() {
        out.line(format_args!("refused     {}", status.writes_refused))?;
    }
    out.line(format_args!(
        "exposure    {} are lost if one more disk fails (repair is not built yet)",
        status.exposure_bytes.map_or_else(unknown, bytes)
    ))?;
    out.line(format_args!(
        "chunks      {} in all, {} under-redundant, {} lost, {} being deleted",
        status.chunks_total,
        or_unknown(status.chunks_under_redundant),
        or_unknown(status.chunks_lost),
        status.chunks_doomed
    ))?;
    out.line(format_args!(
        "files       {} in {} directories, {}",
        status.files,
        status.directories,
        bytes(status.file_bytes)
    ))?;
    out.line(format_args!(
        "leader      {} (node {}, term {})",
        status.leader_name, status.leader, status.term
    ))?;
    let alive = status.members.iter().filter(|member| member.alive).count();
    out.line(format_args!(
        "metadata    {alive} of {} servers alive",
        status.members.len()
    ))?;
    out.line(format_args!(
        "ids         up to {}: a new node takes a higher one",
        status.highest_node
    ))?;
    if status.damage_reports > 0 {
        out.line(format_args!(
            "damage      {} reports from readers since this leader took office",
            status.damage_reports
        ))?;
    }
    for warning in &status.warnings {
        out.line(format_args!("warning     {warning}"))?;
    }
    print_servers(&mut out, status)?;
    out.finish()
}

/// `drystone admin servers`.
pub fn servers(context: &Context, status: &ClusterStatus) -> Result<(), OutputError> {
    if context.json {
        return line(Value::from(
            status.servers.iter().map(health::server).collect::<Vec<_>>(),
        ));
    }
    let mut out = Lines::new();
    print_servers(&mut out, status)?;
    out.finish()
}

fn print_servers(out: &mut Lines, status: &ClusterStatus) -> Result<(), OutputError> {
    out.line(format_args!(
        "{:<14} {:>6} {:<10} {:<10} {:>8} {:>10} {:>10}  last heartbeat",
        "server", "node", "state", "rack", "chunks", "used", "free"
    ))?;
    for one in &status.servers {
        let value = health::server(one);
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let size = |key: &str| bytes(value[key].as_u64().unwrap_or_default());
        let last = value["last_heartbeat_ms"]
            .as_u64()
            .map_or("none to this leader".to_owned(), |ms| format!("{ms} ms ago"));
        // Without a heartbeat nothing is known of its disks.
        let (chunks, used, free) = match one.disks.is_empty() {
            true => ("?".to_owned(), "?".to_owned(), "?".to_owned()),
            false => (
                value["chunks"].to_string(),
                size("used_bytes"),
                size("free_bytes"),
            ),
        };
        out.line(format_args!(
            "{:<14} {:>6} {:<10} {:<10} {chunks:>8} {used:>10} {free:>10}  {last}",
            text("name"),
            value["node"],
            text("state"),
            text("rack"),
        ))?;
        for disk in one.disks.iter().filter(|disk| disk.read_only) {
            out.line(format_args!(
                "  disk {} takes no writes: {}",
                disk.disk, disk.reason
            ))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_leader_does_not_know_yet_is_unknown() {
        assert_eq!(or_unknown(None), "unknown");
        assert_eq!(or_unknown(Some(0)), "0");
    }
}
