//! Short scripts on a disk of seven units, in every order of requests and disk work that differs from a usual one in so
//! many places, with a power cut after every step. What random orders find by chance is found here, or is not there.

use crate::harness::{How, ME, Sim, content, frame, tiny};
use drystone_env::sim::SimDisk;
use drystone_proto::checksum::block_checksums;
use drystone_store::format::UNIT;
use drystone_store::{HeldReplica, HeldState, RequestId, StoreConfig, StoreError, StoreInput, StoreReply};
use drystone_types::{ChunkId, Epoch, PlacementIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const MOST: u64 = 130_000;

fn config() -> StoreConfig {
    StoreConfig {
        // Two arenas of four units, of which repair keeps a part of one.
        capacity: Some(8 * UNIT),
        arena_bytes: Some(4 * UNIT),
        spare_bytes: UNIT,
        segment_bytes: 64 << 10,
        batch_bytes: 16 << 10,
        small_bytes: 8 << 10,
        ..tiny()
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Append(u64, u64, (usize, usize), How),
    Finish(u64, u64, u64),
    Fence(u64),
    Delete(u64, u64),
    Checkpoint,
    Tick,
}

use Act::{Append, Checkpoint, Delete, Fence, Finish, Tick};

const LAST: How = How::Last(None);

/// Each list is done in its order, the lists in any.
fn scripts() -> Vec<(&'static str, Vec<Vec<Act>>)> {
    vec![
        (
            "sealed shorter than what is being written",
            vec![
                vec![
                    Append(1, 1, (0, 70_000), How::Sync),
                    Append(1, 1, (70_000, 120_000), How::Received),
                    Finish(1, 1, 50_000),
                ],
                vec![Append(2, 1, (0, 120_000), LAST), Append(3, 1, (0, 60_000), LAST)],
                vec![Checkpoint],
            ],
        ),
        (
            "deleted and placed again",
            vec![
                vec![
                    Append(1, 1, (0, 60_000), LAST),
                    Delete(1, 1),
                    Append(1, 2, (0, 20_000), How::Sync),
                ],
                vec![Append(2, 1, (0, 5_000), LAST), Tick, Delete(2, 1)],
                vec![Checkpoint],
            ],
        ),
        (
            "bytes that only a checkpoint holds",
            vec![
                vec![
                    Append(1, 1, (0, 5_000), How::Sync),
                    Append(1, 1, (5_000, 6_000), LAST),
                    Fence(1),
                ],
                vec![Checkpoint, Tick, Checkpoint],
                vec![Append(2, 1, (0, 100_000), LAST), Delete(2, 1)],
            ],
        ),
        (
            "what a deletion frees",
            vec![
                vec![Append(1, 1, (0, 100_000), LAST), Delete(1, 1)],
                vec![
                    Append(2, 1, (0, 100_000), LAST),
                    Append(3, 1, (0, 5_000), LAST),
                    Tick,
                ],
            ],
        ),
        (
            "given up while it is written",
            vec![
                vec![Append(1, 1, (0, 100_000), How::Received), Delete(1, 1)],
                vec![
                    Append(2, 1, (0, 100_000), LAST),
                    Append(3, 1, (0, 100_000), LAST),
                    Delete(2, 1),
                ],
                vec![Append(4, 1, (0, 100_000), LAST)],
            ],
        ),
    ]
}

/// What a chunk may be after a power cut.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Known {
    /// Placements that were asked for, and those of them whose deletion was asked for and answered.
    placed: BTreeSet<u64>,
    doomed: BTreeSet<u64>,
    deleted: u64,
    /// What was acknowledged: of which placement, how long, and whether sealed.
    acknowledged: Option<(u64, u64, bool)>,
    /// Lengths at which a seal was asked for.
    seals: BTreeSet<u64>,
}

impl Known {
    fn answered(&mut self, placement: u64, length: u64, sealed: bool) {
        let now = (placement, length, sealed);
        if self
            .acknowledged
            .is_none_or(|(before, _, was)| before < placement || !was)
        {
            self.acknowledged = (length > 0).then_some(now).max(self.acknowledged);
        }
    }

    /// Panics unless the replica may be what is there.
    fn check(&self, held: &HeldReplica, what: &str) {
        let placement = held.placement.0;
        if held.state == HeldState::Absent {
            let fine = self
                .acknowledged
                .is_none_or(|(placement, ..)| self.doomed.contains(&placement));
            assert!(fine, "{what}: it is gone: {self:?}");
            return;
        }
        assert!(
            self.placed.contains(&placement) && placement > self.deleted,
            "{what}: {held:?} is back: {self:?}"
        );
        let sealed = held.state == HeldState::Sealed;
        assert!(
            !sealed || self.seals.contains(&held.durable),
            "{what}: {held:?} is sealed where nobody asked for: {self:?}"
        );
        if let Some((of, length, was_sealed)) = self.acknowledged {
            assert!(of <= placement, "{what}: {held:?} was replaced: {self:?}");
            let right = match (was_sealed, sealed) {
                (true, _) => sealed && held.durable == length,
                (false, true) => true,
                (false, false) => held.durable >= length,
            };
            assert!(of < placement || right, "{what}: {held:?}: {self:?}");
        }
    }
}

struct Run<'a> {
    sim: Sim,
    threads: &'a [Vec<Act>],
    at: Vec<usize>,
    known: BTreeMap<u64, Known>,
    asked: BTreeMap<RequestId, Act>,
}

