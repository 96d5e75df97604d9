//! One process for each member: whose words count when two run under one id.
//!
//! Raft trusts a voter to remember what it voted and what it acknowledged. A copy of its directory does not, and one
//! that was wiped remembers nothing, so each counts boots, and messages name the boot that sends them. Safety rests on
//! three things, and on no clock. A log that was begun has a number that was drawn then, so an empty one is found out
//! however often it was started. At one address one process can listen, so a higher boot from the address that is known
//! is the same directory started again; a lower one, or an equal one with another random part, is not, and is not
//! heard. A voter that comes back at another address may be a copy that is older than what was acknowledged: it loses
//! its vote, by a change of membership like any other, and is a voter again when it has caught up as a learner. Silence
//! of the predecessor is asked for besides, so that a copy does not take the place of a server that works.

use crate::locks::PROCESSES;
use drystone_env::Monotonic;
use drystone_env::planted::{Bug, planted};
use drystone_env::sync::Mutex;
use drystone_proto::record::{NodeRecord, role};
use drystone_types::{BootId, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// A process that the leader has not heard for so long may be replaced by one elsewhere: some election timeouts.
const SILENCE: Duration = Duration::from_secs(2);
/// Members that are remembered: more than any cluster has; what comes from more is not heard.
const REMEMBERED: usize = 64;

/// A process of a member.
pub(crate) struct Process {
    pub(crate) boot: BootId,
    /// Number of its log; 0: not known.
    pub(crate) log: u64,
    pub(crate) address: String,
    heard: Monotonic,
    /// Counter of the last boot that the replicated state named: records only follow higher ones.
    recorded: u64,
}

impl Process {
    /// One that was not heard yet.
    pub(crate) fn new(boot: BootId, log: u64, address: String) -> Self {
        Self {
            boot,
            log,
            address,
            heard: Monotonic::default(),
            recorded: 0,
        }
    }

    fn recorded(record: &NodeRecord) -> Self {
        let boot = BootId {
            counter: record.boot_counter,
            random: record.boot_random,
        };
        Self {
            recorded: boot.counter,
            ..Self::new(boot, record.log, record.address.clone())
        }
    }

    fn has_other_log(&self, other: u64) -> bool {
        self.log != 0 && other != 0 && self.log != other
    }
}

/// See the module.
pub(crate) struct Processes {
    me: NodeId,
    boot: BootId,
    log: u64,
    known: Mutex<BTreeMap<NodeId, Process>>,
}

/// Whether a process that may be registered is where its member was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AddressChange {
    /// It is where its member was, or nothing is known of that.
    Unchanged,
    /// It is at another address: it may have forgotten what its predecessor promised.
    Moved,
}

/// What a record means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RecordVerdict {
    /// Its process speaks for its member.
    Counts,
    /// A later process of the member is known.
    Outdated,
    /// The record names another process in the place of this one, which must stop; why, in words.
    Superseded(String),
}

/// Why a process is not registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotRegistered {
    /// Another process of its node is alive; that may change.
    PredecessorLives(String),
    /// Another process of its node is registered and came later: this one never will be.
    Superseded(String),
}

impl Processes {
    /// Of the process `boot` of `me`, with this log.
    pub(crate) fn new(me: NodeId, boot: BootId, log: u64) -> Self {
        Self {
            me,
            boot,
            log,
            known: Mutex::new(PROCESSES, BTreeMap::new()),
        }
    }

    /// True if what this process of `node` says at `now` counts. `record` is looked up when nothing was heard of the
    /// node yet.
    pub(crate) fn hear(
        &self,
        node: NodeId,
        speaker: Process,
        now: Monotonic,
        record: impl FnOnce() -> Option<NodeRecord>,
    ) -> bool {
        if node == self.me {
            return false;
        }
        // The state has a lock of its own: it is not taken within this one.
        let is_known = self.known.lock().contains_key(&node);
        let record = if is_known { None } else { record() };
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED && !known.contains_key(&node) {
            return false;
        }
        let (boot, log) = (speaker.boot, speaker.log);
        let process = known.entry(node).or_insert_with(|| match &record {
            Some(record) => Process::recorded(record),
            None => Process::new(boot, log, speaker.address.clone()),
        });
        let again = process.address == speaker.address && boot.counter > process.boot.counter;
        let counts =
            (again || boot == process.boot) && !process.has_other_log(log) || planted(Bug::EveryProcessHeard);
        if counts {
            (process.boot, process.heard) = (boot, now);
        }
        counts
    }

