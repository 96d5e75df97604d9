//! The Raft driver and its log: raft-rs over drystone-wal, synchronous and deterministic.
