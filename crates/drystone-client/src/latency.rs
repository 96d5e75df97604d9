//! How long things usually take.
