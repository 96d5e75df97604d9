//! What a seeded disk knows, and the rules that its operations share.

use super::SimDiskStats;
use super::World;
use super::inode::Inode;
use crate::rng::SeededRng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

#[derive(Clone)]
pub(super) struct State {
    pub(super) rng: SeededRng,
    pub(super) capacity: u64,
    pub(super) device: u64,
    pub(super) boot: u64,
    // Set when the power is off: everything fails until the crash is carried out.
    pub(super) off: bool,
    pub(super) next_inode: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) now: Names,
    pub(super) durable: Names,
    pub(super) pending: Vec<DirectoryOp>,
    pub(super) armed: Armed,
    pub(super) read_only: bool,
    pub(super) timing: Option<Timing>,
    pub(super) stats: SimDiskStats,
}

/// In whose time the disk takes its time.
#[derive(Clone)]
pub(super) struct Timing {
    pub(super) world: World,
    /// Microseconds of half an operation, shortest and longest.
    pub(super) half: (u64, u64),
}

#[derive(Clone, Default)]
pub(super) struct Names {
    pub(super) files: BTreeMap<String, u64>,
    pub(super) directories: BTreeSet<String>,
}

#[derive(Clone, Default)]
pub(super) struct Armed {
    pub(super) off: Option<u64>,
    pub(super) sync: Option<u64>,
    pub(super) write: Option<u64>,
    pub(super) no_room: Option<u64>,
    pub(super) read: Option<u64>,
    pub(super) lost: Option<u64>,
    pub(super) misdirected: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum DirectoryOp {
    MakeDirectory { name: String },
    Link { name: String, inode: u64 },
    Unlink { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
}

impl DirectoryOp {
    pub(super) fn directory(&self) -> &str {
        match self {
            DirectoryOp::MakeDirectory { .. } => "",
            DirectoryOp::Link { name, .. } | DirectoryOp::Unlink { name, .. } => parent(name),
            DirectoryOp::Rename { to, .. } => parent(to),
        }
    }
}

pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

pub(super) fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

pub(super) fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// Counts an armed fault down; true when it fires.
pub(super) fn fires(armed: &mut Option<u64>) -> bool {
    match armed {
        Some(1) => {
            *armed = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Names {
    pub(super) fn apply(&mut self, op: &DirectoryOp) {
        match op {
            DirectoryOp::MakeDirectory { name } => {
                self.directories.insert(name.clone());
            }
            DirectoryOp::Link { name, inode } => {
                self.files.insert(name.clone(), *inode);
            }
            DirectoryOp::Unlink { name, inode } => {
                if self.files.get(name) == Some(inode) {
                    self.files.remove(name);
                }
            }
            DirectoryOp::Rename { from, to, inode } => {
                if self.files.get(from) == Some(inode) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *inode);
            }
        }
    }
}

impl State {
    /// One operation that changes something.
    pub(super) fn operation(&mut self) -> io::Result<()> {
        self.powered()?;
        self.stats.operations += 1;
        if fires(&mut self.armed.off) {
            self.stats.faults += 1;
            self.off = true;
        }
        Ok(())
    }

    pub(super) fn powered(&self) -> io::Result<()> {
        if self.off {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(())
        }
    }

    /// After an operation: if the power went off during it, its caller hears of no success.
    pub(super) fn ended<T>(&self, value: T) -> io::Result<T> {
        self.powered().map(|()| value)
    }

    pub(super) fn used(&self) -> u64 {
        let linked: BTreeSet<&u64> = self.now.files.values().collect();
        linked
            .into_iter()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.length)
            .sum()
    }

    pub(super) fn change(&mut self, op: DirectoryOp) {
        self.now.apply(&op);
        self.pending.push(op);
    }

    pub(super) fn create(&mut self, name: &str) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(DirectoryOp::Link {
            name: name.to_owned(),
            inode,
        });
        inode
    }

    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        self.now
            .files
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn check_directory(&self, directory: &str) -> io::Result<()> {
        let exists = directory.is_empty() || self.now.directories.contains(directory);
        if exists {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    pub(super) fn fault(&mut self) -> io::Error {
        self.stats.faults += 1;
        input_output_error()
    }
}
