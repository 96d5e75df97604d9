//! Short scripts on a disk of some units, in every order of requests and disk work that differs from a usual one in so
//! many places, with a power cut after every step. What random orders find by chance is found here, or is not there.

mod known;
mod script;

use crate::harness::{ME, Sim, content, frame};
use drystone_env::sim::SimDisk;
use drystone_proto::checksum::block_checksums;
use drystone_store::format::UNIT;
use drystone_store::{HeldState, IoClass, RequestId, StoreConfig, StoreError, StoreInput, StoreReply};
use drystone_types::{ChunkId, Epoch, PlacementIndex};
use known::Known;
use script::Act::{Append, Checkpoint, Delete, Fence, Finish, Read, Tick};
use script::{Act, LAST, MOST, Script, config, emptying, moving_scripts, scripts};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn all_scripts() -> Vec<Script> {
    let script = |config: StoreConfig, disk: &SimDisk, known: &BTreeMap<u64, Known>| {
        let (disk, known) = (disk.clone(), known.clone());
        move |(name, threads)| Script {
            name,
            config: config.clone(),
            disk: disk.fork(1),
            known: known.clone(),
            threads,
        }
    };
    let on_new = scripts()
        .into_iter()
        .map(script(config(), &SimDisk::new(1), &BTreeMap::new()));
    let (disk, known) = nearly_empty();
    let moving = moving_scripts()
        .into_iter()
        .map(script(emptying(), &disk, &known));
    on_new.chain(moving).collect()
}

/// A disk with one chunk in its second arena, for which there is room in the others.
fn nearly_empty() -> (SimDisk, BTreeMap<u64, Known>) {
    let script = Script {
        name: "nearly empty",
        config: emptying(),
        disk: SimDisk::new(1),
        known: BTreeMap::new(),
        threads: Vec::new(),
    };
    let mut run = Run::new(&script);
    let done = |run: &mut Run<'_>, act| {
        run.act(act);
        while !run.sim.pending.is_empty() {
            run.choose(0);
        }
    };
    for chunk in 1..=11 {
        done(&mut run, Append(chunk, 1, (0, 60_000), LAST));
    }
    run.sim.settle();
    for chunk in [2, 4, 6, 7, 8, 11] {
        done(&mut run, Delete(chunk, 1));
    }
    assert!(run.asked.is_empty() && run.sim.store.status().used_bytes == 5 * UNIT);
    (run.sim.disk, run.known)
}

struct Run<'a> {
    sim: Sim,
    threads: &'a [Vec<Act>],
    at: Vec<usize>,
    known: BTreeMap<u64, Known>,
    asked: BTreeMap<RequestId, Act>,
}

