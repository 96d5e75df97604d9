//! The index of a disk in leaves, checkpoints that write what has changed, and the journal that they let go. Two chunks,
//! each in a leaf of its own; of a power cut every outcome, and at one start one copy of the root may be
//! unreadable. The rules are those of `docs/design/0010-space.md`, "The models".

mod steps;

use super::search::{Model, Step};

const LEAVES: usize = 2;
const PLACES: usize = 6;
const RECORDS: usize = 2;
const CHECKPOINTS: u8 = 3;
const POWER_CUTS: u8 = 2;

/// What keeps checkpoints safe, each to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointRule {
    /// A leaf is written to a place that no root names.
    LeavesGoToFreePlaces,
    /// The leaves are synced before a root names them.
    LeavesAreSyncedFirst,
    /// The second copy of a root is written when the first is synced.
    OneCopyAfterTheOther,
    /// The journal is let go when both copies are synced.
    JournalGoesAfterBothCopies,
    /// The places of replaced leaves are free when both copies are synced.
    PlacesAreFreeAfterBothCopies,
    /// Replay begins where the checkpoint began.
    JournalFromTheBeginning,
    /// A root is taken when the bytes of every chunk are in its units, or in the journal that is kept.
    BytesAreToldAtTheRoot,
    /// That bytes have come to their units changes the leaf, although no record says so.
    MovingIsAChange,
    /// A leaf that changes while it is being written must be written again.
    ChangedWhileWritten,
    /// A leaf that replay changed must be written.
    ReplayIsAChange,
    /// After a start the places are not free that either copy of the root names.
    BothCopiesKeepTheirPlaces,
    /// After a start the copy is written first that is not the one in use.
    OtherCopyFirst,
}

impl CheckpointRule {
    /// All of them.
    pub const ALL: [CheckpointRule; 12] = [
        CheckpointRule::LeavesGoToFreePlaces,
        CheckpointRule::LeavesAreSyncedFirst,
        CheckpointRule::OneCopyAfterTheOther,
        CheckpointRule::JournalGoesAfterBothCopies,
        CheckpointRule::PlacesAreFreeAfterBothCopies,
        CheckpointRule::JournalFromTheBeginning,
        CheckpointRule::BytesAreToldAtTheRoot,
        CheckpointRule::MovingIsAChange,
        CheckpointRule::ChangedWhileWritten,
        CheckpointRule::ReplayIsAChange,
        CheckpointRule::BothCopiesKeepTheirPlaces,
        CheckpointRule::OtherCopyFirst,
    ];
}

/// The model.
#[derive(Clone, Copy, Default, Debug)]
pub struct Checkpoint {
    without: Option<CheckpointRule>,
}

/// What a leaf says of its chunk: it is here in odd versions; its bytes are in its units, or only in the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Entry {
    version: u8,
    moved: bool,
}

impl Entry {
    fn new(version: u8) -> Self {
        Self {
            version,
            moved: version.is_multiple_of(2),
        }
    }
}

/// A leaf in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Leaf {
    entry: Entry,
    dirty: bool,
    /// Where it was written last.
    place: Option<u8>,
    writing: bool,
}

