//! A voter comes back somewhere else, perhaps as an older copy of itself, while the one before still runs: Raft with
//! three voters and four processes. The rules are those of `docs/design/0009-why-safe.md`, "One process of a voter".

use super::search::{Model, Step};

/// Processes: two voters, the one that moves, and the copy that comes in its place.
const PROCESSES: usize = 4;
const BEFORE: usize = 2;
const COPY: usize = 3;
/// The member that the last two are, each for itself.
const MOVED: usize = 2;
const ENTRIES: usize = 6;
const TERMS: u8 = 3;

/// What keeps the group one, each to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoterRule {
    /// Before another process is let in, the voter is removed.
    RemovedFirst,
    /// Nobody listens to the other process before it is registered, nor to the one before once that one is let in.
    OneIsHeard,
    /// A leader applies each change before it proposes the next one.
    OneChangeAtATime,
}

impl VoterRule {
    /// All of them.
    pub const ALL: [VoterRule; 3] = [
        VoterRule::RemovedFirst,
        VoterRule::OneIsHeard,
        VoterRule::OneChangeAtATime,
    ];
}

/// The model.
#[derive(Clone, Copy, Default, Debug)]
pub struct Voter {
    without: Option<VoterRule>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Data,
    /// The voter that moves is none any more.
    Remove,
    /// Another process speaks for the member from here on.
    Register,
    /// That one is let in, as a learner.
    Add,
    /// And votes.
    Promote,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    term: u8,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Role {
    Follower,
    Candidate { votes: [bool; 3] },
    Leader { matched: [u8; 3] },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Process {
    term: u8,
    /// For which member, in this term.
    vote: Option<u8>,
    log: [Option<Entry>; ENTRIES],
    commit: u8,
    role: Role,
}

/// How far a process has applied the move.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Before,
    Removed,
    Registered,
    Learner,
    Voter,
}

/// A moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State {
    processes: [Process; PROCESSES],
    is_copied: bool,
    /// Who led in each term.
    led: [Option<u8>; TERMS as usize + 1],
    /// Two led in one, or a leader committed something else than what was committed there.
    broken: bool,
    committed: [Option<Entry>; ENTRIES],
}

fn member(process: usize) -> usize {
    process.min(MOVED)
}

impl Process {
    fn length(&self) -> u8 {
        self.log.iter().flatten().count() as u8
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter().flatten()
    }

    fn last_term(&self) -> u8 {
        self.entries().last().map_or(0, |entry| entry.term)
    }

    fn push(&mut self, kind: Kind) -> bool {
        let term = self.term;
        let free = self.log.iter_mut().find(|entry| entry.is_none());
        free.map(|free| *free = Some(Entry { term, kind })).is_some()
    }

    /// True if a change is in the log and not committed here.
    fn is_changing(&self) -> bool {
        let mut open = self.entries().skip(usize::from(self.commit));
        open.any(|entry| entry.kind != Kind::Data)
    }

    fn follow(&mut self, term: u8) {
        if term > self.term {
            (self.term, self.vote) = (term, None);
        }
        self.role = Role::Follower;
    }
}

impl Voter {
    /// With all rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without one of the rules.
    pub fn without(self, rule: VoterRule) -> Self {
        Self { without: Some(rule) }
    }

    fn holds(&self, rule: VoterRule) -> bool {
        self.without != Some(rule)
    }

    fn stage(&self, process: &Process) -> Stage {
        let applied = process.entries().take(usize::from(process.commit));
        applied.fold(Stage::Before, |stage, entry| match entry.kind {
            Kind::Data => stage,
            Kind::Remove => Stage::Removed,
            Kind::Register if self.holds(VoterRule::RemovedFirst) => Stage::Registered,
            Kind::Add => Stage::Learner,
            Kind::Register | Kind::Promote => Stage::Voter,
        })
    }

    fn voters(&self, process: &Process) -> [bool; 3] {
        let stage = self.stage(process);
        [true, true, matches!(stage, Stage::Before | Stage::Voter)]
    }

