//! The open batch.
