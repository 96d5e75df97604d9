use super::*;
use crate::format::{Run, Runs};
use crate::index::LeafImage;
use drystone_env::{Rng, SeededRng};
use drystone_types::{Epoch, PlacementIndex};

/// An entry that tells `number`: settled, of many runs, or open.
fn entry(number: u64) -> IndexEntry {
    let runs = if number.is_multiple_of(7) { 40 } else { 1 };
    let runs = (0..runs).map(|arena| Run {
        arena,
        first: 1,
        units: 1,
    });
    let is_open = number.is_multiple_of(11);
    IndexEntry {
        placement: PlacementIndex(number),
        epoch: Epoch(1),
        state: if is_open {
            EntryState::Open
        } else {
            EntryState::Sealed
        },
        runs: Runs::of(runs.collect()),
        length: 5000,
        stored: if is_open { 4096 } else { 5000 },
        checksum: number as u32,
        tail_at: if is_open { 0 } else { 8192 },
    }
}

struct Changes {
    rng: SeededRng,
    index: Index,
    plain: BTreeMap<ChunkId, IndexEntry>,
    number: u64,
}

impl Changes {
    fn new(seed: u64) -> Self {
        Self {
            rng: SeededRng::new(seed),
            index: Index::new(LEAF_BYTES),
            plain: BTreeMap::new(),
            number: 0,
        }
    }

    /// Changes one chunk: which.
    fn change(&mut self, ids: u64) -> ChunkId {
        self.number += 1;
        let chunk = match self.rng.below(3) {
            0 => ChunkId(self.rng.below(ids)),
            // Ids come in order, nearly.
            _ => ChunkId(self.number + self.rng.below(8)),
        };
        let entry = (self.rng.below(3) > 0).then(|| entry(self.number));
        self.index.put(chunk, entry.clone());
        match entry {
            Some(entry) => self.plain.insert(chunk, entry),
            None => self.plain.remove(&chunk),
        };
        chunk
    }

    fn compare(&self) {
        let expected = self.plain.iter().map(|(chunk, entry)| (*chunk, entry.clone()));
        assert!(self.index.entries(ChunkId(0)).eq(expected));
        let counts = self.index.counts();
        let is_open = |entry: &&IndexEntry| entry.state == EntryState::Open;
        assert_eq!(counts.chunks as usize, self.plain.len());
        assert_eq!(
            counts.open_chunks as usize,
            self.plain.values().filter(is_open).count()
        );
        assert_eq!(
            counts.content_bytes,
            self.plain.values().map(|e| e.length).sum::<u64>()
        );
    }
}

#[test]
fn it_agrees_with_a_plain_map() {
    for seed in 0..20 {
        let mut run = Changes::new(seed);
        for _ in 0..3000 {
            let chunk = run.change(3000);
            assert_eq!(run.index.get(chunk).as_ref(), run.plain.get(&chunk));
        }
        run.compare();
        let from = ChunkId(run.rng.below(3000));
        let after = run.plain.range((Excluded(from), Unbounded));
        let after = after.map(|(chunk, entry)| (*chunk, entry.clone()));
        assert!(run.index.after(from).eq(after));
        let load = (run.index.leaves, run.index.unsettled);
        run.index = Index::load(LEAF_BYTES, load.0.into_iter().collect(), load.1);
        run.compare();
    }
}

/// What a checkpoint rests on: whatever changes while a sweep goes over the leaves, a chunk that did not change is in what
/// the sweep gave, once and as it is, and no id is in two leaves.
#[test]
fn a_sweep_gives_what_did_not_change_meanwhile() {
    let (mut joined, mut dropped) = (0, 0);
    for seed in 0..60 {
        let mut run = Changes::new(seed);
        let ids = 200 + run.rng.below(4000);
        for _ in 0..ids {
            run.change(ids);
        }
        let mut on_disk: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut place = 0;
        for _round in 0..5 {
            // Sometimes much goes at once.
            if run.rng.below(2) == 0 {
                let (low, high) = (run.rng.below(ids), run.rng.below(ids));
                for chunk in low.min(high)..low.max(high) {
                    run.index.put(ChunkId(chunk), None);
                    run.plain.remove(&ChunkId(chunk));
                }
            }
            let (mut named, mut changed): (Vec<(ChunkId, LeafImage)>, Vec<ChunkId>) = Default::default();
            let mut from = Some(ChunkId(0));
            let before = run.index.leaves.len();
            while let Some(at) = from {
                let Some((first, leaf, next)) = run.index.sweep(at) else {
                    break;
                };
                let image = leaf.image().unwrap_or_else(|| {
                    place += 1;
                    let mut bytes = vec![0; LEAF_BYTES];
                    let checksum = leaf.encode(&mut bytes);
                    on_disk.insert(place, bytes);
                    LeafImage { place, checksum }
                });
                leaf.set_image(image);
                named.push((first, image));
                from = next;
                for _ in 0..run.rng.below(30) {
                    changed.push(run.change(ids));
                }
            }
            joined += usize::from(named.len() < before);
            let ends = named.iter().skip(1).map(|(first, _)| Some(*first)).chain([None]);
            let leaves = named.iter().zip(ends).map(|((first, image), end)| {
                let leaf = Leaf::decode(&on_disk[&image.place], *image, *first, end).unwrap();
                (*first, leaf)
            });
            let loaded = Index::load(LEAF_BYTES, leaves.collect(), BTreeMap::new());
            for (chunk, entry) in run.plain.iter().filter(|(chunk, _)| !changed.contains(chunk)) {
                let settled = LeafEntry::of(*chunk, entry).is_some();
                let expected = settled.then(|| entry.clone());
                assert_eq!(loaded.get(*chunk), expected, "seed {seed}: chunk {chunk}");
            }
            for (chunk, _) in loaded.entries(ChunkId(0)) {
                let is_known = run.plain.contains_key(&chunk) || changed.contains(&chunk);
                assert!(is_known, "seed {seed}: chunk {chunk} is back");
            }
            run.compare();
            dropped += usize::from(run.index.leaves.len() < before);
        }
    }
    assert!(
        joined > 0 && dropped > 0,
        "small leaves are joined, empty ones dropped"
    );
}

#[test]
fn long_entries_find_room() {
    let mut index = Index::new(LEAF_BYTES);
    let runs = |count: u32| {
        let runs = (0..count).map(|arena| Run {
            arena,
            first: 1,
            units: 1,
        });
        IndexEntry {
            runs: Runs::of(runs.collect()),
            ..entry(1)
        }
    };
    // As many runs as the longest chunk can have, before, behind and between others.
    for chunk in [50, 40, 60, 45, 45, 41, 39] {
        index.set(ChunkId(chunk), Some(runs(1026)));
        index.set(ChunkId(chunk + 200), Some(entry(1)));
        assert_eq!(index.get(ChunkId(chunk)), Some(runs(1026)));
    }
    assert_eq!(index.entries(ChunkId(0)).count(), 12);
    assert_eq!(index.unsettled().count(), 0);
}
