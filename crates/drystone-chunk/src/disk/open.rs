//! Opens the disks of a server that starts: their stores are recovered at the same time, and a disk that hangs is left out.

use super::directory::OpenedDirectories;
use super::disks::ServedDisk;
use super::ops::store_config;
use super::runner::DiskRunner;
use super::watched::hangs;
use crate::config::Config;
use crate::error::{DiskFault, StartError};
use drystone_env::{BufferPool, Env};
use drystone_store::Store;
use drystone_types::{MAX_PAYLOAD_BYTES, with_causes};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Disks in service, and the faults of the others.
pub(crate) type OpenedDisks = (BTreeMap<u64, ServedDisk>, Vec<DiskFault>);

/// Recovers all disks at the same time and starts their threads.
///
/// # Errors
/// None can be used.
pub(crate) async fn open_disks(
    env: &Env,
    config: &Config,
    opened: OpenedDirectories,
    pool: &BufferPool,
) -> Result<OpenedDisks, StartError> {
    let (mut disks, mut faults) = (BTreeMap::new(), opened.faults);
    // Shared out, so that answers that a hung disk owes hold nothing of the others'; one whole answer at least.
    let share = config.in_flight.0 / 2 / opened.directories.len().max(1) as u64;
    let reads = share.max(MAX_PAYLOAD_BYTES as u64);
    let opening = opened.directories.into_iter().map(|member| {
        let (path, operations) = (member.directory.path.clone(), Arc::clone(&member.operations));
        let (store_config, pool) = (store_config(config), pool.clone());
        let name = format!("open-{}", member.me.disk);
        // The thread starts now; the future only waits for it. If nobody waits any more the directory stays locked until
        // the thread has ended: it may write.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let open = async move {
            let store = Store::open(Arc::clone(&member.directory.disk), store_config, member.me, pool);
            drop(sender.send((member, store)));
        };
        env.spawn.thread(&name, Box::pin(open));
        let clock = Arc::clone(&env.clock);
        async move { (path, operations.wait(&*clock, receiver).await) }
    });
    for (path, opened) in join_all(opening).await {
        let reason = match opened {
            Some(Ok((member, Ok((store, report))))) => {
                tracing::info!(disk = %member.me, %path, ?report, "disk recovered");
                let limits = (config.io_threads, config.in_flight.0 / 2, reads);
                let store = (store, member.directory.lock);
                let runner = DiskRunner::start(env, path, member.me, store, pool.clone(), limits);
                let id = member.me.disk.0;
                let served = ServedDisk {
                    runner,
                    device: member.device,
                    files: member.directory.disk,
                };
                disks.insert(id, served);
                continue;
            }
            Some(Ok((_, Err(error)))) => with_causes(&error),
            Some(Err(_)) => "opening it failed, see the log".into(),
            None => hangs(),
        };
        faults.push(DiskFault { path, reason });
    }
    if disks.is_empty() {
        Err(StartError::NoDisk(faults))
    } else {
        Ok((disks, faults))
    }
}