    /// Whether the leader, which leads since `begun`, registers the process that sends this record.
    pub(crate) fn admit(
        &self,
        record: &NodeRecord,
        begun: Monotonic,
        now: Monotonic,
    ) -> Result<AddressChange, NotRegistered> {
        let (node, new) = (NodeId(record.id), Process::recorded(record));
        let known = self.known.lock();
        let (boot, address, elsewhere, lives) = match known.get(&node) {
            _ if node == self.me => (self.boot, "this one", true, true),
            Some(known) if known.has_other_log(new.log) => {
                return Err(NotRegistered::Superseded(format!(
                    "node {node} has another log: this one was begun anew"
                )));
            }
            Some(known) => {
                let elsewhere = known.address != new.address;
                let lives = now.since(known.heard.max(begun)) < SILENCE;
                (known.boot, known.address.as_str(), elsewhere, lives && elsewhere)
            }
            None => return Ok(AddressChange::Unchanged),
        };
        let other = || {
            format!(
                "another process of node {node}, boot {}, counts: {address}",
                boot.counter
            )
        };
        match new.boot.counter > boot.counter {
            _ if new.boot == boot => Ok(AddressChange::Unchanged),
            true if lives => Err(NotRegistered::PredecessorLives(other())),
            true if elsewhere => Ok(AddressChange::Moved),
            true => Ok(AddressChange::Unchanged),
            false => Err(NotRegistered::Superseded(other())),
        }
    }

