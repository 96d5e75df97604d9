//! Opening a log.
