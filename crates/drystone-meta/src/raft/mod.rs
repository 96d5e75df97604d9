//! Raft in this server: the thread that drives the core, its I/O, its messages, and reads that wait for it.

pub(crate) mod disk_io;
pub(crate) mod drive;
pub(crate) mod handle;
pub(crate) mod log_time;
pub(crate) mod reads;
pub(crate) mod transport;
