//! A stream chunk from its grant to its end: receipts, commit, or that its writer gives it up; grant floor, orphans, repair,
//! deletion, and everything late. The rules are those of `docs/design/0009-why-safe.md`, "Floor and deletion".

use super::search::{Model, Step};

const DISKS: usize = 3;
/// Receipts that a commit needs.
const QUORUM: usize = 2;
/// Placements of the chunk: its grant, and two moves.
const PLACEMENTS: u8 = 3;

/// What keeps deletion safe, each to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloorRule {
    /// A replica without a record is deleted only below the floor.
    OrphansBelowTheFloor,
    /// A commit of a chunk below the floor is refused.
    CommitsAboveTheFloor,
    /// A disk deletes only the placement that the order names.
    OrdersNamePlacements,
    /// A replica is sealed once.
    FinalHappensOnce,
    /// A chunk that was doomed is not committed again.
    DoomIsForEver,
    /// A chunk that its writer gave up is not committed.
    AbandonedAreRefused,
    /// What says that it was given up is kept until the floor has passed it.
    MarksUntilTheFloor,
}

impl FloorRule {
    /// All of them.
    pub const ALL: [FloorRule; 7] = [
        FloorRule::OrphansBelowTheFloor,
        FloorRule::CommitsAboveTheFloor,
        FloorRule::OrdersNamePlacements,
        FloorRule::FinalHappensOnce,
        FloorRule::DoomIsForEver,
        FloorRule::AbandonedAreRefused,
        FloorRule::MarksUntilTheFloor,
    ];
}

/// The model.
#[derive(Clone, Copy, Default, Debug)]
pub struct Floor {
    without: Option<FloorRule>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Replica {
    Absent,
    Open { length: u8 },
    Sealed { length: u8, placement: u8 },
}

/// A disk, and what others know of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Disk {
    replica: Replica,
    /// The length that the writer has a receipt of.
    receipt: Option<u8>,
    /// It came back empty, as another incarnation, which no grant names.
    lost: bool,
    /// The placement under which the record names the incarnation that is there now.
    named: Option<u8>,
    /// Delete orders on their way, by placement. They may come again.
    orders: [bool; PLACEMENTS as usize],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Record {
    None,
    Committed {
        length: u8,
    },
    Doomed,
    /// Its writer gave it up.
    Abandoned,
}

/// A moment; disks in ascending order, because their names do not matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State {
    disks: [Disk; DISKS],
    floor: bool,
    record: Record,
    placements: u8,
}

impl Floor {
    /// With all rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without one of the rules.
    pub fn without(self, rule: FloorRule) -> Self {
        Self { without: Some(rule) }
    }

    fn holds(&self, rule: FloorRule) -> bool {
        self.without != Some(rule)
    }

    /// Frames of the writer, as late as they like.
    fn frames(&self, disk: Disk, becomes: &mut dyn FnMut(Step, Disk)) {
        let length = match disk.replica {
            Replica::Absent => 0,
            Replica::Open { length } => length,
            Replica::Sealed { length, placement } => {
                if length == 1 && placement == 0 && !self.holds(FloorRule::FinalHappensOnce) {
                    becomes(("another final of", 2), sealed(disk, 2));
                }
                return;
            }
        };
        if disk.lost {
            return;
        }
        if length < 2 {
            let longer = Disk {
                replica: Replica::Open { length: length + 1 },
                ..disk
            };
            becomes(("frame", length + 1), longer);
        }
        if length > 0 {
            becomes(("final of", length), sealed(disk, length));
        }
    }

    fn disk_steps(&self, state: &State, disk: Disk, becomes: &mut dyn FnMut(Step, Disk)) {
        self.frames(disk, becomes);
        let placement = match disk.replica {
            Replica::Absent => None,
            Replica::Open { .. } => Some(0),
            Replica::Sealed { placement, .. } => Some(placement),
        };
        if let Some(placement) = placement {
            // The disk reports a replica that no record names, and the leader orders it away.
            let may = state.floor || !self.holds(FloorRule::OrphansBelowTheFloor);
            if may && disk.named.is_none() {
                let mut ordered = disk;
                ordered.orders[usize::from(placement)] = true;
                becomes(("orphan of placement", placement), ordered);
            }
            for order in 0..PLACEMENTS {
                let is_the_one = order == placement || !self.holds(FloorRule::OrdersNamePlacements);
                if disk.orders[usize::from(order)] && is_the_one {
                    let replica = Replica::Absent;
                    becomes(("delete placement", order), Disk { replica, ..disk });
                }
            }
        }
        if state.disks.iter().all(|disk| !disk.lost) {
            let empty = Disk {
                replica: Replica::Absent,
                lost: true,
                named: None,
                ..disk
            };
            becomes(("lose a disk", 0), empty);
        }
    }

