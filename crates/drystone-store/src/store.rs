//! The store and its entrance.

use crate::{Input, OpenError, Output, RecoveryReport, Status, StoreConfig};
use drystone_env::{BufferPool, Disk, Monotonic};
use drystone_types::{ChunkId, DiskRef};
use std::sync::Arc;

/// One disk in service. See the crate's page for what it promises.
pub struct Store {
    _private: (),
}

impl Store {
    /// Opens the store in the disk's directory, blocking, or makes an empty one if there is none. Everything that
    /// was ever reported durable is there, or this fails.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        me: DiskRef,
        pool: BufferPool,
    ) -> Result<(Store, RecoveryReport), OpenError> {
        let _ = (disk, config, me, pool);
        unimplemented!()
    }

    /// Takes one input. Outputs are in the order in which they were decided.
    pub fn on(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        let _ = (now, input, out);
        unimplemented!()
    }

    /// The disk at a glance.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// The highest grant floor that is durable here.
    pub fn floor(&self) -> ChunkId {
        unimplemented!()
    }
}
