//! The replicated state as this server keeps it: applied in memory, written to a store, exchanged as snapshots.

pub(crate) mod applied;
pub(crate) mod apply;
pub(crate) mod ballast;
pub(crate) mod catch_up;
pub(crate) mod cell;
pub(crate) mod flush;
pub(crate) mod readers;
mod room;
pub(crate) mod snapshot;
pub mod store;
pub mod stores;
