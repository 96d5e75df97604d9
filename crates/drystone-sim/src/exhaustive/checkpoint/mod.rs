//! The index of a disk in leaves, checkpoints that tell what is not in leaves and then write the leaves that have changed, and
//! the journal that they let go. Two chunks, in one leaf or in two; of a power cut every outcome, and at one start one
//! copy of the root may be unreadable. The rules are those of `docs/design/0010-space.md`, "The models".

mod start;
mod steps;

use super::search::{Model, Step};

const CHUNKS: usize = 2;
const PLACES: usize = 6;
const RECORDS: usize = 2;
const CHECKPOINTS: u8 = 3;
const POWER_CUTS: u8 = 2;

/// What keeps checkpoints safe, each to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointRule {
    /// What is told says where replay begins: where the checkpoint began.
    JournalFromTheBeginning,
    /// Bytes of sealed chunks that are only in the journal before that are moved first.
    BytesAreMovedFirst,
    /// What is not in leaves is told before the first leaf is written.
    ToldBeforeTheSweep,
    /// Of an open chunk the bytes are told, too.
    OpenBytesAreTold,
    /// A leaf is written to a place that no root names.
    LeavesGoToFreePlaces,
    /// The leaves are synced before a root names them.
    LeavesAreSyncedFirst,
    /// Leaves are joined ahead of the sweep only.
    JoinedAheadOfTheSweep,
    /// A leaf of which a part became another must be written again.
    SplittingIsAChange,
    /// That bytes have come to their units changes the leaf, although no record says so.
    MovingIsAChange,
    /// A leaf that changes while it is being written must be written again.
    ChangedWhileWritten,
    /// The second copy of a root is written when the first is synced.
    OneCopyAfterTheOther,
    /// The journal is let go when both copies are synced.
    JournalGoesAfterBothCopies,
    /// The next checkpoint begins, and places are free for it, when both copies are synced.
    NextAfterBothCopies,
    /// Replay of a record does not take back that bytes are in their units.
    MovedStaysMoved,
    /// A leaf that replay changed must be written.
    ReplayIsAChange,
    /// After a start the places are not free that either copy of the root names.
    BothCopiesKeepTheirPlaces,
    /// After a start the copy is written first that is not the one in use.
    OtherCopyFirst,
}

impl CheckpointRule {
    /// All of them.
    pub const ALL: [CheckpointRule; 17] = [
        CheckpointRule::JournalFromTheBeginning,
        CheckpointRule::BytesAreMovedFirst,
        CheckpointRule::ToldBeforeTheSweep,
        CheckpointRule::OpenBytesAreTold,
        CheckpointRule::LeavesGoToFreePlaces,
        CheckpointRule::LeavesAreSyncedFirst,
        CheckpointRule::JoinedAheadOfTheSweep,
        CheckpointRule::SplittingIsAChange,
        CheckpointRule::MovingIsAChange,
        CheckpointRule::ChangedWhileWritten,
        CheckpointRule::OneCopyAfterTheOther,
        CheckpointRule::JournalGoesAfterBothCopies,
        CheckpointRule::NextAfterBothCopies,
        CheckpointRule::MovedStaysMoved,
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

/// What a record says of its chunk. The first two have bytes: an open chunk the first half, a seal the second half, or all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Said {
    Open,
    Seal,
    Delete,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Record {
    chunk: u8,
    said: Said,
}

/// A chunk that is here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    placement: u8,
    sealed: bool,
    /// The record with its first bytes.
    from: u8,
}

/// What a root says of a chunk that was in no leaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Told {
    placement: u8,
    sealed: bool,
    with_bytes: bool,
}

/// What a leaf says: from which chunk on it covers, and of each chunk that is settled (sealed, with all bytes in its units)
/// the placement, or 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Content {
    first: u8,
    settled: [u8; CHUNKS],
}

/// A leaf in memory, that begins at some chunk: it has changed, or is as it was written to this place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Leaf {
    Changed,
    In(u8),
}

