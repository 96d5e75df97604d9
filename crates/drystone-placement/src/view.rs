//! What a planner is told.

use crate::DiskState;
use drystone_types::{ByteCount, DiskRef, NodeId};

/// A disk as the leader sees it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskView {
    /// The disk.
    pub disk: DiskRef,
    /// Its server.
    pub node: NodeId,
    /// Servers with equal host fail together.
    pub host: String,
    /// Hosts with equal rack (and zone) fail together.
    pub rack: String,
    /// Racks with equal zone fail together.
    pub zone: String,
    /// Disks with equal device have its space in common, and those of one host fail together.
    pub device: u64,
    /// Disks on the device, itself included.
    pub device_disks: u32,
    /// Bytes that the disks of the device can still take together.
    pub device_free: ByteCount,
    /// Bytes that new data can still take, while the others of its device take nothing: what the disk keeps for repair
    /// and for others is not in it.
    pub free: ByteCount,
    /// Work queued or under way; only comparable with other disks' figure.
    pub load: u32,
    /// What may be done with it. The figures above mean nothing while it is unheard of.
    pub state: DiskState,
    /// It, or its server, is being drained, whatever else its state is: nobody waits for its host.
    pub draining: bool,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// Replicas that the chunk shall have in all, those in `have` included.
    pub replicas: u32,
    /// The least that will do when there are not enough domains; 0 = `replicas`.
    pub minimum: u32,
    /// Bytes that each disk must be able to take.
    pub bytes: ByteCount,
    /// The host of the writer: the first replica goes there if it can. Empty = nowhere in particular.
    pub near_host: String,
    /// Servers that are not to be used (the writer saw them fail).
    pub avoid: Vec<NodeId>,
    /// Where the chunk is already: their domains count as taken. Known disks only.
    pub have: Vec<DiskRef>,
}
