//! Blocking helpers for tests and tools: the shell's loop in one call.

use crate::{Lsn, Wal, WalError};
use drystone_env::{BufferPool, IoRequest, Monotonic};
use std::collections::VecDeque;

/// Flushes `wal` and executes its requests, one after another on this thread, until nothing is open or in
/// flight, or the log is [starved](Wal::starved). Returns the highest durable record.
///
/// # Errors
/// [`WalError::Failed`] as from [`Wal::on_completion`].
pub fn drain(wal: &mut Wal, now: Monotonic, pool: &BufferPool) -> Result<Lsn, WalError> {
    let mut out = Vec::new();
    wal.flush(now, &mut out);
    run(wal, now, out, pool)
}

/// Executes `requests`, all of them the log's own, and those that follow from them, until none is left. Returns
/// the highest durable record.
///
/// # Errors
/// [`WalError::Failed`] as from [`Wal::on_completion`].
pub fn run(
    wal: &mut Wal,
    now: Monotonic,
    requests: Vec<IoRequest>,
    pool: &BufferPool,
) -> Result<Lsn, WalError> {
    let mut queue = VecDeque::from(requests);
    let mut out = Vec::new();
    while let Some(request) = queue.pop_front() {
        let completion = request.execute(pool);
        wal.on_completion(now, completion, &mut out)?;
        queue.extend(out.drain(..));
    }
    Ok(wal.durable())
}