    fn is_majority(&self, process: &Process, those: impl Fn(usize) -> bool) -> bool {
        let voters = self.voters(process);
        let all = (0..3).filter(|member| voters[*member]);
        let agreeing = all.clone().filter(|member| those(*member));
        agreeing.count() > all.count() / 2
    }

    /// Whether `to` takes what `from` says for what that member says. In between it may be either, and here it is both.
    fn hears(&self, state: &State, to: usize, from: usize) -> bool {
        if member(to) == member(from) {
            return false;
        }
        let stage = self.stage(&state.processes[to]);
        match from {
            _ if !self.holds(VoterRule::OneIsHeard) => true,
            BEFORE => stage < Stage::Learner,
            COPY => stage >= Stage::Registered,
            _ => true,
        }
    }

    fn campaign(&self, state: &State, at: usize) -> Option<State> {
        let mut next = *state;
        let process = &mut next.processes[at];
        let is_leader = matches!(process.role, Role::Leader { .. });
        if is_leader || process.term == TERMS || !self.voters(process)[member(at)] {
            return None;
        }
        let mut votes = [false; 3];
        votes[member(at)] = true;
        process.term += 1;
        process.vote = Some(member(at) as u8);
        process.role = Role::Candidate { votes };
        Some(next)
    }

    fn ask_for_vote(&self, state: &State, candidate: usize, voter: usize) -> Option<State> {
        let mut next = *state;
        let Role::Candidate { mut votes } = state.processes[candidate].role else {
            return None;
        };
        let asking = state.processes[candidate];
        let process = &mut next.processes[voter];
        if !self.hears(state, voter, candidate) || process.term > asking.term {
            return None;
        }
        if process.term < asking.term {
            process.follow(asking.term);
        }
        let name = member(candidate) as u8;
        let is_behind = (asking.last_term(), asking.length()) < (process.last_term(), process.length());
        if is_behind || process.vote.is_some_and(|vote| vote != name) {
            return Some(next);
        }
        process.vote = Some(name);
        if self.hears(state, candidate, voter) {
            votes[member(voter)] = true;
        }
        next.processes[candidate].role = Role::Candidate { votes };
        Some(next)
    }

    fn win(&self, state: &State, at: usize) -> Option<State> {
        let mut next = *state;
        let process = &mut next.processes[at];
        let Role::Candidate { votes } = process.role else {
            return None;
        };
        if !self.is_majority(process, |member| votes[member]) || !process.push(Kind::Data) {
            return None;
        }
        process.role = Role::Leader { matched: [0; 3] };
        let led = &mut next.led[usize::from(process.term)];
        next.broken |= led.is_some();
        *led = Some(at as u8);
        Some(next)
    }

    fn propose(&self, state: &State, at: usize, kind: Kind) -> Option<State> {
        let mut next = *state;
        let process = &mut next.processes[at];
        if !matches!(process.role, Role::Leader { .. }) || at == COPY || at == BEFORE {
            return None;
        }
        // A leader that was just elected has applied nothing of what it found.
        let own = process.log[..usize::from(process.commit)].iter().flatten();
        let leads_surely = own.last().is_some_and(|entry| entry.term == process.term);
        let may_change = !process.is_changing() && leads_surely;
        let needs_one = self.holds(VoterRule::OneChangeAtATime);
        let has = |kind: Kind| process.entries().any(|entry| entry.kind == kind);
        let stage = self.stage(process);
        let is_due = match kind {
            Kind::Data => return None,
            Kind::Remove => self.holds(VoterRule::RemovedFirst),
            Kind::Register if !self.holds(VoterRule::RemovedFirst) => true,
            Kind::Register => stage == Stage::Removed || (!needs_one && has(Kind::Remove)),
            Kind::Add => stage == Stage::Registered || (!needs_one && has(Kind::Register)),
            Kind::Promote => stage == Stage::Learner || (!needs_one && has(Kind::Add)),
        };
        if !is_due || has(kind) || (needs_one && !may_change) || !(state.is_copied || kind == Kind::Remove) {
            return None;
        }
        process.push(kind).then_some(next)
    }

