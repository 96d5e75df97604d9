//! The disks of a server: those that are served, and those that could not be opened.

use super::runner::DiskRunner;
use crate::error::DiskFault;
use drystone_env::Disk;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::refusal;
use drystone_types::Code;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A disk that is served.
pub(crate) struct ServedDisk {
    pub(crate) runner: DiskRunner,
    /// Identifies the device below.
    pub(crate) device: u64,
    /// Its files, for the boot counter; all others are the store's.
    pub(crate) files: Arc<dyn Disk>,
}

/// See the module.
pub(crate) struct Disks {
    served: BTreeMap<u64, ServedDisk>,
    faults: Vec<DiskFault>,
}

impl Disks {
    pub(crate) fn new(served: BTreeMap<u64, ServedDisk>, faults: Vec<DiskFault>) -> Self {
        Self { served, faults }
    }

    /// The disk that holds `replica`, in the incarnation that it names.
    pub(crate) fn of(
        &self,
        replica: Option<ReplicaRecord>,
    ) -> Result<(&DiskRunner, ReplicaRecord), ErrorReply> {
        let replica = replica.ok_or_else(|| refusal(Code::Invalid, "no replica is named"))?;
        let disk = self.by_id(replica.disk)?;
        if disk.me.incarnation.0 != replica.incarnation {
            let message = format!("disk {} is another formatting than the one named", replica.disk);
            return Err(refusal(Code::NotFound, message));
        }
        Ok((disk, replica))
    }

    pub(crate) fn by_id(&self, disk: u64) -> Result<&DiskRunner, ErrorReply> {
        let entry = self.served.get(&disk);
        entry
            .map(|entry| &entry.runner)
            .ok_or_else(|| refusal(Code::NotFound, format!("disk {disk} is not served here")))
    }

    /// Those that are served, by id.
    pub(crate) fn served(&self) -> &BTreeMap<u64, ServedDisk> {
        &self.served
    }

    /// Those that are not, with the fault of each directory.
    pub(crate) fn faults(&self) -> &[DiskFault] {
        &self.faults
    }
}
