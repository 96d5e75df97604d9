//! One disk of a chunk server: journal, slots, checksums, recovery.
