//! What must hold whatever happens.

use super::Sim;
use drystone_env::Rng;
use drystone_raft::{CommittedEntry, EntryKind, OpenedEntry, Output};
use drystone_types::Term;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Default)]
pub struct Oracle {
    /// Who led in a term.
    leaders: BTreeMap<u64, u64>,
    /// Every entry that anybody was given, by index.
    pub log: BTreeMap<u64, (Term, EntryKind)>,
    /// What each member was given last.
    given: BTreeMap<u64, u64>,
    /// Index and term of the last acknowledged proposal, by term.
    acknowledged: BTreeMap<u64, u64>,
    pub digest: u64,
    pub events: u64,
    text: String,
}

impl Oracle {
    pub fn trace(&mut self, now: u64, id: u64, output: &Output) {
        self.text.clear();
        write!(self.text, "{now} {id} {output:?}").expect("to memory");
        self.events += 1;
        for byte in self.text.bytes() {
            self.digest = (self.digest ^ u64::from(byte))
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(5);
        }
    }

    pub fn started(&mut self, id: u64, applied: u64) {
        self.given.insert(id, applied);
    }

    pub fn leads(&mut self, seed: u64, id: u64, term: u64, last: u64) {
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "seed {seed}: two leaders in term {term}");
        for (of, index) in self.acknowledged.range(..term) {
            assert!(
                *index <= last,
                "seed {seed}: leader {id} of term {term} ends at {last}, lacks {index} of {of}"
            );
        }
    }

    pub fn acknowledged(&mut self, index: u64, term: u64) {
        let last = self.acknowledged.entry(term).or_default();
        *last = (*last).max(index);
    }

    /// An entry was applied while a log was opened: the one that everybody was given.
    pub fn opened(&mut self, seed: u64, id: u64, entry: &OpenedEntry) {
        let given = self.given.entry(id).or_default();
        let next = (*given + 1).max(2);
        assert_eq!(
            entry.index.0, next,
            "seed {seed}: member {id} opens after {given}"
        );
        *given = next;
        if let Some((term, kind)) = self.log.get(&next) {
            let known = match kind {
                EntryKind::Command(data) => Some(data),
                _ => None,
            };
            let found = (entry.term, entry.command.as_ref());
            assert_eq!(
                found,
                (*term, known),
                "seed {seed}: member {id} opens with {next}"
            );
        }
    }

    pub fn committed(&mut self, seed: u64, id: u64, entry: &CommittedEntry) {
        let given = self.given.entry(id).or_default();
        // A new group's state is "as of index 1".
        let next = (*given + 1).max(2);
        assert_eq!(entry.index.0, next, "seed {seed}: member {id} after {given}");
        *given = next;
        let known = self
            .log
            .entry(next)
            .or_insert_with(|| (entry.term, entry.kind.clone()));
        assert_eq!(
            known,
            &(entry.term, entry.kind.clone()),
            "seed {seed}: member {id} index {next}"
        );
    }
}

impl Sim {
    /// After healing everybody agrees and somebody leads.
    pub fn check_settled(&mut self) {
        let seed = self.plan.seed;
        let voters = self.voters_now();
        let leaders: Vec<u64> = voters
            .iter()
            .copied()
            .filter(|id| {
                self.members[id]
                    .node
                    .as_ref()
                    .is_some_and(|node| node.leads_surely())
            })
            .collect();
        assert_eq!(leaders.len(), 1, "seed {seed}: leaders {leaders:?}");
        let want = self.members[&leaders[0]].state;
        for id in voters {
            let status = self.members[&id].node.as_ref().map(|node| node.status());
            assert_eq!(
                self.members[&id].state, want,
                "seed {seed}: member {id}: {status:?}"
            );
        }
        self.check_clients();
        let mut state = super::State::EMPTY;
        for (index, (term, kind)) in &self.oracle.log {
            let index = drystone_types::LogIndex(*index);
            state.apply(&CommittedEntry {
                index,
                term: *term,
                kind: kind.clone(),
                token: None,
            });
        }
        assert_eq!(state, want, "seed {seed}: the log as delivered");
        let rest = self.rng.next_u64();
        self.oracle.digest ^= rest;
    }
}
