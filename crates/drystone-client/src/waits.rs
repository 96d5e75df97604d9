//! What a client process is waiting for, for whoever shows it to a person: the library itself prints nothing.
//!
//! A question that failed is asked again until its deadline, which may be half a minute away. From its first failure on
//! it stands in [`Waits`], with what came of asking whom; when it ends, however it ends, it stands there no more.

use crate::locks;
use drystone_env::Monotonic;
use drystone_env::sync::Mutex;
use drystone_rpc::{CallError, NotSent, Uncertain};
use drystone_types::Code;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Servers that one wait names: more than anybody reads.
const MAX_TRIED: usize = 16;

/// What is waited for now. Clones share it: keep one of the clone that [`crate::Options`] takes.
#[derive(Clone, Debug)]
pub struct Waits(Arc<Mutex<WaitList>>);

#[derive(Debug, Default)]
struct WaitList {
    next: u64,
    waits: BTreeMap<u64, Wait>,
}

/// One thing that is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// What, in words that go on from "waiting for".
    pub what: &'static str,
    /// Since when.
    pub began: Monotonic,
    /// When it is given up.
    pub until: Monotonic,
    /// What was tried so far.
    pub tried: Tried,
}

/// Whom a question was put to, and what came of it the last time: `127.0.0.1:9710 does not answer, ...`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tried(Vec<(String, String)>);

impl Default for Waits {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(locks::WAITS, WaitList::default())))
    }
}

/// Equal if they are clones of each other.
impl PartialEq for Waits {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Waits {
    /// `wait` goes on until what is returned is dropped.
    pub fn begin(&self, wait: Wait) -> Waiting {
        let mut list = self.0.lock();
        let number = list.next;
        list.next += 1;
        list.waits.insert(number, wait);
        Waiting {
            waits: self.clone(),
            number,
        }
    }

    /// What is waited for now, the oldest entry first.
    pub fn now(&self) -> Vec<Wait> {
        self.0.lock().waits.values().cloned().collect()
    }
}

/// A wait that goes on.
#[derive(Debug)]
pub struct Waiting {
    waits: Waits,
    number: u64,
}

impl Waiting {
    /// More was tried.
    pub(crate) fn tried(&self, tried: &Tried) {
        if let Some(wait) = self.waits.0.lock().waits.get_mut(&self.number) {
            wait.tried.clone_from(tried);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.0.lock().waits.remove(&self.number);
    }
}

impl Tried {
    /// `outcome` is what came of asking `whom`; together they are a sentence.
    pub fn note(&mut self, whom: &str, outcome: impl Into<String>) {
        let outcome = outcome.into();
        if let Some((_, before)) = self.0.iter_mut().find(|(known, _)| known == whom) {
            *before = outcome;
        } else if self.0.len() < MAX_TRIED {
            self.0.push((whom.to_owned(), outcome));
        }
    }

    /// Nothing was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (whom, outcome)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{whom} {outcome}")?;
        }
        Ok(())
    }
}

/// What came of a call, in words that go on from the name of the server.
pub(crate) fn outcome(error: &CallError) -> String {
    match error {
        CallError::NotSent(NotSent::Unreachable { reason, .. }) => format!("cannot be reached ({reason})"),
        CallError::NotSent(NotSent::Hello(reply)) => format!("refuses the connection ({})", reply.message),
        CallError::NotSent(NotSent::Deadline) | CallError::Unknown(Uncertain::Deadline) => {
            "does not answer".to_owned()
        }
        CallError::Unknown(Uncertain::Lost { reason, .. }) => format!("broke the connection off ({reason})"),
        CallError::Refused(_) if error.code() == Code::NotLeader => "does not lead".to_owned(),
        CallError::Refused(reply) if error.code() == Code::Busy && reply.message.is_empty() => {
            "is busy".to_owned()
        }
        CallError::Refused(reply) if error.code() == Code::Busy => format!("is busy ({})", reply.message),
        CallError::Refused(reply) if reply.message.is_empty() => format!("says {}", error.code().name()),
        CallError::Refused(reply) => format!("says {} ({})", error.code().name(), reply.message),
        CallError::NotSent(_) | CallError::Unknown(_) => format!("was not asked ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_stands_there_until_it_ends() {
        let waits = Waits::default();
        let wait = Wait {
            what: "a test",
            began: Monotonic(1),
            until: Monotonic(2),
            tried: Tried::default(),
        };
        let waiting = waits.begin(wait.clone());
        let other = waits.begin(Wait {
            what: "another",
            ..wait.clone()
        });
        let mut tried = Tried::default();
        tried.note("a:1", "does not answer");
        tried.note("b:1", "is busy");
        tried.note("a:1", "does not lead");
        waiting.tried(&tried);
        let now = waits.clone().now();
        assert_eq!((now.len(), now[0].what), (2, "a test"));
        assert_eq!(now[0].tried.to_string(), "a:1 does not lead, b:1 is busy");
        drop(waiting);
        assert_eq!(waits.now()[0].what, "another");
        drop(other);
        assert_eq!(waits.now(), []);
    }

    #[test]
    fn a_wait_names_a_bounded_number_of_servers() {
        let mut tried = Tried::default();
        (0..1_000).for_each(|at| tried.note(&at.to_string(), "does not answer"));
        assert_eq!(tried.0.len(), MAX_TRIED);
    }
}
