//! What may happen next to chunks, leaves and roots, and what a power cut leaves.

use super::super::search::Step;
use super::{
    CHECKPOINTS, Checkpoint, CheckpointRule, Entry, LEAVES, Leaf, PLACES, Phase, RECORDS, Root, State,
};

impl Checkpoint {
    /// What befalls the chunks.
    pub(super) fn chunk_steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for at in 0..LEAVES {
            if usize::from(state.count) < RECORDS {
                let mut next = *state;
                next.records[usize::from(state.count)] = at as u8;
                next.count += 1;
                let leaf = &mut next.leaves[at];
                leaf.entry = Entry::new(leaf.entry.version + 1);
                leaf.dirty = true;
                step(("a record of chunk", at as u8), next);
            }
            if !state.leaves[at].entry.moved {
                let mut next = *state;
                let leaf = &mut next.leaves[at];
                leaf.entry.moved = true;
                leaf.dirty |= self.holds(CheckpointRule::MovingIsAChange);
                step(("move the bytes of chunk", at as u8), next);
            }
        }
    }

    fn begin_leaf(&self, state: &State, at: usize) -> Option<State> {
        let leaf = state.leaves[at];
        if !leaf.dirty || leaf.writing {
            return None;
        }
        let free = (0..PLACES as u8).find(|place| state.used & 1 << place == 0);
        let named = state.roots[0].and_then(|root| root.leaves[at].1);
        let in_place = named.filter(|_| !self.holds(CheckpointRule::LeavesGoToFreePlaces));
        let place = in_place.or(free)?;
        let mut next = *state;
        next.used |= 1 << place;
        next.places[usize::from(place)].now = Some((at as u8, leaf.entry));
        let writing = &mut next.leaves[at];
        (writing.place, writing.writing) = (Some(place), true);
        writing.dirty = !self.holds(CheckpointRule::ChangedWhileWritten);
        Some(next)
    }

    fn take_root(&self, state: &State, cut: u8) -> Option<State> {
        let is_told = state.are_bytes_told(cut) || !self.holds(CheckpointRule::BytesAreToldAtTheRoot);
        if !is_told || state.leaves.iter().any(|leaf| leaf.writing) {
            return None;
        }
        let mut next = *state;
        if self.holds(CheckpointRule::LeavesAreSyncedFirst) {
            sync(&mut next);
        }
        next.generation += 1;
        let cut = match self.holds(CheckpointRule::JournalFromTheBeginning) {
            true => cut,
            false => state.count,
        };
        let leaves = state.leaves.map(|leaf| {
            let place = leaf.place.filter(|_| !leaf.dirty);
            // It names what was written.
            let written = place.and_then(|place| state.places[usize::from(place)].now);
            (written.map_or(leaf.entry, |(_, entry)| entry), place)
        });
        let generation = next.generation;
        let root = Root {
            generation,
            cut,
            leaves,
        };
        let together = !self.holds(CheckpointRule::OneCopyAfterTheOther);
        let copies = [0, 1].map(|copy| copy == state.first || together);
        next.phase = Phase::Root { root, copies };
        Some(next)
    }

    /// A copy of the root is synced.
    pub(super) fn end_copy(&self, state: &State, root: Root, mut copies: [bool; 2], copy: usize) -> State {
        let mut next = *state;
        sync(&mut next);
        next.roots[copy] = Some(root);
        copies[copy] = false;
        if copy == usize::from(state.first) && self.holds(CheckpointRule::OneCopyAfterTheOther) {
            copies[1 - copy] = true;
        }
        let is_done = copies == [false, false];
        next.phase = Phase::Root { root, copies };
        if is_done {
            next.phase = Phase::Idle;
        }
        if is_done || !self.holds(CheckpointRule::JournalGoesAfterBothCopies) {
            next.kept_from = root.cut;
        }
        if is_done || !self.holds(CheckpointRule::PlacesAreFreeAfterBothCopies) {
            // Others have been written since for the next one.
            let since = state.leaves.iter().filter_map(|leaf| leaf.place);
            next.used = since.fold(State::named_by(&root), |all, place| all | 1 << place);
        }
        next
    }

    /// Leaves are written as they change, also for the next checkpoint while a root is written.
    fn leaf_steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for at in 0..LEAVES {
            if let Some(next) = self.begin_leaf(state, at) {
                step(("write leaf", at as u8), next);
            }
            if state.leaves[at].writing {
                let mut next = *state;
                next.leaves[at].writing = false;
                next.leaves[at].dirty &= self.holds(CheckpointRule::ChangedWhileWritten);
                step(("written is leaf", at as u8), next);
            }
        }
    }

    pub(super) fn checkpoint_steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        match state.phase {
            Phase::Idle if state.checkpoints < CHECKPOINTS && state.count > state.kept_from => {
                let mut next = *state;
                next.phase = Phase::Leaves { cut: state.count };
                next.checkpoints += 1;
                step(("begin a checkpoint at", state.count), next);
            }
            Phase::Leaves { cut } => {
                self.leaf_steps(state, step);
                if let Some(next) = self.take_root(state, cut) {
                    step(("take root", next.generation), next);
                }
            }
            Phase::Root { root, copies } => {
                self.leaf_steps(state, step);
                for copy in (0..2).filter(|copy| copies[*copy]) {
                    step(
                        ("synced is copy", copy as u8),
                        self.end_copy(state, root, copies, copy),
                    );
                }
            }
            Phase::Idle | Phase::Lost(_) => {}
        }
    }

    /// The power goes; `outcome` says what became of everything that was on its way, and which copy of the root cannot be
    /// read at the start.
    pub(super) fn power_cut(&self, state: &State, outcome: &Outcome) -> State {
        let mut next = *state;
        next.power_cuts += 1;
        for (place, torn) in next.places.iter_mut().zip(&outcome.places) {
            if place.now != place.durable {
                place.durable = [None, place.durable, place.now][usize::from(*torn)];
            }
            place.now = place.durable;
        }
        for copy in 0..2 {
            let on_its_way = match state.phase {
                Phase::Root { root, copies } if copies[copy] => Some(root),
                _ => continue,
            };
            next.roots[copy] = [None, state.roots[copy], on_its_way][usize::from(outcome.roots[copy])];
        }
        // Two losses at the same time are more than two copies bear.
        let unreadable = outcome
            .unreadable
            .filter(|copy| !state.unreadable && next.roots[1 - copy].is_some());
        next.unreadable |= unreadable.is_some();
        self.start(next, unreadable)
    }

    /// The start after a power cut: the newest root of which everything is there, and the journal from its cut on.
    fn start(&self, mut state: State, unreadable: Option<usize>) -> State {
        let is_whole = |root: &Root| {
            (0..).zip(root.leaves).all(|(leaf, (entry, place))| {
                place.is_none_or(|place| state.places[usize::from(place)].now == Some((leaf, entry)))
            })
        };
        let usable = (0..2).filter(|copy| Some(*copy) != unreadable);
        let usable = usable.filter(|copy| state.roots[*copy].as_ref().is_some_and(is_whole));
        let found = usable.max_by_key(|copy| state.roots[*copy].map(|root| root.generation));
        let Some((copy, root)) = found.and_then(|copy| Some((copy, state.roots[copy]?))) else {
            state.phase = Phase::Lost("no root can be used");
            return state;
        };
        if root.cut < state.kept_from {
            state.phase = Phase::Lost("the journal is gone that the root needs");
            return state;
        }
        state.generation = root.generation;
        for (leaf, (said, place)) in root.leaves.into_iter().enumerate() {
            let of = leaf as u8;
            let mut entry = said;
            // Records from before what the root knows are replayed, too.
            for at in root.cut..state.count {
                let version = state.version(of, at + 1);
                if state.records[usize::from(at)] == of && version != entry.version {
                    entry = Entry::new(version);
                }
            }
            let changed = entry != said && self.holds(CheckpointRule::ReplayIsAChange);
            state.leaves[leaf] = Leaf {
                entry,
                dirty: place.is_none() || changed,
                place,
                writing: false,
            };
            if entry.version != state.version(of, state.count) {
                state.phase = Phase::Lost("a chunk is not as it was acknowledged");
                return state;
            }
        }
        if !state.are_bytes_told(root.cut) {
            state.phase = Phase::Lost("the bytes of a chunk are nowhere");
            return state;
        }
        state.used = State::named_by(&root);
        if self.holds(CheckpointRule::BothCopiesKeepTheirPlaces) {
            let found = (0..2).filter(|copy| Some(*copy) != unreadable);
            let found = found.filter_map(|copy| state.roots[copy].as_ref());
            state.used = found.fold(0, |all, root| all | State::named_by(root));
        }
        state.first = match self.holds(CheckpointRule::OtherCopyFirst) {
            true => 1 - copy as u8,
            false => 0,
        };
        state.phase = Phase::Idle;
        state
    }
}

