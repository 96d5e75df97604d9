//! The cluster at a glance: for people with units, for programs as plain numbers, for monitoring as an exit code.

use super::super::Context;
use crate::exit::{Exit, Printed};
use crate::output::{Lines, OutputError, bytes, line};
use drystone_client::admin::{ClusterStatus, DiskLoad, ServerStatus};
use serde_json::{Value, json};

/// What `admin status --check` says by its exit code, the least serious first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Condition {
    /// 0: everything is as it should be.
    Well,
    /// 13: the leader does not know yet: it was elected, or servers came back, a moment ago.
    Unknown,
    /// 12: nothing is lost and writes go on, but there is less redundancy than there should be.
    Reduced,
    /// 11: new data is refused.
    Refused,
    /// 10: data has no replica that can be read.
    Lost,
}

impl Condition {
    fn exit(self) -> Option<Exit> {
        match self {
            Self::Well => None,
            Self::Unknown => Some(Exit::CheckUnknown),
            Self::Reduced => Some(Exit::CheckReduced),
            Self::Refused => Some(Exit::CheckRefused),
            Self::Lost => Some(Exit::CheckLost),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unknown => "unknown",
            Self::Reduced => "reduced",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

fn condition(status: &ClusterStatus) -> Condition {
    // Once the leader knows its figures, a server that it has not heard from is away.
    let is_known = status.chunks_lost.is_some();
    let is_away = |server: &ServerStatus| match server.state.as_str() {
        "alive" | "draining" => false,
        "unknown" => is_known,
        _ => true,
    };
    let is_broken = |disk: &DiskLoad| disk.read_only;
    let servers = &status.servers;
    let some = |count: Option<u64>| count.is_some_and(|count| count > 0);
    if some(status.chunks_lost) {
        Condition::Lost
    } else if !status.writes_refused.is_empty() {
        Condition::Refused
    } else if some(status.chunks_under_redundant)
        || status.members.iter().any(|member| !member.alive)
        || servers.iter().any(is_away)
        || servers.iter().flat_map(|server| &server.disks).any(is_broken)
    {
        Condition::Reduced
    } else if !is_known {
        Condition::Unknown
    } else {
        Condition::Well
    }
}

/// `drystone admin status`.
///
/// # Errors
/// With `check`: [`Printed`], unless everything is well.
pub fn show(context: &Context, status: &ClusterStatus, check: bool) -> anyhow::Result<()> {
    if context.json {
        line(in_json(status))?;
    } else if !context.quiet {
        print(status)?;
    }
    match condition(status).exit().filter(|_| check) {
        Some(exit) => Err(Printed(exit).into()),
        None => Ok(()),
    }
}

fn server(server: &ServerStatus) -> Value {
    let node = server.node.clone().unwrap_or_default();
    let sum = |of: fn(&DiskLoad) -> u64| server.disks.iter().map(of).sum::<u64>();
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

fn in_json(status: &ClusterStatus) -> Value {
    json!({
        "condition": condition(status).name(),
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
        "writes_refused": (!status.writes_refused.is_empty()).then_some(&status.writes_refused),
        "warnings": status.warnings,
    })
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
        Condition::Refused => "NEW DATA IS REFUSED",
        Condition::Lost => "DATA IS LOST (`drystone admin lost` lists the files)",
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
        return line(Value::from(status.servers.iter().map(server).collect::<Vec<_>>()));
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
        let value = server(one);
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
    use drystone_client::admin::Member;

    fn status() -> ClusterStatus {
        let server = ServerStatus {
            state: "alive".to_owned(),
            disks: vec![DiskLoad::default()],
            ..ServerStatus::default()
        };
        let member = Member {
            alive: true,
            ..Member::default()
        };
        ClusterStatus {
            servers: vec![server],
            members: vec![member],
            chunks_under_redundant: Some(0),
            chunks_lost: Some(0),
            exposure_bytes: Some(0),
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn what_the_leader_does_not_know_yet_is_unknown_and_not_none() {
        let now = ClusterStatus {
            chunks_lost: None,
            chunks_under_redundant: None,
            exposure_bytes: None,
            ..status()
        };
        assert_eq!(condition(&now), Condition::Unknown);
        assert_eq!(in_json(&now)["chunks"]["lost"], Value::Null);
        assert_eq!(in_json(&now)["exposure_bytes"], Value::Null);
        assert_eq!(or_unknown(now.chunks_lost), "unknown");
    }

    #[test]
    fn the_most_serious_condition_counts() {
        let mut now = status();
        assert_eq!(condition(&now), Condition::Well);
        now.servers[0].state = "unknown".to_owned();
        now.chunks_lost = None;
        assert_eq!(condition(&now), Condition::Unknown);
        now.chunks_lost = Some(0);
        assert_eq!(condition(&now), Condition::Reduced);
        now.writes_refused = "too few chunk servers".to_owned();
        assert_eq!(condition(&now), Condition::Refused);
        now.chunks_lost = Some(1);
        assert_eq!(condition(&now), Condition::Lost);
        for change in [
            |now: &mut ClusterStatus| now.chunks_under_redundant = Some(1),
            |now: &mut ClusterStatus| now.servers[0].state = "dead".to_owned(),
            |now: &mut ClusterStatus| now.servers[0].disks[0].read_only = true,
        ] {
            let mut now = status();
            change(&mut now);
            assert_eq!(condition(&now), Condition::Reduced);
        }
    }

    #[test]
    fn programs_get_plain_numbers() {
        let now = ClusterStatus {
            file_bytes: 5 << 30,
            ..status()
        };
        assert_eq!(in_json(&now)["file_bytes"], 5u64 << 30);
        assert_eq!(in_json(&now)["condition"], "well");
        assert_eq!(in_json(&now)["writes_refused"], Value::Null);
    }
}
