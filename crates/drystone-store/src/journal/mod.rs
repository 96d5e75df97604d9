//! The journal: its records, and who waits for them.

mod queue;
mod record;

pub(crate) use queue::{AfterRecord, Journal};
pub(crate) use record::JournalRecord;
