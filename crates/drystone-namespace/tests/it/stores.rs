//! Flush, damage, snapshots.