impl<'a> Run<'a> {
    fn new(script: &'a Script) -> Self {
        Self {
            sim: Sim::on(script.disk.fork(1), 1, script.config.clone()).unwrap(),
            threads: &script.threads,
            at: vec![0; script.threads.len()],
            known: script.known.clone(),
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
            match (self.asked.remove(&request), result) {
                (Some(act), Ok(reply)) => self.answered(act, &reply),
                (Some(Read(chunk, ..)), Err(StoreError::NotFound { .. } | StoreError::Placement { .. })) => {
                    assert!(
                        !self.known[&chunk].doomed.is_empty(),
                        "chunk {chunk} is not found"
                    );
                }
                (Some(act @ Read(..)), Err(fault)) => panic!("{act:?}: {fault}"),
                _ => {}
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
            Read(chunk, placement, length) => StoreInput::Read {
                request,
                chunk: ChunkId(chunk),
                placement: Some(PlacementIndex(placement)),
                offset: 0,
                length,
                io_class: IoClass::default(),
            },
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
            (Read(chunk, placement, _), StoreReply::Data { data, .. }) => {
                let right = &content(chunk, placement, MOST as usize)[..data.len()];
                assert!(
                    !data.is_empty() && data[..] == *right,
                    "chunk {chunk} reads wrong bytes"
                );
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
fn check(disk: SimDisk, config: StoreConfig, known: &BTreeMap<u64, Known>, what: &str) {
    let mut sim = Sim::on(disk, 7, config).unwrap_or_else(|fault| panic!("{what}: {fault}"));
    let verify = |sim: &mut Sim, what: &str| {
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
        }
    };
    verify(&mut sim, what);
    sim.settle();
    for chunk in 100..120 {
        match sim.write(chunk, UNIT, &content(chunk, 1, 40_000)) {
            Ok(_) => {}
            Err(StoreError::NoSpace { .. }) => break,
            Err(other) => panic!("{what}: {other}"),
        }
    }
    sim.settle();
    verify(&mut sim, what);
    delete_all(&mut sim, known.keys().copied().chain(100..120), what);
}

/// When all is deleted no unit is taken.
fn delete_all(sim: &mut Sim, chunks: impl Iterator<Item = u64>, what: &str) {
    for chunk in chunks.map(ChunkId) {
        let status = sim.ask(|request| StoreInput::Status { request, chunk });
        let Ok(StoreReply::Status(replica)) = status else {
            panic!("{what}: {status:?}")
        };
        let deleted = sim.ask(|request| StoreInput::Delete {
            request,
            chunk,
            placement: replica.placement,
            incarnation: ME.incarnation,
        });
        assert!(
            deleted.is_ok() || replica.state == HeldState::Absent,
            "{what}: {deleted:?}"
        );
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
    moved_chunks: u64,
}

/// Looks at what power cuts leave of the disk now; what was seen before is not looked at again.
fn cut(
    (run, config): (&Run<'_>, &StoreConfig),
    seen: &mut BTreeSet<(u64, u64)>,
    tally: &mut Tally,
    what: &dyn Fn() -> String,
) {
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
            check(copy, config.clone(), &run.known, &what());
        }
    }
}

/// One schedule: `turns` says at which steps which choice is made; otherwise it is the usual one. Gives the number of choices at
/// each step. Power cuts come behind the last turn: the steps before are those of another schedule.
fn follow(
    script: &Script,
    turns: &[(usize, usize)],
    usual: Usual,
    seen: &mut BTreeSet<(u64, u64)>,
    tally: &mut Tally,
) -> Vec<(usize, usize)> {
    let (name, mut run) = (script.name, Run::new(script));
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
            cut((&run, &script.config), seen, tally, &what);
        }
    }
    tally.moved_chunks += run.sim.store.status().moved_chunks;
    let what = format!("{name}, {usual:?} first but {turns:?}");
    delete_all(&mut run.sim, run.known.keys().copied(), &what);
    choices
}

/// All schedules with `left` more turns, behind those of `turns`.
fn explore(
    script: &Script,
    turns: &mut Vec<(usize, usize)>,
    (left, usual): (u32, Usual),
    seen: &mut BTreeSet<(u64, u64)>,
    tally: &mut Tally,
) {
    let choices = follow(script, turns, usual, seen, tally);
    if left == 0 {
        return;
    }
    let from = turns.last().map_or(0, |turn| turn.0 + 1);
    for (step, (count, next)) in choices.into_iter().enumerate().skip(from) {
        for choice in (0..count).filter(|choice| *choice != next) {
            turns.push((step, choice));
            explore(script, turns, (left - 1, usual), seen, tally);
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
    for script in all_scripts() {
        let (mut seen, mut tally) = (BTreeSet::new(), Tally::default());
        for usual in [Usual::Oldest, Usual::Youngest, Usual::Requests] {
            let bound = (turns.unwrap_or(1), usual);
            explore(&script, &mut Vec::new(), bound, &mut seen, &mut tally);
        }
        println!("{}: {tally:?}", script.name);
        let moves = !script.known.is_empty();
        assert!(!moves || tally.moved_chunks > 20, "{}: {tally:?}", script.name);
        assert!(tally.images > 50, "{}: {tally:?}", script.name);
    }
}
