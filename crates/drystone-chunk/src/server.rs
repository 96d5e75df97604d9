//! Puts a chunk server together: directories, stores, listener, registration; and takes it apart again.

use crate::config::Config;
use crate::error::{DiskFault, StartError, StopReason};
use drystone_env::{Disk, Env};
use drystone_types::{DiskRef, NodeId};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A data directory as it is handed to [`ChunkServer::start`]: locked, formatted, not yet opened.
pub struct DataDirectory {
    /// For people and for the cluster's records.
    pub path: String,
    /// Its files.
    pub disk: Arc<dyn Disk>,
    /// What keeps others out while the server runs, if anything; dropped when it has stopped.
    pub lock: Option<Box<dyn Send + Sync>>,
}

impl DataDirectory {
    /// The directory at `path` of the real file system, locked.
    ///
    /// # Errors
    /// If it is not there or another process has it.
    pub fn open(path: &Path) -> Result<Self, DiskFault> {
        let _ = path;
        todo!()
    }
}

/// State of one disk of a running server.
#[derive(Clone, PartialEq, Debug)]
pub struct DiskReport {
    /// The data directory.
    pub path: String,
    /// Which disk it is, if that could be read.
    pub disk: Option<DiskRef>,
    /// Why it is not used, or takes no writes; empty when all is well.
    pub fault: String,
}

/// A chunk server.
pub struct ChunkServer;

impl ChunkServer {
    /// Starts a chunk server on `directories` (each formatted, see `drystone_identity`): recovers every disk, in
    /// parallel, listens, and begins to register with the metadata leader in the background. A disk that cannot
    /// be opened is left out and reported.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(
        env: Env,
        config: Config,
        directories: Vec<DataDirectory>,
    ) -> Result<Handle, StartError> {
        let _ = (env, config, directories);
        todo!()
    }

    /// [`ChunkServer::start`] on the directories in [`Config::data`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_configured(env: Env, config: Config) -> Result<Handle, StartError> {
        let _ = (env, config);
        todo!()
    }
}

/// A running chunk server. Cheap to clone.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// Its id in the cluster.
    pub fn node(&self) -> NodeId {
        todo!()
    }

    /// True once a metadata leader has taken its registration and since then no heartbeat has gone unanswered for
    /// ten intervals: `/readyz`.
    pub fn ready(&self) -> bool {
        todo!()
    }

    /// Completes when it is registered for the first time, or has stopped.
    pub async fn registered(&self) -> Result<(), StopReason> {
        todo!()
    }

    /// Each disk, in the order of the directories.
    pub fn disks(&self) -> Vec<DiskReport> {
        todo!()
    }

    /// Its metrics in the OpenMetrics text format, for `/metrics`.
    pub fn metrics(&self) -> String {
        todo!()
    }

    /// Completes when it has stopped serving, with the reason.
    pub async fn stopped(&self) -> StopReason {
        todo!()
    }

    /// Stops it: no new request is taken, disks finish what they do, directories are unlocked. Completes when
    /// all of that is done.
    pub async fn shutdown(&self) {
        todo!()
    }
}