/// What a power cut leaves of what was on its way: 0 nothing that makes sense, 1 what was there, 2 what was to be.
pub(super) struct Outcome {
    places: [u8; PLACES],
    roots: [u8; 2],
    pub(super) unreadable: Option<usize>,
}

/// Every outcome that differs in this state.
pub(super) fn outcomes(state: &State) -> Vec<Outcome> {
    let is_moving = |copy: usize| match state.phase {
        Phase::Root { copies, .. } => copies[copy],
        _ => false,
    };
    let choices = |moves: bool| if moves { 0..3 } else { 0..1 };
    let mut all = Vec::new();
    for a in choices(is_moving(0)) {
        for b in choices(is_moving(1)) {
            for unreadable in [None, Some(0), Some(1)] {
                all.push(Outcome {
                    places: [0; PLACES],
                    roots: [a, b],
                    unreadable,
                });
            }
        }
    }
    for (at, place) in state.places.iter().enumerate() {
        if place.now == place.durable {
            continue;
        }
        let more = [1, 2].into_iter().flat_map(|torn| {
            all.iter().map(move |outcome| {
                let mut places = outcome.places;
                places[at] = torn;
                Outcome { places, ..*outcome }
            })
        });
        let more: Vec<Outcome> = more.collect();
        all.extend(more);
    }
    all
}

fn sync(state: &mut State) {
    for place in &mut state.places {
        place.durable = place.now;
    }
}