    fn append(&self, state: &State, leader: usize, to: usize) -> Option<State> {
        let mut next = *state;
        let sending = state.processes[leader];
        let Role::Leader { mut matched } = sending.role else {
            return None;
        };
        let stage = self.stage(&sending);
        let is_member = match to {
            BEFORE => stage == Stage::Before,
            COPY => stage >= Stage::Learner,
            _ => true,
        };
        let process = &mut next.processes[to];
        if !is_member || !self.hears(state, to, leader) || process.term > sending.term {
            return None;
        }
        process.follow(sending.term);
        let length = usize::from(sending.length());
        if process.log[..length] != sending.log[..length] {
            process.log = sending.log;
        }
        process.commit = process.commit.max(sending.commit);
        if self.hears(state, leader, to) {
            let known = &mut matched[member(to)];
            *known = (*known).max(sending.length());
        }
        next.processes[leader].role = Role::Leader { matched };
        Some(next)
    }

    fn commit(&self, state: &State, at: usize) -> Option<State> {
        let mut next = *state;
        let process = &mut next.processes[at];
        let Role::Leader { matched } = process.role else {
            return None;
        };
        let acknowledged =
            |index: u8| self.is_majority(process, |who| who == member(at) || matched[who] >= index);
        let of_term = |index: u8| {
            let entry = process.log[usize::from(index) - 1];
            entry.is_some_and(|entry| entry.term == process.term)
        };
        let mut open = (process.commit + 1..=process.length()).rev();
        let index = open.find(|index| acknowledged(*index) && of_term(*index))?;
        process.commit = index;
        for (known, entry) in next.committed.iter_mut().zip(process.log).take(index.into()) {
            next.broken |= known.is_some() && *known != entry;
            *known = entry;
        }
        Some(next)
    }
}

impl Model for Voter {
    type State = State;

    fn start(&self) -> State {
        let mut process = Process {
            term: 1,
            vote: Some(0),
            log: [None; ENTRIES],
            commit: 0,
            role: Role::Follower,
        };
        process.push(Kind::Data);
        let mut processes = [process; PROCESSES];
        processes[0].role = Role::Leader { matched: [0; 3] };
        let mut led = [None; TERMS as usize + 1];
        led[1] = Some(0);
        State {
            processes,
            is_copied: false,
            led,
            broken: false,
            committed: [None; ENTRIES],
        }
    }

    fn steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        if !state.is_copied {
            let mut next = *state;
            next.processes[COPY] = Process {
                role: Role::Follower,
                ..state.processes[BEFORE]
            };
            next.is_copied = true;
            step(("copy process", BEFORE as u8), next);
        }
        let processes = 0..if state.is_copied { PROCESSES } else { COPY };
        for at in processes.clone() {
            let name = at as u8;
            let alone = [
                ("campaign", self.campaign(state, at)),
                ("win", self.win(state, at)),
                ("remove, by", self.propose(state, at, Kind::Remove)),
                ("register, by", self.propose(state, at, Kind::Register)),
                ("add, by", self.propose(state, at, Kind::Add)),
                ("promote, by", self.propose(state, at, Kind::Promote)),
                ("commit, at", self.commit(state, at)),
            ];
            for (what, next) in alone {
                next.into_iter().for_each(|next| step((what, name), next));
            }
            for to in processes.clone() {
                let pair = name * 10 + to as u8;
                let asked = self.ask_for_vote(state, at, to);
                asked.into_iter().for_each(|next| step(("vote", pair), next));
                let sent = self.append(state, at, to);
                sent.into_iter().for_each(|next| step(("append", pair), next));
            }
        }
    }

    fn fault(&self, state: &State) -> Option<&'static str> {
        let lost = state.processes.iter().any(|process| {
            let mut known = process
                .log
                .iter()
                .zip(&state.committed)
                .take(process.commit.into());
            known.any(|(here, committed)| here != committed)
        });
        (lost || state.broken).then_some("two led in one term, or what was committed is another entry now")
    }
}
