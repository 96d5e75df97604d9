//! Random requests, random order of disk work, power cuts at any operation; a model says what must hold after.

use crate::harness::{How, K64, M1, ME, Sim, content, emptying_leaves, frame};
use drystone_env::Rng;
use drystone_env::sim::SimDisk;
use drystone_proto::checksum::block_checksums;
use drystone_store::{HeldReplica, HeldState, IoClass, RequestId, StoreError, StoreInput, StoreReply};
use drystone_types::{ChunkId, Epoch, PlacementIndex};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a chunk from the answers, and what may be true beyond.
#[derive(Clone, Debug, Default)]
struct Known {
    placement: u64,
    class: Option<u64>,
    content: Vec<u8>,
    sent: u64,
    durable: u64,
    sealed: Option<(u64, u32)>,
    /// Lengths at which a seal was asked for.
    maybe_sealed: BTreeSet<u64>,
    epoch: u64,
    maybe_epoch: u64,
    deleted: bool,
    maybe_deleted: bool,
}

enum Asked {
    Append {
        chunk: u64,
    },
    Seal {
        chunk: u64,
    },
    Fence {
        chunk: u64,
        placement: u64,
    },
    Delete {
        chunk: u64,
    },
    Read {
        chunk: u64,
        placement: u64,
        offset: u64,
        length: u64,
    },
}

#[derive(Default)]
struct Tally {
    seeds: u64,
    crashes_inside: u64,
    sealed: u64,
    synced: u64,
    fenced: u64,
    deleted: u64,
    checkpoints: u64,
    reads: u64,
    recycled: u64,
    moved: u64,
    emptied: u64,
    fenced_moving: u64,
    deleted_moving: u64,
    crashes_moving: u64,
}

struct Run {
    sim: Sim,
    known: BTreeMap<u64, Known>,
    asked: BTreeMap<RequestId, Asked>,
    seed: u64,
    /// Fences and deletions of chunks that were being moved.
    disturbed: [u64; 2],
}

impl Run {
    fn pick(&mut self, bound: u64) -> u64 {
        self.sim.rng.below(bound)
    }

    fn ask(&mut self, asked: Asked, make: impl FnOnce(RequestId) -> StoreInput) {
        let request = self.sim.request(make);
        self.asked.insert(request, asked);
    }

    fn act(&mut self) {
        let mut chunk = 1 + self.pick(10);
        let mut what = self.pick(22);
        let moving = self.sim.store.moving();
        if let Some(moved) = moving.first()
            && self.pick(3) == 0
        {
            (chunk, what) = (moved.0, 11 + self.pick(8));
        }
        let is_moving = moving.contains(&ChunkId(chunk));
        self.disturbed[0] += u64::from(is_moving && what == 12);
        self.disturbed[1] += u64::from(is_moving && matches!(what, 14 | 15));
        match what {
            0..=10 => self.append(chunk),
            11 => self.finish(chunk),
            12 => self.fence(chunk),
            13 => self.seal(chunk),
            14 | 15 => self.delete(chunk),
            16 | 17 => self.read(chunk),
            18 => self.sim.store.begin_checkpoint(),
            _ => self.sim.tick(std::time::Duration::from_millis(15)),
        }
    }

    fn append(&mut self, chunk: u64) {
        let class = if self.pick(3) == 0 { M1 } else { K64 };
        let length = if class == M1 {
            150_000
        } else {
            1 + self.pick(65_536) as usize
        };
        let known = self.known.entry(chunk).or_default();
        if known.class.is_none() || known.deleted {
            let placement = known.placement + 1;
            let maybe_epoch = known.maybe_epoch;
            let bytes = content(chunk, placement, length);
            *known = Known {
                placement,
                class: Some(class),
                content: bytes,
                ..Known::default()
            };
            // A marker stays until it is deleted, and it is not when the chunk was absent.
            (known.epoch, known.maybe_epoch) = (0, maybe_epoch);
        }
        let known = known.clone();
        let left = known.content.len() as u64 - known.sent;
        let step = match self.pick(4) {
            0 => left,
            1 => 4096 * (1 + self.pick(8)),
            2 => 1 + self.pick(5000),
            _ => 1 + self.pick(60_000),
        };
        let offset = known.sent;
        let end = offset + step.min(left);
        let data = &known.content[offset as usize..end as usize];
        let how = match self.pick(3) {
            _ if end == known.content.len() as u64 => How::Last(None),
            0 => How::Received,
            _ => How::Sync,
        };
        let (sums, bytes) = (block_checksums(data), bytes::Bytes::copy_from_slice(data));
        let placement = known.placement;
        let class = known.class.expect("set above");
        if let How::Last(_) = how {
            self.known.get_mut(&chunk).unwrap().maybe_sealed.insert(end);
        }
        if how == How::Received && data.is_empty() {
            return;
        }
        self.ask(Asked::Append { chunk }, |request| {
            frame(request, chunk, placement, class, offset, bytes, sums, how)
        });
        // A frame that was refused at once was not taken.
        let refused = self.sim.replies.values().any(|reply| reply.is_err());
        if !refused {
            self.known.get_mut(&chunk).unwrap().sent = end;
        }
        self.answers();
    }