    fn commit(&self, state: &State, length: u8) -> Option<State> {
        let late = state.floor && self.holds(FloorRule::CommitsAboveTheFloor);
        let again = match state.record {
            Record::None => false,
            Record::Committed { .. } => true,
            Record::Doomed => self.holds(FloorRule::DoomIsForEver),
            Record::Abandoned => self.holds(FloorRule::AbandonedAreRefused),
        };
        let fits = |disk: &&mut Disk| disk.receipt == Some(length);
        let mut next = *state;
        if late || again || next.disks.iter_mut().filter(fits).count() < QUORUM {
            return None;
        }
        for disk in next.disks.iter_mut().filter(fits) {
            disk.named = (!disk.lost).then_some(0);
        }
        next.record = Record::Committed { length };
        Some(next)
    }

    /// Repair copies a replica to a disk that has none; another one is not named any more.
    fn move_replica(state: &State, from: usize, to: usize) -> Option<State> {
        let Record::Committed { length } = state.record else {
            return None;
        };
        let old = state.disks[from].named?;
        let is_good = |disk: &Disk| {
            let whole = matches!(disk.replica, Replica::Sealed { length: found, .. } if found == length);
            disk.named.is_some() && whole
        };
        let target = state.disks[to];
        let is_free = target.named.is_none() && target.replica == Replica::Absent;
        let placement = state.placements;
        if !is_free || placement >= PLACEMENTS || !state.disks.iter().any(is_good) {
            return None;
        }
        let mut next = *state;
        next.placements += 1;
        next.disks[from].named = None;
        next.disks[from].orders[usize::from(old)] = true;
        next.disks[to].named = Some(placement);
        next.disks[to].replica = Replica::Sealed { length, placement };
        Some(next)
    }
}

fn sealed(disk: Disk, length: u8) -> Disk {
    let replica = Replica::Sealed { length, placement: 0 };
    let receipt = Some(length);
    Disk {
        replica,
        receipt,
        ..disk
    }
}

impl Model for Floor {
    type State = State;

    fn start(&self) -> State {
        let disk = Disk {
            replica: Replica::Absent,
            receipt: None,
            lost: false,
            named: None,
            orders: [false; PLACEMENTS as usize],
        };
        State {
            disks: [disk; DISKS],
            floor: false,
            record: Record::None,
            placements: 1,
        }
    }

    fn steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for (at, disk) in state.disks.into_iter().enumerate() {
            self.disk_steps(state, disk, &mut |what, disk| {
                let mut next = *state;
                next.disks[at] = disk;
                step(what, next);
            });
        }
        if !state.floor {
            step(
                ("raise the floor", 1),
                State {
                    floor: true,
                    ..*state
                },
            );
        }
        for length in [1, 2] {
            if let Some(next) = self.commit(state, length) {
                step(("commit", length), next);
            }
        }
        for (from, to) in (0..DISKS).flat_map(|from| (0..DISKS).map(move |to| (from, to))) {
            if let Some(next) = Self::move_replica(state, from, to) {
                step(("move, placement", state.placements), next);
            }
        }
        // The writer may send its commit all the same, or have sent it before.
        if state.record == Record::None && !state.floor {
            let mut next = *state;
            next.record = Record::Abandoned;
            for disk in next.disks.iter_mut().filter(|disk| !disk.lost) {
                disk.orders[0] = true;
            }
            step(("give up", 0), next);
        }
        if state.record == Record::Abandoned && (state.floor || !self.holds(FloorRule::MarksUntilTheFloor)) {
            let record = Record::None;
            step(("forget that it was given up", 0), State { record, ..*state });
        }
        if let Record::Committed { length } = state.record {
            let mut next = *state;
            next.record = Record::Doomed;
            for disk in &mut next.disks {
                if let Some(placement) = disk.named.take() {
                    disk.orders[usize::from(placement)] = true;
                }
            }
            step(("doom", length), next);
        }
    }

    fn unnamed(&self, mut state: State) -> State {
        state.disks.sort_unstable();
        state
    }

    fn fault(&self, state: &State) -> Option<&'static str> {
        let Record::Committed { length } = state.record else {
            return None;
        };
        let mut named = state.disks.iter().filter_map(|disk| Some((disk, disk.named?)));
        let broken = named.any(|(disk, placement)| disk.replica != Replica::Sealed { length, placement });
        broken.then_some("a replica that the committed state names is gone or has another length")
    }
}
