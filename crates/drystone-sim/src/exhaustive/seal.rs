//! Appends to a shared chunk, recoveries that overlap, and the deletion of the sealed chunk.
//! The rules are those of `docs/design/0009-why-safe.md`, "Epochs and seals".

use super::search::{Model, Step};

const REPLICAS: usize = 3;
/// Appends of the primary, each of one unit.
const APPENDS: u8 = 2;
/// The epochs of two recoveries.
const RECOVERIES: [u8; 2] = [2, 3];

/// What keeps a seal safe, each to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealRule {
    /// A replica tells the primary what is durable, not what has come.
    DurableIsTold,
    /// n-q+1 replicas are fenced; without: n-q.
    EnoughAreFenced,
    /// A fence survives a crash.
    FenceIsDurable,
    /// A replica that lacks the chunk answers `unknown`; without: length zero.
    UnknownIsNotZero,
    /// A chunk is sealed once.
    SealedOnce,
    /// A delete leaves a marker, which refuses appends that come later.
    DeleteLeavesMarker,
}

impl SealRule {
    /// All of them.
    pub const ALL: [SealRule; 6] = [
        SealRule::DurableIsTold,
        SealRule::EnoughAreFenced,
        SealRule::FenceIsDurable,
        SealRule::UnknownIsNotZero,
        SealRule::SealedOnce,
        SealRule::DeleteLeavesMarker,
    ];
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    quorum: usize,
    without: Option<SealRule>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Absent,
    Open,
    Fenced,
    Marker,
    Sealed,
}

/// A replica's answer to a fence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Answer {
    None,
    Unknown,
    Length(u8),
}

/// A replica, and what others know of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Replica {
    kind: Kind,
    epoch: u8,
    received: u8,
    durable: u8,
    /// What the primary has heard of.
    told: u8,
    /// Its disk was lost; the new one is another incarnation, which no grant names.
    lost: bool,
    answers: [Answer; 2],
    /// The sealed record names it.
    named: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Record {
    Open,
    Sealing(u8),
    Sealed { length: u8 },
    Doomed { length: u8 },
}

/// A moment; replicas in ascending order, because their names do not matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State {
    replicas: [Replica; REPLICAS],
    acknowledged: u8,
    record: Record,
    proposed: [bool; 2],
}

impl Seal {
    /// With all rules; `quorum` replicas of three acknowledge an append.
    pub fn new(quorum: usize) -> Self {
        Self {
            quorum,
            without: None,
        }
    }

    /// Without one of the rules.
    pub fn without(self, rule: SealRule) -> Self {
        Self {
            without: Some(rule),
            ..self
        }
    }

    fn holds(&self, rule: SealRule) -> bool {
        self.without != Some(rule)
    }

    /// What may happen to one replica.
    fn replica_steps(&self, state: &State, replica: Replica, becomes: &mut dyn FnMut(Step, Replica)) {
        let Replica {
            kind,
            received,
            durable,
            told,
            ..
        } = replica;
        // A frame may come as late as it likes; one that leaves a gap is refused.
        if matches!(kind, Kind::Absent | Kind::Open) && !replica.lost && received < APPENDS {
            let opened = Replica {
                kind: Kind::Open,
                received: received + 1,
                ..replica
            };
            becomes(("append", received + 1), opened);
        }
        if kind == Kind::Open {
            let synced = Replica {
                durable: received,
                ..replica
            };
            becomes(("sync", received), synced);
            let tells = match self.holds(SealRule::DurableIsTold) {
                true => durable,
                false => received,
            };
            let heard = Replica {
                told: told.max(tells),
                ..replica
            };
            becomes(("tell", tells), heard);
        }
        if kind == Kind::Fenced && !self.holds(SealRule::FenceIsDurable) {
            let forgotten = Replica {
                kind: Kind::Open,
                epoch: 1,
                ..replica
            };
            becomes(("crash", durable), forgotten);
        }
        if received > durable {
            let cut = Replica {
                received: durable,
                ..replica
            };
            becomes(("crash", durable), cut);
        }
        if state.replicas.iter().all(|replica| !replica.lost) {
            let empty = Replica {
                told,
                lost: true,
                answers: replica.answers,
                named: replica.named,
                ..EMPTY
            };
            becomes(("lose a disk with", durable), empty);
        }
        match state.record {
            Record::Sealed { length } if kind == Kind::Fenced && durable >= length => {
                let sealed = Replica {
                    kind: Kind::Sealed,
                    received: length,
                    durable: length,
                    ..replica
                };
                becomes(("seal at", length), sealed);
            }
            Record::Doomed { .. } if !matches!(kind, Kind::Absent | Kind::Marker) => {
                let left = match self.holds(SealRule::DeleteLeavesMarker) {
                    true => Kind::Marker,
                    false => Kind::Absent,
                };
                let deleted = Replica {
                    kind: left,
                    received: 0,
                    durable: 0,
                    ..replica
                };
                becomes(("delete", durable), deleted);
            }
            _ => {}
        }
        for (recovery, epoch) in RECOVERIES.into_iter().enumerate() {
            // At any time after it was logged.
            if state.proposed[recovery] && replica.epoch <= epoch {
                becomes(("fence with", epoch), self.fenced(replica, recovery));
            }
        }
    }

