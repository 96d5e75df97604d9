//! The cluster at a glance, the same at every door and on the command line: as JSON, and in one word.

use drystone_client::admin::{ClusterStatus, DiskLoad, Member, ServerStatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How a cluster is, the least serious first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Condition {
    /// Everything is as it should be.
    Well,
    /// The leader does not know yet: it was elected, or servers came back, a moment ago.
    Unknown,
    /// Nothing is lost and writes go on, but there is less redundancy than there should be.
    Reduced,
    /// New data is refused.
    Refused,
    /// Data has no replica that can be read.
    Lost,
}

impl Condition {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unknown => "unknown",
            Self::Reduced => "reduced",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

/// The most serious condition that holds.
pub fn condition(status: &ClusterStatus) -> Condition {
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

/// Bytes that the disks of a server can still take together: those of one file system have what is left of it once.
fn free_bytes(server: &ServerStatus) -> u64 {
    let known = server.node.as_ref().map_or(&[][..], |node| &node.disks);
    let (mut own, mut shared) = (0u64, BTreeMap::<u64, u64>::new());
    for disk in &server.disks {
        let of_device = disk.shared_free_bytes.min(disk.free_bytes);
        own = own.saturating_add(disk.free_bytes - of_device);
        let device = known.iter().find(|known| known.id == disk.disk);
        // A disk that is not known stands for itself.
        let device = device.map_or(disk.disk, |known| known.device);
        let most = shared.entry(device).or_default();
        *most = of_device.max(*most);
    }
    shared.values().copied().fold(own, u64::saturating_add)
}

/// A disk of a chunk server. What is used, free, kept and others' is all of its file system.
fn disk(disk: &DiskLoad) -> Value {
    json!({
        "disk": disk.disk,
        "used_bytes": disk.used_bytes,
        "free_bytes": disk.free_bytes,
        "shared_free_bytes": disk.shared_free_bytes,
        "kept_bytes": disk.kept_bytes,
        "others_bytes": disk.others_bytes,
        "device_bytes": disk.device_bytes,
        "chunks": disk.chunks,
        "read_only": disk.read_only,
    })
}

/// A chunk server.
pub fn server(server: &ServerStatus) -> Value {
    let node = server.node.clone().unwrap_or_default();
    let sum = |of: fn(&DiskLoad) -> u64| server.disks.iter().map(of).sum::<u64>();
    json!({
        "name": node.name,
        "node": node.id,
        "state": server.state,
        "rack": node.rack,
        "address": node.address,
        "used_bytes": sum(|disk| disk.used_bytes),
        "free_bytes": free_bytes(server),
        "disks": server.disks.iter().map(disk).collect::<Vec<_>>(),
        "chunks": sum(|disk| disk.chunks),
        "read_only_disks": server.disks.iter().filter(|disk| disk.read_only).count(),
        "io_errors": sum(|disk| u64::from(disk.io_errors)),
        "checksum_errors": sum(|disk| u64::from(disk.checksum_errors)),
        "last_heartbeat_ms": (server.last_heartbeat_ms != u64::MAX).then_some(server.last_heartbeat_ms),
    })
}

/// A metadata server.
pub fn member(member: &Member) -> Value {
    json!({
        "name": member.name,
        "node": member.node,
        "address": member.address,
        "voter": member.voter,
        "matched": member.matched,
        "alive": member.alive,
        "fenced": member.fenced,
    })
}

/// The whole status; null is a number that a new leader does not know yet.
pub fn status(status: &ClusterStatus) -> Value {
    json!({
        "condition": condition(status).name(),
        "leader": status.leader_name,
        "leader_node": status.leader,
        "term": status.term,
        "metadata": status.members.iter().map(member).collect::<Vec<_>>(),
        "servers": status.servers.iter().map(server).collect::<Vec<_>>(),
        "chunks": {
            "total": status.chunks_total,
            "under_redundant": status.chunks_under_redundant,
            "lost": status.chunks_lost,
            "doomed": status.chunks_doomed,
        },
        "exposure_bytes": status.exposure_bytes,
        "files": status.files,
        "directories": status.directories,
        "file_bytes": status.file_bytes,
        "damage_reports": status.damage_reports,
        "grant_floor": status.grant_floor,
        "applied": status.applied,
        "highest_node": status.highest_node,
        "writes_refused": (!status.writes_refused.is_empty()).then_some(&status.writes_refused),
        "warnings": status.warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_client::admin::{DiskRecord, NodeRecord};

    fn well() -> ClusterStatus {
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
            ..well()
        };
        assert_eq!(condition(&now), Condition::Unknown);
        assert_eq!(status(&now)["chunks"]["lost"], Value::Null);
        assert_eq!(status(&now)["exposure_bytes"], Value::Null);
    }

    #[test]
    fn the_most_serious_condition_counts() {
        let mut now = well();
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
            let mut now = well();
            change(&mut now);
            assert_eq!(condition(&now), Condition::Reduced);
        }
    }

    #[test]
    fn what_a_file_system_has_left_counts_once() {
        let disk = |disk, free_bytes, shared_free_bytes| DiskLoad {
            disk,
            free_bytes,
            shared_free_bytes,
            ..DiskLoad::default()
        };
        let record = |id, device| DiskRecord {
            id,
            device,
            ..DiskRecord::default()
        };
        let node = NodeRecord {
            disks: vec![record(1, 7), record(2, 7), record(3, 8)],
            ..NodeRecord::default()
        };
        let status = ServerStatus {
            node: Some(node),
            disks: vec![disk(1, 110, 100), disk(2, 95, 90), disk(3, 230, 200)],
            ..ServerStatus::default()
        };
        assert_eq!(server(&status)["free_bytes"], 10 + 5 + 100 + 230);
    }

    #[test]
    fn programs_get_plain_numbers() {
        let now = ClusterStatus {
            file_bytes: 5 << 30,
            ..well()
        };
        assert_eq!(status(&now)["file_bytes"], 5u64 << 30);
        assert_eq!(status(&now)["condition"], "well");
        assert_eq!(status(&now)["writes_refused"], Value::Null);
    }
}