    fn finish(&mut self, chunk: u64) {
        let Some(known) = self.known.get(&chunk).cloned() else {
            return;
        };
        let length = self.sim.rng.below(known.sent + 1).max(known.sent.min(1));
        self.known.get_mut(&chunk).unwrap().maybe_sealed.insert(length);
        let placement = PlacementIndex(known.placement);
        let chunk_id = ChunkId(chunk);
        self.ask(Asked::Seal { chunk }, |request| StoreInput::Finish {
            request,
            chunk: chunk_id,
            epoch: Epoch::FIRST,
            placement,
            length,
        });
    }

    fn fence(&mut self, chunk: u64) {
        let epoch = 2 + self.pick(4);
        let known = self.known.entry(chunk).or_default();
        known.maybe_epoch = known.maybe_epoch.max(epoch);
        let placement = known.placement;
        self.ask(Asked::Fence { chunk, placement }, |request| StoreInput::Fence {
            request,
            chunk: ChunkId(chunk),
            epoch: Epoch(epoch),
        });
    }

    fn seal(&mut self, chunk: u64) {
        let Some(known) = self.known.get(&chunk).cloned() else {
            return;
        };
        let length = self.sim.rng.below(known.durable + 1);
        let checksum = crc32c::crc32c(&known.content[..length as usize]);
        let epoch = known.maybe_epoch.max(1);
        self.known.get_mut(&chunk).unwrap().maybe_sealed.insert(length);
        self.known.get_mut(&chunk).unwrap().maybe_epoch = epoch;
        self.ask(Asked::Seal { chunk }, |request| StoreInput::Seal {
            request,
            chunk: ChunkId(chunk),
            epoch: Epoch(epoch),
            length,
            checksum,
        });
    }

    fn delete(&mut self, chunk: u64) {
        let Some(known) = self.known.get_mut(&chunk) else {
            return;
        };
        known.maybe_deleted = true;
        let placement = PlacementIndex(known.placement);
        self.ask(Asked::Delete { chunk }, |request| StoreInput::Delete {
            request,
            chunk: ChunkId(chunk),
            placement,
            incarnation: ME.incarnation,
        });
    }

    fn read(&mut self, chunk: u64) {
        let Some(known) = self.known.get(&chunk).cloned() else {
            return;
        };
        let most = known.sealed.map_or(known.durable, |(length, _)| length);
        if most == 0 {
            return;
        }
        let offset = self.pick(most);
        let length = 1 + self.pick(most - offset);
        let placement = known.placement;
        self.ask(
            Asked::Read {
                chunk,
                placement,
                offset,
                length,
            },
            |request| StoreInput::Read {
                request,
                chunk: ChunkId(chunk),
                placement: Some(PlacementIndex(placement)),
                offset,
                length: length as u32,
                io_class: IoClass::default(),
            },
        );
    }

    /// Takes in what was answered.
    fn answers(&mut self) {
        for (request, result) in std::mem::take(&mut self.sim.replies) {
            let Some(asked) = self.asked.remove(&request) else {
                continue;
            };
            self.answer(asked, result);
        }
    }

