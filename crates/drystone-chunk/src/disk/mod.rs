//! The disks of this server: their directories, the thread of each with its store, and what they have done.
//!
//! Read [`directory`] (who a directory is), [`open`], [`watched`] (which disk hangs meanwhile), [`disks`], [`runner`] (the thread of one disk), [`ops`] (requests in the words of
//! the wire), [`load`] (what the heartbeat reports of a disk).

mod class_queue;
pub(crate) mod directory;
pub(crate) mod disks;
pub(crate) mod load;
pub(crate) mod open;
pub(crate) mod ops;
pub(crate) mod runner;
mod watched;