/// What is in a place of the index file; `None`: no leaf.
type Content = Option<(u8, Entry)>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Place {
    durable: Content,
    now: Content,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Root {
    generation: u8,
    /// The record from which replay begins.
    cut: u8,
    /// What each leaf says, and where it is, unless the root holds it itself.
    leaves: [(Entry, Option<u8>); LEAVES],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Idle,
    /// Leaves are written.
    Leaves {
        cut: u8,
    },
    /// Copies of a root are being written.
    Root {
        root: Root,
        copies: [bool; 2],
    },
    /// What was acknowledged is not there any more.
    Lost(&'static str),
}

/// A moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State {
    leaves: [Leaf; LEAVES],
    places: [Place; PLACES],
    /// Places that are not free, by bits.
    used: u8,
    roots: [Option<Root>; 2],
    phase: Phase,
    generation: u8,
    /// Durable records: of which chunk each is. Its version is how many of that chunk there were.
    records: [u8; RECORDS],
    count: u8,
    /// Records below this one are gone.
    kept_from: u8,
    checkpoints: u8,
    power_cuts: u8,
    /// The copy that is written first.
    first: u8,
    /// A copy could not be read once: twice is more than two copies bear.
    unreadable: bool,
}

impl State {
    fn version(&self, leaf: u8, end: u8) -> u8 {
        let records = &self.records[..usize::from(end)];
        records.iter().filter(|of| **of == leaf).count() as u8
    }

    /// The record that made this version.
    fn record_of(&self, leaf: u8, version: u8) -> u8 {
        (0..self.count)
            .find(|at| self.records[usize::from(*at)] == leaf && self.version(leaf, at + 1) == version)
            .unwrap_or(0)
    }

    fn are_bytes_told(&self, from: u8) -> bool {
        let told = |(leaf, of): (u8, &Leaf)| of.entry.moved || self.record_of(leaf, of.entry.version) >= from;
        (0..).zip(&self.leaves).all(told)
    }

    /// The same with the two leaves exchanged.
    fn exchanged(mut self) -> Self {
        self.leaves.swap(0, 1);
        for root in self.roots.iter_mut().flatten() {
            root.leaves.swap(0, 1);
        }
        if let Phase::Root { root, .. } = &mut self.phase {
            root.leaves.swap(0, 1);
        }
        for place in &mut self.places {
            for (leaf, _) in [&mut place.durable, &mut place.now].into_iter().flatten() {
                *leaf = 1 - *leaf;
            }
        }
        for of in &mut self.records[..usize::from(self.count)] {
            *of = 1 - *of;
        }
        self
    }

    /// The same with places numbered as they are named, and without what is of no use any more.
    fn with_places_in_order(mut self) -> Self {
        for leaf in self.leaves.iter_mut().filter(|leaf| leaf.dirty && !leaf.writing) {
            leaf.place = None;
        }
        let places_of = |root: &Root| root.leaves.map(|(_, place)| place);
        let on_its_way = match &self.phase {
            Phase::Root { root, .. } => Some(places_of(root)),
            _ => None,
        };
        let durable = self.roots.iter().flatten().map(places_of);
        let named: Vec<u8> = durable.flatten().flatten().collect();
        let in_memory = self.leaves.map(|leaf| leaf.place);
        let rest = on_its_way.into_iter().chain([in_memory]).flatten().flatten();
        let (mut old, mut numbers) = (self, [None; PLACES]);
        (self.places, self.used) = Default::default();
        let mut count = 0;
        for (at, place) in named.iter().copied().chain(rest).enumerate() {
            let from = usize::from(place);
            if numbers[from].is_some() {
                continue;
            }
            if at >= named.len() && old.places[from].durable != old.places[from].now {
                // Whatever is left of it: no root knows it.
                old.places[from].durable = None;
            }
            numbers[from] = Some(count as u8);
            self.places[count] = old.places[from];
            self.used |= (old.used >> place & 1) << count;
            count += 1;
        }
        let number = |place: &mut Option<u8>| *place = place.and_then(|place| numbers[usize::from(place)]);
        let on_its_way = match &mut self.phase {
            Phase::Root { root, .. } => Some(root),
            _ => None,
        };
        let roots = self.roots.iter_mut().flatten().chain(on_its_way);
        roots
            .flat_map(|root| &mut root.leaves)
            .for_each(|(_, place)| number(place));
        self.leaves.iter_mut().for_each(|leaf| number(&mut leaf.place));
        self
    }

    fn named_by(root: &Root) -> u8 {
        let places = root.leaves.iter().filter_map(|(_, place)| *place);
        places.fold(0, |all, place| all | 1 << place)
    }
}

impl Checkpoint {
    /// With all rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without one of the rules.
    pub fn without(self, rule: CheckpointRule) -> Self {
        Self { without: Some(rule) }
    }

    fn holds(&self, rule: CheckpointRule) -> bool {
        self.without != Some(rule)
    }
}

impl Model for Checkpoint {
    type State = State;

    fn start(&self) -> State {
        let empty = Entry::new(0);
        let root = Root {
            generation: 1,
            cut: 0,
            leaves: [(empty, None); LEAVES],
        };
        State {
            leaves: [Leaf {
                entry: empty,
                dirty: true,
                ..Leaf::default()
            }; LEAVES],
            places: [Place::default(); PLACES],
            used: 0,
            roots: [Some(root); 2],
            phase: Phase::Idle,
            generation: 1,
            records: [0; RECORDS],
            count: 0,
            kept_from: 0,
            checkpoints: 0,
            power_cuts: 0,
            first: 0,
            unreadable: false,
        }
    }

    fn steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        self.chunk_steps(state, step);
        self.checkpoint_steps(state, step);
        if state.power_cuts < POWER_CUTS {
            for outcome in steps::outcomes(state) {
                let unreadable = outcome.unreadable.map_or(0, |copy| 1 + copy as u8);
                step(
                    ("power cut, unreadable", unreadable),
                    self.power_cut(state, &outcome),
                );
            }
        }
    }

    /// Which leaf and which place is which does not matter, nor what is in a place that nothing names.
    fn unnamed(&self, state: State) -> State {
        let state = state.with_places_in_order();
        state.min(state.exchanged().with_places_in_order())
    }

    fn fault(&self, state: &State) -> Option<&'static str> {
        match state.phase {
            Phase::Lost(what) => Some(what),
            _ => None,
        }
    }
}
