//! What a power cut leaves, and the start after it.

use super::{CHUNKS, Checkpoint, CheckpointRule, Content, Leaf, PLACES, Phase, Root, Said, State};

/// Of a chunk's bytes: which halves replay has.
const FIRST_HALF: u8 = 1;
const SECOND_HALF: u8 = 2;
const ALL: u8 = FIRST_HALF | SECOND_HALF;

/// What replay knows of a chunk that is here.
#[derive(Clone, Copy)]
struct Replayed {
    placement: u8,
    sealed: bool,
    moved: bool,
    bytes: u8,
}

impl Checkpoint {
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
        self.start_again(next, unreadable)
    }

    /// The start after a power cut: the newest root of which everything is there, and the journal from its cut on.
    fn start_again(&self, mut state: State, unreadable: Option<usize>) -> State {
        let usable = (0..2).filter(|copy| Some(*copy) != unreadable);
        let usable = usable.filter(|copy| {
            state.roots[*copy]
                .as_ref()
                .is_some_and(|root| is_whole(&state, root))
        });
        let found = usable.max_by_key(|copy| state.roots[*copy].map(|root| root.generation));
        let Some((copy, root)) = found.and_then(|copy| Some((copy, state.roots[copy]?))) else {
            state.phase = Phase::Lost("no root can be used");
            return state;
        };
        if root.cut < state.kept_from {
            state.phase = Phase::Lost("the journal is gone that the root needs");
            return state;
        }
        state.phase = Phase::Idle;
        state.generation = root.generation;
        for chunk in 0..CHUNKS {
            let found = self.replay(&state, &root, chunk);
            let right = state.entry(chunk).map(|entry| (entry.placement, entry.sealed));
            if found.map(|found| (found.placement, found.sealed)) != right {
                state.phase = Phase::Lost("a chunk is not as it was acknowledged");
                return state;
            }
            let needed = |found: Replayed| if found.sealed { ALL } else { FIRST_HALF };
            if found.is_some_and(|found| !found.moved && found.bytes & needed(found) != needed(found)) {
                state.phase = Phase::Lost("the bytes of a chunk are nowhere");
                return state;
            }
            state.moved[chunk] = found.is_some_and(|found| found.moved);
        }
        state.leaves = root.leaves.map(|leaf| leaf.map(|(_, place)| Leaf::In(place)));
        state.leaves[0].get_or_insert(Leaf::Changed);
        for first in 0..CHUNKS {
            let is_as_written = root.leaves[first].is_some_and(|(said, _)| said == state.content(first));
            if state.leaves[first].is_some() && !is_as_written && self.holds(CheckpointRule::ReplayIsAChange)
            {
                state.leaves[first] = Some(Leaf::Changed);
            }
        }
        state.used = root.named();
        if self.holds(CheckpointRule::BothCopiesKeepTheirPlaces) {
            let found = (0..2).filter(|copy| Some(*copy) != unreadable);
            let found = found.filter_map(|copy| state.roots[copy].as_ref());
            state.used = found.fold(0, |all, root| all | root.named());
        }
        state.first = match self.holds(CheckpointRule::OtherCopyFirst) {
            true => 1 - copy as u8,
            false => 0,
        };
        state
    }

    /// What the root says of a chunk, its leaf before what was told, and then the records from its cut on.
    fn replay(&self, state: &State, root: &Root, chunk: usize) -> Option<Replayed> {
        let settled = root.leaves.iter().flatten().map(|(said, _)| said.settled[chunk]);
        let settled = settled.max().filter(|placement| *placement > 0);
        let in_leaf = settled.map(|placement| Replayed {
            placement,
            sealed: true,
            moved: true,
            bytes: 0,
        });
        let mut found = in_leaf.or_else(|| {
            root.told[chunk].map(|told| Replayed {
                placement: told.placement,
                sealed: told.sealed,
                moved: false,
                bytes: if told.with_bytes { FIRST_HALF } else { 0 },
            })
        });
        let mut is_open = false;
        for (at, said, placement) in state.history(chunk, state.count) {
            let bytes = match said {
                Said::Open => FIRST_HALF,
                Said::Seal if is_open => SECOND_HALF,
                Said::Seal => ALL,
                Said::Delete => 0,
            };
            is_open = said == Said::Open;
            // A record from before what the root knows may be one of an earlier placement.
            if at < root.cut || found.is_some_and(|found| found.placement > placement) {
                continue;
            }
            let same = found.filter(|found| found.placement == placement);
            found = (said != Said::Delete).then(|| Replayed {
                placement,
                // No record takes a seal back.
                sealed: said == Said::Seal || same.is_some_and(|same| same.sealed),
                moved: same.is_some_and(|same| same.moved) && self.holds(CheckpointRule::MovedStaysMoved),
                bytes: bytes | same.map_or(0, |same| same.bytes),
            });
        }
        found
    }
}

/// True if every leaf is there that the root names, and covers its chunks only.
fn is_whole(state: &State, root: &Root) -> bool {
    let is_there = |(said, place): &(Content, u8)| state.places[usize::from(*place)].now == Some(*said);
    let covers = |(said, _): &(Content, u8)| {
        let first = usize::from(said.first);
        let end = (first + 1..CHUNKS).find(|next| root.leaves[*next].is_some());
        let covered = first..end.unwrap_or(CHUNKS);
        (0..CHUNKS).all(|chunk| said.settled[chunk] == 0 || covered.contains(&chunk))
    };
    root.leaves
        .iter()
        .flatten()
        .all(|leaf| is_there(leaf) && covers(leaf))
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