    fn fenced(&self, mut replica: Replica, recovery: usize) -> Replica {
        replica.answers[recovery] = match replica.kind {
            Kind::Absent | Kind::Marker => {
                replica.kind = Kind::Marker;
                match self.holds(SealRule::UnknownIsNotZero) {
                    true => Answer::Unknown,
                    false => Answer::Length(0),
                }
            }
            Kind::Open | Kind::Fenced => {
                replica.kind = Kind::Fenced;
                replica.received = replica.durable;
                Answer::Length(replica.durable)
            }
            Kind::Sealed => Answer::Length(replica.durable),
        };
        replica.epoch = RECOVERIES[recovery];
        replica
    }

    /// A recovery logs the length that it has found.
    fn end(&self, state: &State, recovery: usize) -> Option<State> {
        // Of two recoveries the later one wins. That is no rule of safety: either may end, but not both.
        let may = match state.record {
            Record::Sealing(latest) => latest == RECOVERIES[recovery],
            Record::Sealed { .. } => !self.holds(SealRule::SealedOnce),
            Record::Open | Record::Doomed { .. } => false,
        };
        if !may {
            return None;
        }
        let length_of = |replica: &Replica| match replica.answers[recovery] {
            Answer::Length(length) => Some(length),
            Answer::None | Answer::Unknown => None,
        };
        let lengths: Vec<u8> = state.replicas.iter().filter_map(length_of).collect();
        let wanted = REPLICAS - self.quorum + usize::from(self.holds(SealRule::EnoughAreFenced));
        if lengths.len() < wanted {
            return None;
        }
        let length = lengths.into_iter().max()?;
        let mut next = *state;
        next.record = Record::Sealed { length };
        for replica in &mut next.replicas {
            replica.named = length_of(replica).is_some_and(|found| found >= length);
        }
        Some(next)
    }
}

const EMPTY: Replica = Replica {
    kind: Kind::Absent,
    epoch: 1,
    received: 0,
    durable: 0,
    told: 0,
    lost: false,
    answers: [Answer::None; 2],
    named: false,
};

impl Model for Seal {
    type State = State;

    fn start(&self) -> State {
        State {
            replicas: [EMPTY; REPLICAS],
            acknowledged: 0,
            record: Record::Open,
            proposed: [false; 2],
        }
    }

    fn steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for (at, replica) in state.replicas.into_iter().enumerate() {
            self.replica_steps(state, replica, &mut |what, replica| {
                let mut next = *state;
                next.replicas[at] = replica;
                step(what, next);
            });
        }
        let mut told = state.replicas.map(|replica| replica.told);
        told.sort_unstable();
        let acknowledged = told[REPLICAS - self.quorum];
        if acknowledged > state.acknowledged {
            let next = State {
                acknowledged,
                ..*state
            };
            step(("acknowledge", acknowledged), next);
        }
        for (recovery, epoch) in RECOVERIES.into_iter().enumerate() {
            let may = match state.record {
                Record::Open => true,
                Record::Sealing(before) => before < epoch,
                Record::Sealed { .. } | Record::Doomed { .. } => false,
            };
            if may {
                let mut next = *state;
                next.record = Record::Sealing(epoch);
                next.proposed[recovery] = true;
                step(("sealing", epoch), next);
            }
            if let Some(next) = self.end(state, recovery) {
                step(("sealed by", epoch), next);
            }
        }
        if let Record::Sealed { length } = state.record {
            let record = Record::Doomed { length };
            step(("doom", length), State { record, ..*state });
        }
    }

    fn unnamed(&self, mut state: State) -> State {
        state.replicas.sort_unstable();
        state
    }

    fn fault(&self, state: &State) -> Option<&'static str> {
        let (Record::Sealed { length } | Record::Doomed { length }) = state.record else {
            return None;
        };
        if state.acknowledged > length {
            return Some("an acknowledged append lies behind the sealed length");
        }
        let is_sealed = matches!(state.record, Record::Sealed { .. });
        let lacks = |replica: &Replica| replica.named && !replica.lost && replica.durable < length;
        (is_sealed && state.replicas.iter().any(lacks))
            .then_some("a replica that is named does not have the sealed length")
    }
}
