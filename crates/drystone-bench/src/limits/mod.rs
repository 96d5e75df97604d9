//! The limit programs: each does only the work that nobody who makes the same promise can avoid, over real files
//! and sockets, with threads that block.
//!
//! They know nothing of Drystone but its disk seam (for direct I/O from aligned buffers), so that a mistake of ours
//! cannot slow the limit down with us. Preparation (files written ahead) is not measured.
//!
//! [`scratch`] is where their files are, [`frame`] how their bytes travel.

mod chain;
mod disk;
mod frame;
mod group;
mod lookup;
mod scratch;
mod sendfile;

pub use scratch::Scratch;

use crate::meter::Stopwatch;
use crate::sample::Sample;
use anyhow::Context;
use drystone_env::Env;
use std::io;
use std::sync::Arc;

/// Copies of everything: what the default policy asks for.
pub const REPLICAS: usize = 3;
/// What is moved at once in bulk.
const FRAME: usize = 1 << 20;

/// A limit program and how much it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Limit {
    /// `dd` with direct I/O into three new files at once, each synced at its end.
    DirectWrite {
        /// User data.
        size: u64,
    },
    /// `cp` three times, then `sync`.
    CopyThree {
        /// User data.
        size: u64,
    },
    /// A chain of three over loopback, CRC32C computed by the sender and checked at every hop, nothing stored.
    Chain {
        /// User data.
        size: u64,
        /// Chains side by side.
        streams: usize,
    },
    /// `sendfile` from the page cache over loopback, CRC32C checked by the receiver.
    Sendfile {
        /// User data.
        size: u64,
        /// Connections side by side.
        streams: usize,
    },
    /// Direct sequential read of a file.
    DirectRead {
        /// User data.
        size: u64,
    },
    /// 4 KiB and fdatasync into a pre-written file, one after the other.
    SyncBlock {
        /// How often.
        operations: usize,
    },
    /// Objects over loopback into the pre-written segments of three servers, each synced in groups.
    GroupCommit {
        /// Of an object.
        bytes: usize,
        /// Objects under way.
        clients: usize,
        /// Objects in all.
        operations: usize,
    },
    /// Look-ups in an ordered map behind one connection, batched in both directions.
    Lookup {
        /// Requests under way.
        clients: usize,
        /// Requests in all.
        operations: usize,
    },
}

impl Limit {
    /// How it is called in reports; the amount of work is no part of it.
    pub fn name(&self) -> String {
        match self {
            Limit::DirectWrite { .. } => "limit: direct write x3 + fdatasync".to_owned(),
            Limit::CopyThree { .. } => "limit: cp x3 + sync".to_owned(),
            Limit::Chain { streams, .. } => format!("limit: chain of 3 + CRC, {}", streams_of(*streams)),
            Limit::Sendfile { streams, .. } => format!("limit: sendfile + CRC, {}", streams_of(*streams)),
            Limit::DirectRead { .. } => "limit: direct read".to_owned(),
            Limit::SyncBlock { .. } => "limit: 4 KiB + fdatasync".to_owned(),
            Limit::GroupCommit { bytes, clients, .. } => {
                format!(
                    "limit: group commit on 3, {}, {}",
                    size_of(*bytes as u64),
                    clients_of(*clients)
                )
            }
            Limit::Lookup { clients, .. } => format!("limit: batched look-ups, {}", clients_of(*clients)),
        }
    }

    fn run(self, watch: &Stopwatch, scratch: &Scratch) -> io::Result<Sample> {
        match self {
            Limit::DirectWrite { size } => disk::direct_write(watch, scratch, size),
            Limit::CopyThree { size } => disk::copy_three(watch, scratch, size),
            Limit::Chain { size, streams } => chain::chain(watch, size, streams),
            Limit::Sendfile { size, streams } => sendfile::sendfile(watch, scratch, size, streams),
            Limit::DirectRead { size } => disk::direct_read(watch, scratch, size),
            Limit::SyncBlock { operations } => disk::sync_block(watch, scratch, operations),
            Limit::GroupCommit {
                bytes,
                clients,
                operations,
            } => group::group_commit(watch, scratch, bytes, clients, operations),
            Limit::Lookup { clients, operations } => lookup::look_up(watch, clients, operations),
        }
    }
}

/// Runs one limit program on threads of its own.
///
/// # Errors
/// As the system's.
pub async fn run(
    env: &Env,
    watch: &Stopwatch,
    scratch: &Arc<Scratch>,
    limit: Limit,
) -> anyhow::Result<Sample> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (watch, scratch) = (watch.without_cluster(), Arc::clone(scratch));
    let body = async move {
        let ended = limit.run(&watch, &scratch);
        // Before the answer: who gets it may be the last one to hold the directory, and expects that it goes.
        drop(scratch);
        // Nobody listens any more only when the benchmark was interrupted.
        let _ = sender.send(ended);
    };
    env.spawn.thread("bench-limit", Box::pin(body));
    let ended = receiver
        .await
        .with_context(|| format!("{}: it ended early", limit.name()))?;
    ended.with_context(|| limit.name())
}

/// `1 stream`, `4 streams`.
pub fn streams_of(streams: usize) -> String {
    format!("{streams} {}", if streams == 1 { "stream" } else { "streams" })
}

/// `1 client`, `4 clients`.
pub fn clients_of(clients: usize) -> String {
    format!("{clients} {}", if clients == 1 { "client" } else { "clients" })
}

/// `4 KiB`, `132 B`.
pub fn size_of(bytes: u64) -> String {
    if bytes >= 1024 && bytes.is_multiple_of(1024) {
        format!("{} KiB", bytes / 1024)
    } else {
        format!("{bytes} B")
    }
}

/// `size` in `parts` parts of whole frames, the first ones larger where it does not divide.
pub fn shares(size: u64, parts: usize) -> Vec<u64> {
    let (frames, parts) = (size / FRAME as u64, parts as u64);
    (0..parts)
        .map(|part| (frames / parts + u64::from(part < frames % parts)) * FRAME as u64)
        .collect()
}

/// Joins a scoped thread; a panic in it goes on here.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests;