    /// Takes what the replicated state says, or said, of a metadata server.
    pub(crate) fn recorded(&self, record: &NodeRecord, now: Monotonic) -> RecordVerdict {
        let node = NodeId(record.id);
        let new = Process {
            heard: now,
            ..Process::recorded(record)
        };
        // Of one that was fenced before it ever told of itself there is a record without a process.
        if record.roles & role::METADATA == 0 || record.boot_counter == 0 {
            return RecordVerdict::Outdated;
        }
        if node == self.me {
            let later = new.boot.counter >= self.boot.counter && new.boot != self.boot;
            return match later || new.has_other_log(self.log) {
                true => RecordVerdict::Superseded(format!(
                    "another process of node {node} was started on a copy of this directory, or on what it was before: \
                     this one must not go on"
                )),
                false if new.boot == self.boot => RecordVerdict::Counts,
                false => RecordVerdict::Outdated,
            };
        }
        let mut known = self.known.lock();
        let is_full = known.len() >= REMEMBERED;
        match known.get_mut(&node) {
            None if is_full => return RecordVerdict::Outdated,
            Some(process) if new.recorded < process.recorded => return RecordVerdict::Outdated,
            // It was heard, or started again there since.
            Some(process)
                if process.address == new.address
                    && (process.boot == new.boot || process.boot.counter > new.boot.counter) =>
            {
                process.recorded = new.recorded;
            }
            // However high the boots of the one before are: it is somewhere else.
            _ => drop(known.insert(node, new)),
        }
        RecordVerdict::Counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    fn boot(counter: u64, random: u64) -> BootId {
        BootId { counter, random }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(100_000_000 + seconds * 1_000_000)
    }

    fn record(counter: u64, random: u64, address: &str) -> NodeRecord {
        NodeRecord {
            id: NODE.0,
            roles: role::METADATA,
            address: address.to_owned(),
            boot_counter: counter,
            boot_random: random,
            ..NodeRecord::default()
        }
    }

    fn process(counter: u64, random: u64, address: &str) -> Process {
        Process::new(boot(counter, random), 0, address.to_owned())
    }

    fn processes() -> Processes {
        Processes::new(NodeId(1), boot(1, 1), 7)
    }

    /// A partition in which this server hears restarts of the original that nobody registers.
    #[test]
    fn what_is_registered_elsewhere_counts_however_often_the_original_was_started() {
        let here = processes();
        let heard = |boot, address: &str| here.hear(NODE, process(boot, boot, address), at(1), || None);
        assert_eq!(here.recorded(&record(6, 6, "a"), at(0)), RecordVerdict::Counts);
        assert!(heard(8, "a"));
        assert_eq!(
            here.recorded(&record(6, 6, "a"), at(1)),
            RecordVerdict::Counts,
            "told again"
        );
        assert!(heard(8, "a"));
        assert_eq!(here.recorded(&record(7, 7, "b"), at(1)), RecordVerdict::Counts);
        assert!(!heard(8, "a") && !heard(9, "a"));
        assert!(heard(7, "b") && heard(8, "b"));
        assert_eq!(here.recorded(&record(6, 6, "a"), at(2)), RecordVerdict::Outdated);
        assert_eq!(here.recorded(&record(0, 0, ""), at(2)), RecordVerdict::Outdated);
        assert!(heard(8, "b") && !heard(9, "a"));
    }

    #[test]
    fn a_restart_counts_at_once_and_what_went_before_no_more() {
        let here = processes();
        assert!(here.hear(NODE, process(5, 50, "a"), at(0), || None));
        assert!(here.hear(NODE, process(6, 60, "a"), at(0), || None));
        assert!(
            !here.hear(NODE, process(5, 50, "a"), at(9), || None),
            "a late frame"
        );
        assert!(!here.hear(NODE, process(6, 61, "a"), at(9), || None), "a copy");
        assert!(
            !here.hear(NodeId(1), process(9, 9, "b"), at(9), || None),
            "that is me"
        );
    }

    #[test]
    fn a_process_at_another_address_is_heard_once_it_is_recorded() {
        let here = processes();
        assert!(here.hear(NODE, process(5, 50, "a"), at(0), || None));
        assert!(!here.hear(NODE, process(6, 60, "b"), at(90), || None));
        let moved = record(6, 60, "b");
        assert!(matches!(
            here.admit(&moved, at(0), at(1)),
            Err(NotRegistered::PredecessorLives(_))
        ));
        assert!(
            matches!(
                here.admit(&moved, at(9), at(10)),
                Err(NotRegistered::PredecessorLives(_))
            ),
            "a new leader"
        );
        assert_eq!(here.admit(&moved, at(0), at(2)), Ok(AddressChange::Moved));
        assert_eq!(here.recorded(&moved, at(2)), RecordVerdict::Counts);
        assert!(here.hear(NODE, process(6, 60, "b"), at(3), || None));
        assert!(
            !here.hear(NODE, process(5, 50, "a"), at(3), || None),
            "it woke up"
        );
        let superseded = |record: &NodeRecord| here.admit(record, at(0), at(90));
        assert!(matches!(
            superseded(&record(5, 50, "a")),
            Err(NotRegistered::Superseded(_))
        ));
        assert!(matches!(
            superseded(&record(6, 61, "a")),
            Err(NotRegistered::Superseded(_))
        ));
    }

    #[test]
    fn what_is_recorded_counts_before_anything_was_heard() {
        let here = processes();
        let known = || Some(record(5, 50, "a"));
        assert!(
            !here.hear(NODE, process(1, 70, "a"), at(0), known),
            "it was wiped"
        );
        assert!(!here.hear(NODE, process(6, 60, "b"), at(9), known), "a copy");
        assert!(here.hear(NODE, process(6, 60, "a"), at(9), known));
    }

    #[test]
    fn a_log_that_was_begun_anew_is_not_heard_however_often_it_was_started() {
        let (here, log) = (processes(), |log, process| Process { log, ..process });
        let known = NodeRecord {
            log: 8,
            ..record(5, 50, "a")
        };
        let hear = |process| here.hear(NODE, process, at(0), || Some(known.clone()));
        assert!(!hear(log(9, process(6, 60, "a"))));
        assert!(hear(log(8, process(6, 60, "a"))));
        let again = NodeRecord {
            log: 9,
            ..record(7, 70, "a")
        };
        assert!(matches!(
            here.admit(&again, at(0), at(90)),
            Err(NotRegistered::Superseded(_))
        ));
    }

    #[test]
    fn a_process_ends_when_another_one_of_its_node_is_recorded() {
        let is_superseded = |counter, random| {
            let record = NodeRecord {
                id: 1,
                ..record(counter, random, "a")
            };
            matches!(processes().recorded(&record, at(0)), RecordVerdict::Superseded(_))
        };
        assert!(
            !is_superseded(1, 1) && !is_superseded(0, 9),
            "its own, and one that went before"
        );
        assert!(is_superseded(1, 2) && is_superseded(2, 1));
    }
}
