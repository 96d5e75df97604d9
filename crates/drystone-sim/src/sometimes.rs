//! Counters which show that faults hit something and that rare branches ran: what never happened was never tested.
//!
//! [`LIST`] names all of them. A run of many seeds fails if one that its scenario is to bring about never fired, or if
//! something was counted that is not listed.

use crate::scenario::Kind;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// From so many seeds on everything that is listed must have happened.
pub const ENOUGH_SEEDS: u64 = 500;

/// In which scenarios something is to happen.
#[derive(Clone, Copy, Debug)]
enum When {
    /// In these, within [`ENOUGH_SEEDS`].
    In(&'static [Kind]),
    /// Not to be relied upon, for a reason.
    Rare(&'static str),
}

use Kind::{Lone, Mixed, Names, Retry, Rot, Space};
use When::{In, Rare};

/// With faults drawn at large.
const FAULTS: When = In(&[Mixed, Retry, Rot, Names]);
/// With chunk servers besides.
const CHUNKS: When = In(&[Mixed, Retry, Rot]);

/// Everything that is counted.
const LIST: &[(&str, When)] = &[
    // Processes and power.
    ("killed", FAULTS),
    ("power cut", FAULTS),
    ("power cut of all", FAULTS),
    ("unsynced blocks at a power cut", In(&[Mixed, Retry, Rot, Space])),
    ("state store with a hole", CHUNKS),
    ("paused", FAULTS),
    ("client killed", FAULTS),
    ("client killed during a change", FAULTS),
    // Leaders.
    ("leader stopped", FAULTS),
    ("leader paused", In(&[Retry])),
    ("leader cut off from its followers", In(&[Retry, Names])),
    ("leader deposed while it stood still", In(&[Names])),
    ("leadership transfer asked for", FAULTS),
    ("leadership transfer refused", FAULTS),
    // Members.
    ("metadata server joins", FAULTS),
    ("voter replaced", FAULTS),
    ("voter not replaced yet", FAULTS),
    ("copied voter beside the original", FAULTS),
    ("copied voter together with the original", FAULTS),
    ("voter wiped and started under its old id", FAULTS),
    (
        "voter wiped before anybody had recorded it",
        Rare("in the first moments of a cluster"),
    ),
    ("a voter moves", FAULTS),
    ("an older copy takes the place of a voter", FAULTS),
    ("a voter counts at another address", FAULTS),
    ("a damaged node stayed out of service", FAULTS),
    ("1 voters compared", In(&[Mixed, Rot])),
    ("2 voters compared", CHUNKS),
    ("3 voters compared", FAULTS),
    ("4 voters compared", In(&[Mixed, Retry])),
    ("5 voters compared", FAULTS),
    (
        "0 voters compared",
        Rare("every voter is out of service: more than a run may bring about"),
    ),
    (
        "voters differed at the first look",
        Rare("an entry was on its way just then"),
    ),
    (
        "a cloned voter was not told yet at the first look",
        Rare("it finds a dead connection just then"),
    ),
    // The network.
    ("link cut", FAULTS),
    ("links slow and lossy", FAULTS),
    ("client cut off during a change", In(&[Retry])),
    ("network stalls", FAULTS),
    ("segments lost", FAULTS),
    ("connections reset", FAULTS),
    ("connections unanswered", FAULTS),
    // Disks and clocks.
    (
        "a disk looked at when its server starts again",
        In(&[Mixed, Retry, Rot, Space]),
    ),
    ("disk faults", FAULTS),
    ("bit flipped", CHUNKS),
    ("disk full", FAULTS),
    ("disk slow", FAULTS),
    ("disk stalled", In(&[Mixed, Retry, Rot, Names, Space])),
    ("wall clock set wrong", FAULTS),
    ("clock drifts", FAULTS),
    ("a damaged disk does not open", In(&[Mixed, Rot])),
    // Chunk servers that come back as others.
    ("chunk server wiped", CHUNKS),
    ("one disk of several wiped", CHUNKS),
    ("clone beside the original", CHUNKS),
    ("clone together with the original", CHUNKS),
    // What clients were told.
    ("answer unknown", In(&[Mixed, Retry, Names])),
    ("answer unavailable", FAULTS),
    (
        "tiny content moved to a chunk",
        Rare("a voter dies or stalls within the moments before the leader notices"),
    ),
    ("answer not_enough_domains", In(&[Mixed, Rot, Names])),
    (
        "answer changed",
        Rare("a writer has to overtake a reader between two of its questions"),
    ),
    (
        "answer busy",
        Rare("what is bounded is larger than four clients ask for"),
    ),
    ("answer no_space", Rare("one full disk of many is written around")),
    (
        "answer corrupt",
        Rare("the only replica, on the one server that garbles"),
    ),
    (
        "a last write was refused",
        Rare("a leader that is younger than its servers' first heartbeat"),
    ),
    (
        "a layout could not be read",
        Rare("a leader changed between two questions of the last client"),
    ),
    (
        "content lost with its only replica",
        Rare("one replica was enough, and its server was the one harmed"),
    ),
    // Checks.
    ("acknowledged content looked at", CHUNKS),
    ("replicas compared", In(&[Mixed, Retry, Rot, Space])),
    ("records of voters checked", In(&[Mixed, Retry, Rot, Lone, Names])),
    (
        "chunks staged for nobody",
        Rare("a client dies between staging, at half the age of a grant, and publishing"),
    ),
    ("disks settled before the time was over", CHUNKS),
    ("linearizable", In(&[Mixed, Retry, Rot, Lone, Names, Space])),
    (
        "linearizability undecided",
        Rare("a search that was given up: none is best"),
    ),
    ("the newest of several segments lost", In(&[Lone])),
    ("a damaged log was refused", In(&[Lone])),
    ("a damaged log was opened", In(&[Lone])),
];

thread_local! {
    static SEEN: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts one more of `what`, on this thread.
pub fn sometimes(what: &str) {
    sometimes_many(what, 1);
}

/// Counts `count` more of `what`.
pub fn sometimes_many(what: &str, count: u64) {
    SEEN.with_borrow_mut(|seen| match seen.get_mut(what) {
        Some(known) => *known += count,
        None => {
            seen.insert(what.to_owned(), count);
        }
    });
}

/// Takes what this thread has counted.
pub fn take() -> BTreeMap<String, u64> {
    SEEN.take()
}

/// What is rare and did not happen, with the reason why that may be.
pub fn missed(seen: &BTreeMap<String, u64>) -> Vec<String> {
    let missed = LIST.iter().filter_map(|(name, when)| match when {
        Rare(why) if seen.get(*name).copied().unwrap_or(0) == 0 => Some(format!("{name} ({why})")),
        _ => None,
    });
    missed.collect()
}

/// What is wrong with the counts of many seeds of a scenario.
pub fn faults(kind: Kind, seen: &BTreeMap<String, u64>) -> Vec<String> {
    let count = |name: &str| seen.get(name).copied().unwrap_or(0);
    let never = LIST.iter().filter(|(name, when)| match when {
        In(kinds) => kinds.contains(&kind) && count(name) == 0,
        Rare(_) => false,
    });
    let never = never.map(|(name, _)| format!("{name}: never happened"));
    let listed = |name: &String| LIST.iter().any(|(known, _)| known == name);
    let unlisted = seen.keys().filter(|name| !listed(name));
    never
        .chain(unlisted.map(|name| format!("{name}: is not in the list of sometimes.rs")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_and_what_nobody_listed_is_told() {
        let named = |name: &str| (name.to_owned(), 1);
        let mut all: BTreeMap<String, u64> = LIST.iter().map(|(name, _)| named(name)).collect();
        assert_eq!(faults(Mixed, &all), Vec::<String>::new());
        all.insert("power cut".to_owned(), 0);
        all.remove("linearizable");
        all.insert("something new".to_owned(), 3);
        assert_eq!(faults(Mixed, &all).len(), 3);
        assert_eq!(faults(Lone, &all).len(), 2, "it has no power cuts");
        all.remove("answer busy");
        assert_eq!(faults(Mixed, &all).len(), 3, "that is rare");
    }
}
