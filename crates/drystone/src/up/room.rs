//! Room for nodes that are new, and a directory that is the cluster's: looked at before anything is made.

use super::plan::Plan;
use crate::exit::UsageError;
use crate::node::config::NodeConfig;
use anyhow::{Context, bail};
use drystone_types::ByteCount;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Segments that a log or journal begins with.
const FIRST_SEGMENTS: u64 = 2;
/// What else a node makes before anybody writes to it, about.
const ELSE_BYTES: u64 = 4 << 20;
/// The part of a file system that chunk servers leave to others is one of so many.
const RESERVE_PART: u64 = 20;
/// What an `up` that failed before it made a cluster may leave.
const OURS: [&str; 5] = ["mode", "cluster.json", "pids.json", "up.request", "up.answer"];
/// Checks that a directory in which `up` has made no cluster is not in use for something else: directories may be
/// there, as disks are mounted on them, but no file.
///
/// # Errors
/// A file that is in it.
pub fn check_unused(data: &Path) -> anyhow::Result<()> {
    if Plan::load(data)?.is_some() || data.join(super::SECRET).exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(data).with_context(|| format!("cannot look into {}", data.display()))?;
    let files = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let names = files.map(|entry| entry.file_name());
    let is_ours =
        |name: &OsString| OURS.iter().any(|ours| name == ours) || name.as_encoded_bytes().starts_with(b".");
    if let Some(name) = names.filter(|name| !is_ours(name)).min() {
        bail!(UsageError(format!(
            "{} holds files of something else ({}, for one) and no cluster: name an empty directory, or a new one, \
             with --data",
            data.display(),
            name.display()
        )));
    }
    Ok(())
}

/// Checks that nodes whose directories are not formatted yet find room for what they begin with.
///
/// # Errors
/// A file system without it, what is free there, and what is needed.
pub fn check(plan: &Plan, data: &Path) -> anyhow::Result<()> {
    struct Device {
        new: u64,
        needed: u64,
        free: u64,
        reserve: u64,
    }
    let mut devices = BTreeMap::<u64, Device>::new();
    let new: Vec<&str> = plan.new_nodes().collect();
    for node in plan.nodes(data).iter().filter(|node| new.contains(&&*node.name)) {
        let directory = data.join(&node.name);
        let place = if directory.is_dir() { &directory } else { data };
        // A directory that cannot be looked at is told of by the node.
        let (Ok(metadata), Ok(space)) = (std::fs::metadata(place), rustix::fs::statvfs(place)) else {
            continue;
        };
        let device = devices.entry(metadata.dev()).or_insert(Device {
            new: 0,
            needed: 0,
            free: space.f_bavail * space.f_frsize,
            reserve: space.f_blocks * space.f_frsize / RESERVE_PART,
        });
        device.new += 1;
        device.needed += begins_with(node);
    }
    for device in devices.values() {
        let needed = device.needed + device.reserve;
        if device.free < needed {
            bail!(
                "{}: the file system has {} free, and {} new nodes begin with {} on it (logs and journals, and a \
                 reserve): give them a larger one, or make fewer nodes (--metadata 1 --chunk-servers 3). Nothing was made",
                data.display(),
                ByteCount(device.free / MIB * MIB),
                device.new,
                ByteCount(needed.next_multiple_of(MIB))
            );
        }
    }
    Ok(())
}

/// Bytes that a node takes before anybody has written anything.
fn begins_with(node: &NodeConfig) -> u64 {
    let log = node.metadata.as_ref().map_or(0, |config| config.log_segment.0);
    let journal = node.chunk.as_ref().map_or(0, |config| config.journal_segment.0);
    FIRST_SEGMENTS * (log + journal) + ELSE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::UpOptions;

    fn options(data: &Path) -> UpOptions {
        UpOptions {
            data: data.to_owned(),
            listen: Some("127.0.0.1:9700".parse().unwrap()),
            metadata: Some(3),
            chunk_servers: Some(3),
            racks: 3,
            processes: false,
            replace_lost: false,
            insecure: false,
            host: Vec::new(),
        }
    }

    #[test]
    fn nodes_begin_with_some_segments_each() {
        let directory = tempfile::tempdir().unwrap();
        let mut plan = Plan::make(3, 3, &options(directory.path())).unwrap();
        check(&plan, directory.path()).unwrap();
        let nodes = plan.nodes(directory.path());
        let all: u64 = nodes.iter().map(begins_with).sum();
        assert!((200 << 20..280 << 20).contains(&all), "{all}");
        // Those that are there do not count.
        plan.note_formatted(|name| name != "chunk-2");
        assert_eq!(plan.new_nodes().collect::<Vec<_>>(), ["chunk-2"]);
    }

    #[test]
    fn a_directory_of_something_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["lost+found", "chunk-1"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join("mode"), "single").unwrap();
        check_unused(directory.path()).unwrap();
        std::fs::write(directory.path().join("notes.txt"), "mine").unwrap();
        let refused = check_unused(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("notes.txt"), "{refused}");
        // It came later.
        let plan = Plan::make(3, 3, &options(directory.path())).unwrap();
        plan.save(directory.path()).unwrap();
        check_unused(directory.path()).unwrap();
    }
}