/// What is in a place of the index file; `None`: no leaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Place {
    durable: Option<Content>,
    now: Option<Content>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Root {
    generation: u8,
    /// The record from which replay begins.
    cut: u8,
    told: [Option<Told>; CHUNKS],
    /// What the leaf says that begins at each chunk, and where it is.
    leaves: [Option<(Content, u8)>; CHUNKS],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Idle,
    /// Bytes are moved.
    Draining {
        cut: u8,
    },
    /// Leaves are written; those from this chunk on are not yet.
    Sweep {
        root: Root,
        from: u8,
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
    /// The bytes of a sealed chunk are in its units.
    moved: [bool; CHUNKS],
    /// By the chunk from which each covers.
    leaves: [Option<Leaf>; CHUNKS],
    places: [Place; PLACES],
    /// Places that are not free, by bits.
    used: u8,
    roots: [Option<Root>; 2],
    phase: Phase,
    generation: u8,
    /// Durable records.
    records: [Option<Record>; RECORDS],
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

impl Root {
    fn places(&self) -> impl Iterator<Item = u8> {
        self.leaves.into_iter().flatten().map(|(_, place)| place)
    }

    fn named(&self) -> u8 {
        self.places().fold(0, |all, place| all | 1 << place)
    }
}

impl State {
    /// The records below `end`, of one chunk, with their numbers and placements.
    fn history(&self, chunk: usize, end: u8) -> impl Iterator<Item = (u8, Said, u8)> {
        let mut placement = 1;
        let records = self.records.into_iter().take(usize::from(end));
        let of_chunk = (0..)
            .zip(records.flatten())
            .filter(move |(_, record)| usize::from(record.chunk) == chunk);
        of_chunk.map(move |(at, record)| {
            let of = placement;
            placement += u8::from(record.said == Said::Delete);
            (at, record.said, of)
        })
    }

    /// What is acknowledged of a chunk.
    fn entry(&self, chunk: usize) -> Option<Entry> {
        let mut entry: Option<Entry> = None;
        for (at, said, placement) in self.history(chunk, self.count) {
            entry = (said != Said::Delete).then(|| Entry {
                placement,
                sealed: said == Said::Seal,
                from: entry.map_or(at, |entry| entry.from),
            });
        }
        entry
    }

    /// The chunk from which the leaf covers that is for this one.
    fn leaf_of(&self, chunk: usize) -> usize {
        (0..=chunk)
            .rfind(|first| self.leaves[*first].is_some())
            .unwrap_or(0)
    }

    /// The first leaf from this chunk on.
    fn leaf_from(&self, chunk: usize) -> Option<usize> {
        (chunk..CHUNKS).find(|first| self.leaves[*first].is_some())
    }

    /// What the leaf in memory says that begins here.
    fn content(&self, first: usize) -> Content {
        let settled = std::array::from_fn(|chunk| match self.entry(chunk) {
            Some(entry) if self.moved[chunk] && self.leaf_of(chunk) == first => entry.placement,
            _ => 0,
        });
        Content {
            first: first as u8,
            settled,
        }
    }

    /// The root that is being made.
    fn made(&mut self) -> Option<&mut Root> {
        match &mut self.phase {
            Phase::Sweep { root, .. } | Phase::Root { root, .. } => Some(root),
            _ => None,
        }
    }

    /// The same with places numbered as they are named, and without what is of no use any more.
    fn with_places_in_order(mut self) -> Self {
        let durable = self.roots.into_iter().flatten();
        let named: Vec<u8> = durable
            .flat_map(|root| root.places().collect::<Vec<_>>())
            .collect();
        let made: Vec<u8> = self
            .made()
            .map(|root| root.places().collect())
            .unwrap_or_default();
        let in_memory = self.leaves.into_iter().filter_map(|leaf| match leaf {
            Some(Leaf::In(place)) => Some(place),
            _ => None,
        });
        let all: Vec<u8> = named.iter().copied().chain(made).chain(in_memory).collect();
        let (mut old, mut numbers) = (self, [None; PLACES]);
        (self.places, self.used) = Default::default();
        let mut count = 0;
        for (at, place) in all.into_iter().enumerate() {
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
        let number = |place: &mut u8| *place = numbers[usize::from(*place)].unwrap_or(*place);
        let mut roots = self.roots;
        let all = roots.iter_mut().flatten().chain(self.made());
        all.flat_map(|root| root.leaves.iter_mut().flatten())
            .for_each(|(_, place)| number(place));
        self.roots = roots;
        for leaf in self.leaves.iter_mut().flatten() {
            if let Leaf::In(place) = leaf {
                number(place);
            }
        }
        self
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
        let root = Root {
            generation: 1,
            cut: 0,
            told: [None; CHUNKS],
            leaves: [None; CHUNKS],
        };
        let mut leaves = [None; CHUNKS];
        leaves[0] = Some(Leaf::Changed);
        State {
            moved: [false; CHUNKS],
            leaves,
            places: [Place::default(); PLACES],
            used: 0,
            roots: [Some(root); 2],
            phase: Phase::Idle,
            generation: 1,
            records: [None; RECORDS],
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
        self.leaf_steps(state, step);
        self.checkpoint_steps(state, step);
        if state.power_cuts < POWER_CUTS {
            for outcome in start::outcomes(state) {
                let unreadable = outcome.unreadable.map_or(0, |copy| 1 + copy as u8);
                step(
                    ("power cut, unreadable", unreadable),
                    self.power_cut(state, &outcome),
                );
            }
        }
    }

    /// Which place is which does not matter, nor what is in a place that nothing names.
    fn unnamed(&self, state: State) -> State {
        state.with_places_in_order()
    }

    fn fault(&self, state: &State) -> Option<&'static str> {
        match state.phase {
            Phase::Lost(what) => Some(what),
            _ => None,
        }
    }
}
