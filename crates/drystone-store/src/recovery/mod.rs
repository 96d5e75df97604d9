//! Opening a store.

mod adopt;
mod fault;
mod files;
mod leaves;
mod open;
mod replay;

pub(crate) use open::{RecoveredParts, open};
