//! What the clients did and were told, in the world's time.

use crate::model::{Op, Seen};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// One operation of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Who.
    pub client: u32,
    /// What.
    pub op: Op,
    /// When it began, in microseconds.
    pub invoked: u64,
    /// When its answer came; `None`: not yet, or it may have happened (`unknown`).
    pub returned: Option<u64>,
    /// The answer.
    pub seen: Option<Seen>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.returned.map_or("......".to_owned(), |at| at.to_string());
        write!(
            f,
            "client {} {:>9}..{:>9} {:?} -> ",
            self.client, self.invoked, end, self.op
        )?;
        match &self.seen {
            Some(seen) => write!(f, "{seen:?}"),
            None => f.write_str("unknown"),
        }
    }
}

/// The history of one run. Clones are the same one.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Vec<Call>>>);

impl History {
    fn calls_mut(&self) -> std::sync::MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation begins; the answer names it.
    pub fn begin(&self, client: u32, op: Op, now: u64) -> usize {
        let mut calls = self.calls_mut();
        calls.push(Call {
            client,
            op,
            invoked: now,
            returned: None,
            seen: None,
        });
        calls.len() - 1
    }

    /// Its answer.
    pub fn end(&self, call: usize, now: u64, seen: Seen) {
        let mut calls = self.calls_mut();
        calls[call].returned = Some(now);
        calls[call].seen = Some(seen);
    }

    /// It had no effect and told nothing.
    pub fn forget(&self, call: usize) {
        let mut calls = self.calls_mut();
        // Its place stays, so that the others keep their numbers: a look at the root that began and never ended.
        calls[call].op = Op::List { path: String::new() };
    }

    /// All calls so far, in order of their beginning.
    pub fn calls(&self) -> Vec<Call> {
        self.calls_mut().clone()
    }
}
