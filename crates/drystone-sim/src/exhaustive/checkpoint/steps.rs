//! What may happen next to chunks, leaves and roots.

use super::super::search::Step;
use super::{
    CHECKPOINTS, CHUNKS, Checkpoint, CheckpointRule, Leaf, PLACES, Phase, RECORDS, Record, Root, Said, State,
    Told,
};

impl Checkpoint {
    /// What befalls the chunks.
    pub(super) fn chunk_steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for chunk in 0..CHUNKS {
            let entry = state.entry(chunk);
            let sealed = entry.map(|entry| entry.sealed);
            let may_be: &[(&str, Said)] = match sealed {
                None => &[("begin chunk", Said::Open), ("write all of chunk", Said::Seal)],
                Some(false) => &[("seal chunk", Said::Seal), ("delete chunk", Said::Delete)],
                Some(true) => &[("delete chunk", Said::Delete)],
            };
            for (what, said) in may_be {
                if usize::from(state.count) == RECORDS {
                    break;
                }
                let mut next = *state;
                next.records[usize::from(state.count)] = Some(Record {
                    chunk: chunk as u8,
                    said: *said,
                });
                next.count += 1;
                if std::mem::take(&mut next.moved[chunk]) {
                    next.leaves[state.leaf_of(chunk)] = Some(Leaf::Changed);
                }
                step((what, chunk as u8), next);
            }
            if sealed == Some(true) && !state.moved[chunk] {
                let mut next = *state;
                next.moved[chunk] = true;
                if self.holds(CheckpointRule::MovingIsAChange) {
                    next.leaves[state.leaf_of(chunk)] = Some(Leaf::Changed);
                }
                step(("move the bytes of chunk", chunk as u8), next);
            }
        }
    }

    /// Leaves are split at any time, and joined where the sweep comes to them.
    pub(super) fn leaf_steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for first in 1..CHUNKS {
            let mut next = *state;
            if state.leaves[first].is_none() {
                next.leaves[first] = Some(Leaf::Changed);
                if self.holds(CheckpointRule::SplittingIsAChange) {
                    next.leaves[state.leaf_of(first)] = Some(Leaf::Changed);
                }
                step(("split a leaf at", first as u8), next);
                continue;
            }
            let from = match state.phase {
                _ if !self.holds(CheckpointRule::JoinedAheadOfTheSweep) => 0,
                Phase::Sweep { from, .. } => usize::from(from),
                _ => continue,
            };
            let before = state.leaf_of(first - 1);
            let is_empty = state.content(first).settled == [0; CHUNKS];
            next.leaves[first] = None;
            if is_empty && from <= first {
                step(("drop the leaf at", first as u8), next);
            }
            if from <= before {
                next.leaves[before] = Some(Leaf::Changed);
                step(("join the leaf at", first as u8), next);
            }
        }
    }

    /// True if everything can be told without what the journal says below `cut`.
    fn is_told(&self, state: &State, cut: u8) -> bool {
        let told = |chunk: usize| {
            let entry = state.entry(chunk);
            entry.is_none_or(|entry| !entry.sealed || state.moved[chunk] || entry.from >= cut)
        };
        (0..CHUNKS).all(told) || !self.holds(CheckpointRule::BytesAreMovedFirst)
    }

    fn tell(&self, state: &State) -> [Option<Told>; CHUNKS] {
        std::array::from_fn(|chunk| {
            let entry = state.entry(chunk).filter(|_| !state.moved[chunk])?;
            Some(Told {
                placement: entry.placement,
                sealed: entry.sealed,
                with_bytes: !entry.sealed && self.holds(CheckpointRule::OpenBytesAreTold),
            })
        })
    }

    fn begin_sweep(&self, state: &State, cut: u8) -> Option<State> {
        let is_first = self.holds(CheckpointRule::ToldBeforeTheSweep);
        if is_first && !self.is_told(state, cut) {
            return None;
        }
        let mut next = *state;
        next.generation += 1;
        let root = Root {
            generation: next.generation,
            cut,
            told: if is_first {
                self.tell(state)
            } else {
                [None; CHUNKS]
            },
            leaves: [None; CHUNKS],
        };
        next.phase = Phase::Sweep { root, from: 0 };
        Some(next)
    }

    /// The sweep comes to the leaf that begins at `first`.
    fn sweep_leaf(&self, state: &State, mut root: Root, first: usize) -> Option<State> {
        let mut next = *state;
        let content = state.content(first);
        let place = match state.leaves[first]? {
            // The root says what was written there.
            Leaf::In(place) => (state.places[usize::from(place)].now?, place),
            Leaf::Changed => {
                let free = (0..PLACES as u8).find(|place| state.used & 1 << place == 0);
                let named = state.roots[0].and_then(|root| root.leaves[first]);
                let in_place = named.filter(|_| !self.holds(CheckpointRule::LeavesGoToFreePlaces));
                let place = in_place.map(|(_, place)| place).or(free)?;
                next.used |= 1 << place;
                next.places[usize::from(place)].now = Some(content);
                next.leaves[first] = Some(Leaf::In(place));
                (content, place)
            }
        };
        root.leaves[first] = Some(place);
        let from = state.leaf_from(first + 1).unwrap_or(CHUNKS) as u8;
        next.phase = Phase::Sweep { root, from };
        Some(next)
    }

    /// All leaves are written.
    fn end_sweep(&self, state: &State, mut root: Root) -> Option<State> {
        let mut next = *state;
        if !self.holds(CheckpointRule::ToldBeforeTheSweep) {
            if !self.is_told(state, root.cut) {
                return None;
            }
            root.told = self.tell(state);
        }
        if !self.holds(CheckpointRule::JournalFromTheBeginning) {
            root.cut = state.count;
        }
        if !self.holds(CheckpointRule::ChangedWhileWritten) {
            for (leaf, written) in next.leaves.iter_mut().zip(root.leaves) {
                *leaf = leaf.map(|leaf| written.map_or(leaf, |(_, place)| Leaf::In(place)));
            }
        }
        if self.holds(CheckpointRule::LeavesAreSyncedFirst) {
            sync(&mut next);
        }
        let together = !self.holds(CheckpointRule::OneCopyAfterTheOther);
        let copies = [0, 1].map(|copy| copy == state.first || together);
        next.phase = Phase::Root { root, copies };
        Some(next)
    }

    /// A copy of the root is synced.
    fn end_copy(&self, state: &State, root: Root, mut copies: [bool; 2], copy: usize) -> State {
        let mut next = *state;
        sync(&mut next);
        next.roots[copy] = Some(root);
        copies[copy] = false;
        let is_first = copy == usize::from(state.first) && self.holds(CheckpointRule::OneCopyAfterTheOther);
        copies[1 - copy] |= is_first && self.holds(CheckpointRule::NextAfterBothCopies);
        let is_done = copies == [false, false];
        next.phase = Phase::Root { root, copies };
        if is_done {
            next.phase = Phase::Idle;
            next.used = root.named();
        }
        let are_both = next.roots == [Some(root); 2];
        if are_both || !self.holds(CheckpointRule::JournalGoesAfterBothCopies) {
            next.kept_from = root.cut;
        }
        next
    }

    pub(super) fn checkpoint_steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        match state.phase {
            Phase::Idle if state.checkpoints < CHECKPOINTS && state.count > state.kept_from => {
                let mut next = *state;
                next.phase = Phase::Draining { cut: state.count };
                next.checkpoints += 1;
                step(("begin a checkpoint at", state.count), next);
            }
            Phase::Draining { cut } => {
                if let Some(next) = self.begin_sweep(state, cut) {
                    step(("tell for root", next.generation), next);
                }
            }
            Phase::Sweep { root, from } => match state.leaf_from(usize::from(from)) {
                Some(first) => {
                    if let Some(next) = self.sweep_leaf(state, root, first) {
                        step(("write leaf", first as u8), next);
                    }
                }
                None => {
                    if let Some(next) = self.end_sweep(state, root) {
                        step(("write root", root.generation), next);
                    }
                }
            },
            Phase::Root { root, copies } => {
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
}

fn sync(state: &mut State) {
    for place in &mut state.places {
        place.durable = place.now;
    }
}
