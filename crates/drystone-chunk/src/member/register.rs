//! What a server registers as.

use crate::config::Config;
use crate::disk::disks::Disks;
use drystone_identity::Identity;
use drystone_proto::cluster::Register;
use drystone_proto::record::{DiskRecord, NodeRecord, role};
use drystone_types::BootId;

/// The record of this server, but for its boot.
pub(crate) fn record(identity: &Identity, config: &Config, address: &str, disks: &Disks) -> NodeRecord {
    let disks = disks.served().iter().map(|(id, disk)| DiskRecord {
        id: *id,
        incarnation: disk.runner.me.incarnation.0,
        device: disk.device,
        path: disk.runner.path.clone(),
    });
    let name = &identity.name;
    NodeRecord {
        id: identity.node.0,
        incarnation: identity.node_incarnation.0,
        roles: role::CHUNK,
        name: name.clone(),
        address: address.to_owned(),
        rack: config.rack.clone(),
        zone: config.zone.clone(),
        host: if config.host.is_empty() {
            name.clone()
        } else {
            config.host.clone()
        },
        disks: disks.collect(),
        admin: config.admin.clone(),
        ..NodeRecord::default()
    }
}

/// The registration of this server in `boot`.
pub(crate) fn registration(record: &NodeRecord, boot: BootId) -> Register {
    Register {
        node: Some(NodeRecord {
            boot_counter: boot.counter,
            boot_random: boot.random,
            ..record.clone()
        }),
    }
}
