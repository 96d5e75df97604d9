//! How servers are started: with which configuration, and where it shows how that went.

use super::{CHUNK_PORT, ChunkNode, Cluster, META_PORT, MetaNode, put};
use drystone_chunk::{ChunkServer, DataDirectory};
use drystone_env::Disk;
use drystone_meta::{MetadataDirectory, MetadataServer};
use drystone_types::ByteCount;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// After this time a server that is watched over is started again.
const AGAIN: Duration = Duration::from_millis(500);

/// What a voter says whose leader counts on entries that it lacks.
const LOST: &str = "is here, but the log ends at";

impl Cluster {
    /// Starts every server.
    pub fn start(&self) {
        (0..self.metas.len()).for_each(|at| self.start_meta(at));
        (0..self.chunks.len()).for_each(|at| self.start_chunk(at));
    }

    /// Starts a metadata server on its disk; how that goes shows in its slots.
    pub fn start_meta(&self, at: usize) {
        self.run_meta(at, &self.metas[at]);
    }

    /// Starts `node` as metadata server number `at`.
    pub(super) fn run_meta(&self, at: usize, node: &MetaNode) {
        let env = self.world.env(node.host);
        let listen = SocketAddr::new(node.host.ip(), META_PORT);
        let shape = &self.shape;
        let config = drystone_meta::Config {
            policy: shape.policy.into(),
            log_segment: ByteCount(128 << 10),
            log_keep_entries: shape.log_keep,
            checkpoint_interval: shape.checkpoint,
            overlay: ByteCount(16 << 20),
            disk_reserve: Some(ByteCount(64 << 20)),
            heartbeat: Duration::from_secs(1),
            suspect_after: Duration::from_secs(3),
            dead_after: Duration::from_secs(20),
            grant_age: shape.grant_age,
            doomed_grace: shape.doomed_grace,
            inline_max: ByteCount(shape.inline_max),
            host: format!("meta-{at}"),
            ..drystone_meta::Config::new(PathBuf::from(format!("meta-{at}")), listen)
        };
        let (disk, states) = (node.disk.clone(), node.states.clone());
        let (slot, ended, lives) = (Arc::clone(&node.handle), Arc::clone(&node.ended), node.lives);
        put(&ended, None);
        let lost_logs = Arc::clone(&self.lost_logs);
        let inner = env.clone();
        let task = async move {
            for life in 0..=lives {
                let directory = MetadataDirectory {
                    name: format!("meta-{at}"),
                    disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
                    states: Arc::new(states.clone()),
                    lock: None,
                };
                let why = match MetadataServer::start_on(inner.clone(), config.clone(), directory).await {
                    Ok(handle) => {
                        let stopped = handle.watch_stopped();
                        put(&slot, Some(handle));
                        stopped.await;
                        let handle = slot.lock().expect("no panic holds it");
                        let why = handle.as_ref().and_then(|handle| handle.failure());
                        why.unwrap_or_default()
                    }
                    Err(error) => error.to_string(),
                };
                if why.contains(LOST) {
                    let mut lost = lost_logs.lock().expect("no panic holds it");
                    lost.push((at, why.clone()));
                }
                if life == lives {
                    put(&ended, Some(why));
                    return;
                }
                put(&slot, None);
                inner.clock.sleep(AGAIN).await;
            }
        };
        env.spawn.spawn("harness", Box::pin(task));
    }

    /// Starts a chunk server on its disks; how that goes shows in its slots.
    pub fn start_chunk(&self, at: usize) {
        self.run_chunk(at, &self.chunks[at]);
    }

    /// Starts `node` as chunk server number `at`.
    pub(super) fn run_chunk(&self, at: usize, node: &ChunkNode) {
        let env = self.world.env(node.host);
        let config = drystone_chunk::Config {
            listen: SocketAddr::new(node.host.ip(), CHUNK_PORT),
            metadata: self.metadata(),
            host: format!("chunk-{at}"),
            rack: format!("rack-{}", at as u16 % self.shape.racks),
            in_flight: ByteCount(32 << 20),
            read_cache: Some(ByteCount(if at.is_multiple_of(2) { 0 } else { 1 << 20 })),
            io_threads: self.shape.io_threads,
            heartbeat: Duration::from_secs(1),
            journal_segment: ByteCount(256 << 10),
            arena: Some(ByteCount(self.shape.arena)),
            ..drystone_chunk::Config::default()
        };
        let directories = node.disks.iter().enumerate().map(|(index, disk)| DataDirectory {
            path: format!("chunk-{at}/{index}"),
            disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
            lock: None,
        });
        let directories: Vec<DataDirectory> = directories.collect();
        let (slot, ended) = (Arc::clone(&node.handle), Arc::clone(&node.ended));
        put(&ended, None);
        let inner = env.clone();
        let task = async move {
            match ChunkServer::start(inner, config, directories).await {
                Ok(handle) => {
                    put(&slot, Some(handle.clone()));
                    put(&ended, Some(handle.stopped().await.to_string()));
                }
                Err(error) => put(&ended, Some(error.to_string())),
            }
        };
        env.spawn.spawn("harness", Box::pin(task));
    }
}