    fn answer(&mut self, asked: Asked, result: Result<StoreReply, StoreError>) {
        let seed = self.seed;
        match (asked, result) {
            (Asked::Append { chunk } | Asked::Seal { chunk }, Ok(reply)) => {
                let known = self.known.get_mut(&chunk).unwrap();
                let sealed = match reply {
                    StoreReply::Appended { durable, sealed, .. } => {
                        known.durable = known.durable.max(durable);
                        sealed
                    }
                    StoreReply::Sealed(sealed) => Some(sealed),
                    other => panic!("{other:?}"),
                };
                if let Some(sealed) = sealed {
                    let now = (sealed.length, sealed.checksum);
                    assert!(
                        known.sealed.is_none_or(|before| before == now),
                        "seed {seed}: sealed twice"
                    );
                    let bytes = &known.content[..sealed.length as usize];
                    assert_eq!(crc32c::crc32c(bytes), sealed.checksum, "seed {seed}");
                    known.sealed = Some(now);
                    known.durable = sealed.length;
                    known.sent = sealed.length;
                }
            }
            (Asked::Fence { chunk, placement }, Ok(StoreReply::Fenced { epoch, length })) => {
                let known = self.known.get_mut(&chunk).unwrap();
                // It verifies what it fenced, and may answer after a deletion that came later.
                if known.placement != placement || known.deleted {
                    return;
                }
                known.epoch = known.epoch.max(epoch.0);
                if let Some(length) = length {
                    let most = known.sealed.map_or(known.durable, |(length, _)| length);
                    let cut = known.maybe_sealed.iter().any(|l| *l <= length);
                    assert!(
                        length >= most || cut,
                        "seed {seed}: fence answers {length}, {most} were acknowledged"
                    );
                    // A seal that came later may have been answered before.
                    if known.sealed.is_none() {
                        known.durable = known.durable.max(length);
                    }
                }
            }
            (Asked::Delete { chunk }, Ok(_)) => {
                let known = self.known.get_mut(&chunk).unwrap();
                known.deleted = true;
                (known.epoch, known.maybe_epoch) = (0, 0);
            }
            (
                Asked::Read {
                    chunk,
                    placement,
                    offset,
                    length,
                },
                Ok(StoreReply::Data { data, .. }),
            ) => {
                let known = &self.known[&chunk];
                if known.placement == placement {
                    let expected = &known.content[offset as usize..(offset + length) as usize];
                    assert!(data == expected, "seed {seed}: chunk {chunk} reads wrong bytes");
                }
            }
            (Asked::Read { .. }, Err(error @ (StoreError::Corrupt { .. } | StoreError::Io { .. }))) => {
                panic!("seed {seed}: {error}")
            }
            (Asked::Append { .. } | Asked::Seal { .. }, Err(error @ StoreError::Corrupt { .. })) => {
                panic!("seed {seed}: {error}")
            }
            _ => {}
        }
    }

    /// What must hold after a start.
    fn check(&mut self) {
        let seed = self.seed;
        for (chunk, mut known) in std::mem::take(&mut self.known) {
            let id = ChunkId(chunk);
            let Ok(StoreReply::Status(found)) =
                self.sim.ask(|request| StoreInput::Status { request, chunk: id })
            else {
                panic!("status is answered")
            };
            let gone = found.state == HeldState::Absent;
            if known.deleted {
                assert!(gone, "seed {seed}: deleted chunk {chunk} is back: {found:?}");
            }
            assert!(
                found.epoch.0 >= known.epoch || known.maybe_deleted,
                "seed {seed}: {found:?} {}",
                known.epoch
            );
            assert!(
                found.epoch.0 <= known.maybe_epoch.max(1) || known.maybe_deleted,
                "seed {seed}: {found:?}"
            );
            if gone {
                let kept = known.durable == 0 && known.sealed.is_none();
                assert!(
                    kept || known.deleted || known.maybe_deleted,
                    "seed {seed}: chunk {chunk} is lost"
                );
                let old = known;
                known = Known {
                    placement: old.placement,
                    ..Known::default()
                };
                (known.epoch, known.maybe_epoch) = (found.epoch.0, found.epoch.0);
            } else {
                self.check_present(chunk, &known, found);
                known.sent = found.durable;
                known.durable = found.durable;
                known.epoch = found.epoch.0;
                known.maybe_epoch = found.epoch.0;
                known.maybe_deleted = false;
                known.maybe_sealed.clear();
                let sealed = found.state == HeldState::Sealed;
                known.sealed = sealed.then_some((found.durable, found.checksum));
            }
            self.known.insert(chunk, known);
        }
    }

