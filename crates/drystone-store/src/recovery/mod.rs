//! Opening a store.

mod adopt;
mod fault;
mod files;
mod open;
mod replay;

pub(crate) use open::{RecoveredParts, open};
