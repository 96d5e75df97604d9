//! Pure planners: which disks take a chunk's replicas.