    fn check_present(&mut self, chunk: u64, known: &Known, found: HeldReplica) {
        let seed = self.seed;
        assert_eq!(found.placement.0, known.placement, "seed {seed}");
        let enough = found.durable >= known.durable
            || (known.sealed.is_none() && known.maybe_sealed.contains(&found.durable));
        assert!(
            enough,
            "seed {seed}: chunk {chunk} has {} of {} bytes",
            found.durable, known.durable
        );
        assert!(found.durable <= known.content.len() as u64, "seed {seed}");
        if let Some((length, checksum)) = known.sealed {
            assert_eq!(found.state, HeldState::Sealed, "seed {seed}");
            assert_eq!((found.durable, found.checksum), (length, checksum), "seed {seed}");
        }
        let bytes = self.sim.read_all(chunk, found.durable);
        let bytes = bytes.unwrap_or_else(|error| panic!("seed {seed}: {error} {found:?}"));
        assert!(
            bytes == known.content[..found.durable as usize],
            "seed {seed}: chunk {chunk} has other bytes"
        );
    }
}

fn run(seed: u64, tally: &mut Tally) {
    let mut run = Run {
        sim: Sim::on(SimDisk::new(seed), seed, emptying_leaves()).unwrap(),
        known: BTreeMap::new(),
        asked: BTreeMap::new(),
        seed,
        disturbed: [0; 2],
    };
    for _life in 0..4 {
        if run.pick(4) > 0 {
            let nth = 1 + run.pick(120);
            run.sim.disk.power_off_at(nth);
        }
        for _ in 0..60 {
            run.act();
            run.answers();
            for _ in 0..run.pick(6) {
                run.sim.step();
                run.answers();
            }
            if run.sim.disk.is_off() {
                break;
            }
        }
        let status = run.sim.store.status();
        tally.moved += status.moved_chunks;
        tally.emptied += status.emptied_arenas;
        tally.crashes_moving += u64::from(!run.sim.store.moving().is_empty());
        tally.crashes_inside += u64::from(!run.asked.is_empty());
        run.asked.clear();
        tally.sealed += run.known.values().filter(|k| k.sealed.is_some()).count() as u64;
        tally.synced += run
            .known
            .values()
            .filter(|k| k.sealed.is_none() && k.durable > 0)
            .count() as u64;
        tally.fenced += run.known.values().filter(|k| k.epoch > 1).count() as u64;
        tally.deleted += run.known.values().filter(|k| k.deleted).count() as u64;
        tally.recycled += run.known.values().filter(|k| k.placement > 1).count() as u64;
        let kill = run.pick(5) == 0 && !run.sim.disk.is_off();
        let sim = if kill { run.sim.restart() } else { run.sim.crash() };
        run.sim = sim.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        run.check();
        if run.pick(2) == 0 {
            run.sim.settle();
            run.check();
        }
        tally.reads += 1;
    }
    tally.checkpoints += u64::from(drystone_store::Store::floor(&run.sim.store).0 == 0);
    tally.fenced_moving += run.disturbed[0];
    tally.deleted_moving += run.disturbed[1];
    tally.seeds += 1;
}

/// `DRYSTONE_SEEDS` runs more, `DRYSTONE_SEED` one.
#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_goes() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse::<u64>().ok())
    };
    let mut tally = Tally::default();
    if let Some(seed) = number("DRYSTONE_SEED") {
        run(seed, &mut tally);
        return;
    }
    let count = number("DRYSTONE_SEEDS").unwrap_or(2000);
    (0..count).for_each(|seed| run(seed, &mut tally));
    assert_eq!(tally.seeds, count);
    for (name, seen) in [
        ("crash with requests unanswered", tally.crashes_inside),
        ("sealed", tally.sealed),
        ("synced and open", tally.synced),
        ("fenced", tally.fenced),
        ("deleted", tally.deleted),
        ("placed again", tally.recycled),
        ("moved out of an arena", tally.moved),
        ("an arena that was emptied", tally.emptied),
        ("a fence of a chunk that is being moved", tally.fenced_moving),
        ("a deletion of a chunk that is being moved", tally.deleted_moving),
        ("a crash while a chunk is being moved", tally.crashes_moving),
    ] {
        assert!(seen > 0, "no seed has: {name}");
    }
}