impl<'a> Run<'a> {
    fn new(threads: &'a [Vec<Act>]) -> Self {
        Self {
            sim: Sim::on(SimDisk::new(1), 1, config()).unwrap(),
            threads,
            at: vec![0; threads.len()],
            known: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// What may be next: the oldest disk work first, then younger, then requests.
    fn choices(&self) -> usize {
        self.sim.pending.len() + self.ready().len()
    }

    fn ready(&self) -> Vec<usize> {
        let threads = (0..self.threads.len()).filter(|thread| self.at[*thread] < self.threads[*thread].len());
        threads.collect()
    }

    fn choose(&mut self, choice: usize) {
        match choice.checked_sub(self.sim.pending.len()) {
            None => {
                let request = self.sim.pending.remove(choice);
                let done = request.execute(&drystone_env::BufferPool::new(1 << 20));
                self.sim.input(StoreInput::Io(done));
            }
            Some(choice) => {
                let thread = self.ready()[choice];
                let act = self.threads[thread][self.at[thread]];
                self.at[thread] += 1;
                self.act(act);
            }
        }
        for (request, result) in std::mem::take(&mut self.sim.replies) {
            if let (Some(act), Ok(reply)) = (self.asked.remove(&request), result) {
                self.answered(act, &reply);
            }
        }
    }

    fn act(&mut self, act: Act) {
        let request = RequestId(self.sim.next_request);
        self.sim.next_request += 1;
        self.asked.insert(request, act);
        let input = match act {
            Checkpoint => {
                self.sim.store.begin_checkpoint();
                StoreInput::Tick
            }
            Tick => {
                self.sim.now = self.sim.now.plus(Duration::from_millis(30));
                StoreInput::Tick
            }
            Append(chunk, placement, (from, to), how) => {
                let known = self.known.entry(chunk).or_default();
                known.placed.insert(placement);
                if how == LAST {
                    known.seals.insert(to as u64);
                }
                let data = &content(chunk, placement, MOST as usize)[from..to];
                let (sums, data) = (block_checksums(data), bytes::Bytes::copy_from_slice(data));
                frame(request, chunk, placement, MOST, from as u64, data, sums, how)
            }
            Finish(chunk, placement, length) => {
                self.known.entry(chunk).or_default().seals.insert(length);
                StoreInput::Finish {
                    request,
                    chunk: ChunkId(chunk),
                    epoch: Epoch::FIRST,
                    placement: PlacementIndex(placement),
                    length,
                }
            }
            Fence(chunk) => StoreInput::Fence {
                request,
                chunk: ChunkId(chunk),
                epoch: Epoch(2),
            },
            Delete(chunk, placement) => {
                let known = self.known.entry(chunk).or_default();
                known.doomed.insert(placement);
                StoreInput::Delete {
                    request,
                    chunk: ChunkId(chunk),
                    placement: PlacementIndex(placement),
                    incarnation: ME.incarnation,
                }
            }
        };
        self.sim.input(input);
    }

    fn answered(&mut self, act: Act, reply: &StoreReply) {
        match (act, reply) {
            (Append(chunk, placement, ..), StoreReply::Appended { durable, sealed, .. }) => {
                let known = self.known.get_mut(&chunk).unwrap();
                known.answered(placement, *durable, sealed.is_some());
            }
            (Finish(chunk, placement, _), StoreReply::Sealed(sealed)) => {
                let known = self.known.get_mut(&chunk).unwrap();
                known.acknowledged = None;
                known.answered(placement, sealed.length, true);
            }
            (Delete(chunk, placement), StoreReply::Deleted) => {
                let known = self.known.get_mut(&chunk).unwrap();
                known.deleted = known.deleted.max(placement);
            }
            _ => {}
        }
    }
}

/// Whether all of what is acknowledged is there, is right, and stays right while everything that is free is written over;
/// and that everything is free when all is deleted.
fn check(disk: SimDisk, known: &BTreeMap<u64, Known>, what: &str) {
    let mut sim = Sim::on(disk, 7, config()).unwrap_or_else(|fault| panic!("{what}: {fault}"));
    let verify = |sim: &mut Sim, what: &str| {
        let mut held = Vec::new();
        for (chunk, known) in known {
            let (chunk, id) = (*chunk, ChunkId(*chunk));
            let status = sim.ask(|request| StoreInput::Status { request, chunk: id });
            let Ok(StoreReply::Status(replica)) = status else {
                panic!("{what}: {status:?}")
            };
            known.check(&replica, what);
            if replica.state == HeldState::Absent {
                continue;
            }
            let bytes = sim.read_all(chunk, replica.durable);
            let bytes = bytes.unwrap_or_else(|fault| panic!("{what}: chunk {chunk}: {fault}"));
            let right = &content(chunk, replica.placement.0, MOST as usize)[..bytes.len()];
            assert!(bytes == right, "{what}: chunk {chunk} reads wrong bytes");
            held.push((chunk, replica.placement));
        }
        held
    };
    verify(&mut sim, what);
    sim.settle();
    for chunk in 100..110 {
        match sim.write(chunk, UNIT, &content(chunk, 1, 40_000)) {
            Ok(_) => {}
            Err(StoreError::NoSpace { .. }) => break,
            Err(other) => panic!("{what}: {other}"),
        }
    }
    sim.settle();
    let held = verify(&mut sim, what);
    let more = (100..110).map(|chunk| (chunk, PlacementIndex(1)));
    for (chunk, placement) in held.into_iter().chain(more) {
        sim.ask(|request| StoreInput::Delete {
            request,
            chunk: ChunkId(chunk),
            placement,
            incarnation: ME.incarnation,
        })
        .unwrap();
    }
    sim.settle();
    assert_eq!(sim.store.status().used_bytes, 0, "{what}: units belong to nobody");
}

/// What is next in the usual order.
#[derive(Clone, Copy, Debug)]
enum Usual {
    /// The oldest disk work; a request when there is none.
    Oldest,
    /// The youngest.
    Youngest,
    /// A request; the oldest disk work when there is none.
    Requests,
}

#[derive(Default, Debug)]
struct Tally {
    schedules: u64,
    steps: u64,
    power_cuts: u64,
    images: u64,
}

/// Looks at what power cuts leave of the disk now; what was seen before is not looked at again.
fn cut(run: &Run<'_>, seen: &mut BTreeSet<(u64, u64)>, tally: &mut Tally, what: &dyn Fn() -> String) {
    for outcome in 0..3 {
        let copy = run.sim.disk.fork(tally.power_cuts);
        if outcome == 0 {
            copy.kill();
        } else {
            copy.crash();
        }
        tally.power_cuts += 1;
        let mut digest = 0;
        for name in copy.files() {
            digest = u64::from(crc32c::crc32c_append(
                digest as u32,
                &copy.contents(&name).unwrap(),
            )) + (digest << 7);
        }
        let known = u64::from(crc32c::crc32c(format!("{:?}", run.known).as_bytes()));
        if seen.insert((digest, known)) {
            tally.images += 1;
            check(copy, &run.known, &what());
        }
    }
}

/// One schedule: `turns` says at which steps which choice is made; otherwise it is the usual one. Gives the number of choices at
/// each step. Power cuts come behind the last turn: the steps before are those of another schedule.
fn follow(
    name: &str,
    threads: &[Vec<Act>],
    turns: &[(usize, usize)],
    usual: Usual,
    seen: &mut BTreeSet<(u64, u64)>,
    tally: &mut Tally,
) -> Vec<(usize, usize)> {
    let mut run = Run::new(threads);
    let (mut choices, last) = (Vec::new(), turns.last().map_or(0, |turn| turn.0));
    tally.schedules += 1;
    for step in 0.. {
        let count = run.choices();
        if count == 0 {
            break;
        }
        assert!(step < 300, "{name}: {turns:?} has no end");
        let waiting = run.sim.pending.len();
        let next = match usual {
            Usual::Requests if !run.ready().is_empty() => waiting,
            Usual::Youngest => waiting.saturating_sub(1),
            Usual::Oldest | Usual::Requests => 0,
        };
        choices.push((count, next));
        let turn = turns.iter().find(|turn| turn.0 == step);
        run.choose(turn.map_or(next, |turn| turn.1));
        tally.steps += 1;
        if step >= last {
            let what = || format!("{name}, {usual:?} first but {turns:?}, power cut after step {step}");
            cut(&run, seen, tally, &what);
        }
    }
    choices
}

/// All schedules with `left` more turns, behind those of `turns`.
fn explore(
    name: &str,
    threads: &[Vec<Act>],
    turns: &mut Vec<(usize, usize)>,
    (left, usual): (u32, Usual),
    seen: &mut BTreeSet<(u64, u64)>,
    tally: &mut Tally,
) {
    let choices = follow(name, threads, turns, usual, seen, tally);
    if left == 0 {
        return;
    }
    let from = turns.last().map_or(0, |turn| turn.0 + 1);
    for (step, (count, next)) in choices.into_iter().enumerate().skip(from) {
        for choice in (0..count).filter(|choice| *choice != next) {
            turns.push((step, choice));
            explore(name, threads, turns, (left - 1, usual), seen, tally);
            turns.pop();
        }
    }
}

/// `DRYSTONE_TURNS` allows more places that differ: each multiplies the time by a hundred.
#[test]
fn every_order_of_requests_and_disk_work_is_survived() {
    let turns = std::env::var("DRYSTONE_TURNS")
        .ok()
        .and_then(|turns| turns.parse().ok());
    for (name, threads) in scripts() {
        let (mut seen, mut tally) = (BTreeSet::new(), Tally::default());
        for usual in [Usual::Oldest, Usual::Youngest, Usual::Requests] {
            let bound = (turns.unwrap_or(1), usual);
            explore(name, &threads, &mut Vec::new(), bound, &mut seen, &mut tally);
        }
        println!("{name}: {tally:?}");
        assert!(tally.images > 50, "{name}: {tally:?}");
    }
}
