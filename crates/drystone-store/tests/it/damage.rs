//! Damaged images: whatever is flipped, nothing wrong is read, and opening never panics.

use crate::harness::{K64, ME, Sim, open};
use crate::image::{CHUNKS, bytes_of, image};
use drystone_env::sim::SimDisk;
use drystone_env::{Rng, SeededRng};
use drystone_store::{HeldState, StoreError, StoreInput, StoreReply};
use drystone_types::{ChunkId, PlacementIndex};

#[derive(Default, Debug)]
struct Outcomes {
    right: u64,
    refused_reads: u64,
    refused_opens: u64,
}

/// Opens and reads all: right, refused, or the test fails.
fn try_image(disk: SimDisk, seed: u64, what: &str, outcomes: &mut Outcomes) {
    if open(&disk, crate::harness::tiny()).is_err() {
        outcomes.refused_opens += 1;
        return;
    }
    let Ok(mut sim) = Sim::on(disk, seed, crate::harness::tiny()) else {
        outcomes.refused_opens += 1;
        return;
    };
    let mut refused = false;
    for chunk in 1..=CHUNKS {
        let expected = bytes_of(chunk);
        let Ok(StoreReply::Status(status)) = sim.ask(|request| StoreInput::Status {
            request,
            chunk: ChunkId(chunk),
        }) else {
            panic!("status is answered")
        };
        assert_ne!(
            status.state,
            HeldState::Absent,
            "{what}: chunk {chunk} is silently gone"
        );
        assert_eq!(status.durable, expected.len() as u64, "{what}: chunk {chunk}");
        match sim.read_all(chunk, status.durable) {
            Ok(bytes) => assert!(bytes == expected, "{what}: chunk {chunk} reads wrong bytes"),
            Err(StoreError::Corrupt { .. } | StoreError::Io { .. }) => refused = true,
            Err(other) => panic!("{what}: {other}"),
        }
    }
    if refused {
        outcomes.refused_reads += 1;
    } else {
        outcomes.right += 1;
    }
}

#[test]
fn one_flipped_bit_in_any_sector_is_absorbed_or_detected() {
    let disk = image(1);
    let mut rng = SeededRng::new(5);
    let mut outcomes = Outcomes::default();
    for name in disk.files() {
        let bytes = disk.contents(&name).unwrap();
        for sector in 0..bytes.len() as u64 / 512 {
            // Of long stretches of zeros, which nothing uses, a sample is enough.
            let blank = bytes[(sector * 512) as usize..][..512].iter().all(|b| *b == 0);
            if blank && rng.below(16) != 0 {
                continue;
            }
            let copy = disk.fork(sector);
            let (offset, bit) = (sector * 512 + rng.below(512), rng.below(8) as u8);
            copy.flip(&name, offset, bit);
            try_image(copy, sector, &format!("{name} at {offset}"), &mut outcomes);
        }
    }
    assert!(
        outcomes.right > 0 && outcomes.refused_reads > 0 && outcomes.refused_opens > 0,
        "{outcomes:?}"
    );
}

#[test]
fn a_missing_file_is_never_taken_for_an_empty_store() {
    let disk = image(2);
    let mut outcomes = Outcomes::default();
    for name in disk.files() {
        let copy = disk.fork(1);
        copy.set_contents(&name, &[]);
        try_image(copy, 1, &format!("{name} emptied"), &mut outcomes);
        let copy = disk.fork(2);
        drystone_env::Disk::unlink(&copy, &name).unwrap();
        drystone_env::Disk::sync_dir(&copy, name.rsplit_once('/').map_or("", |(d, _)| d)).unwrap();
        try_image(copy, 2, &format!("{name} removed"), &mut outcomes);
    }
    assert!(
        outcomes.right > 0,
        "a copy of the checkpoint can be spared: {outcomes:?}"
    );
    let copy = disk.fork(3);
    for name in ["checkpoint-a", "checkpoint-b"] {
        copy.set_contents(name, b"nonsense");
    }
    assert!(open(&copy, crate::harness::tiny()).is_err());
}

/// Found by a fuzzer: the next file got the lost one's name, so that a chunk of the lost file and a new one had the same
/// place. Deleting the first freed the bytes of the second, and the disk did not open again.
#[test]
fn a_lost_arena_is_never_made_anew_under_its_number() {
    let disk = image(3);
    let lost: Vec<String> = disk
        .files()
        .into_iter()
        .filter(|name| name.starts_with("arenas/"))
        .collect();
    for name in &lost {
        let copy = disk.fork(1);
        drystone_env::Disk::unlink(&copy, name).unwrap();
        drystone_env::Disk::sync_dir(&copy, "arenas").unwrap();
        let mut sim = Sim::on(copy, 1, crate::harness::tiny()).unwrap();
        for chunk in 100..112 {
            sim.write(chunk, K64, &bytes_of(chunk % 9)).unwrap();
        }
        sim.settle();
        for chunk in 1..=CHUNKS {
            sim.ask(|request| StoreInput::Delete {
                request,
                chunk: ChunkId(chunk),
                placement: PlacementIndex(1),
                incarnation: ME.incarnation,
            })
            .unwrap();
        }
        for chunk in 112..120 {
            sim.write(chunk, K64, &bytes_of(chunk % 9)).unwrap();
        }
        sim.settle();
        let mut sim = sim
            .crash()
            .unwrap_or_else(|fault| panic!("without {name}: {fault}"));
        assert!(!sim.disk.files().contains(name), "{name} was made anew");
        for chunk in 100..120 {
            let expected = bytes_of(chunk % 9);
            let found = sim.read_all(chunk, expected.len() as u64).unwrap();
            assert!(
                found == expected,
                "without {name}: chunk {chunk} reads wrong bytes"
            );
        }
    }
    assert!(lost.len() > 1);
}

/// Files of a store, and what they hold.
fn files(disk: &SimDisk, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let names = disk.files().into_iter().filter(|name| name.starts_with(prefix));
    names
        .map(|name| (name.clone(), disk.contents(&name).unwrap()))
        .collect()
}

/// What the reads of all chunks of the image answer.
fn readable(sim: &mut Sim) -> Vec<bool> {
    let read = |chunk| {
        let expected = bytes_of(chunk);
        let found = sim.read_all(chunk, expected.len() as u64);
        assert!(
            found.as_ref().map_or(true, |bytes| *bytes == expected),
            "chunk {chunk} reads wrong bytes"
        );
        found.is_ok()
    };
    (1..=CHUNKS).map(read).collect()
}

/// A lost arena, or one that ends early, takes what was in it and nothing else, before and after a checkpoint and another
/// start.
#[test]
fn a_lost_or_cut_arena_takes_its_own_chunks_only() {
    let disk = image(4);
    let arenas = files(&disk, "arenas/");
    let mut lost = vec![0; arenas.len()];
    for (at, (name, bytes)) in arenas.iter().enumerate() {
        for left in [0, 1, 3] {
            let copy = disk.fork(left);
            // A whole number of units, and a part of one.
            let length = (bytes.len() as u64).min(left * drystone_store::format::UNIT + left);
            copy.set_contents(name, &bytes[..length as usize]);
            let mut sim = Sim::on(copy, 1, crate::harness::tiny()).unwrap();
            let first = readable(&mut sim);
            if left == 0 {
                lost[at] = first.iter().filter(|whole| !**whole).count();
            }
            sim.store.begin_checkpoint();
            sim.settle();
            let Ok(mut sim) = sim.crash() else {
                panic!("{name} cut to {length}: it does not open again")
            };
            let again = readable(&mut sim);
            // What was only to be moved to the lost arena cannot be.
            assert!(
                first.iter().zip(&again).all(|(before, after)| *before || !after),
                "{name} cut to {length}: {first:?} becomes {again:?}"
            );
            assert!(
                first.iter().any(|whole| *whole) || arenas.len() == 1,
                "{name} cut to {length}: {first:?}"
            );
        }
    }
    assert!(lost.iter().any(|count| *count > 0), "{lost:?}");
    assert!(
        lost.iter().sum::<usize>() <= CHUNKS as usize,
        "{lost:?}: each chunk is in one arena"
    );
}

/// Whatever part of a copy of the checkpoint a power cut left, the other one has all.
#[test]
fn a_checkpoint_that_is_torn_anywhere_is_absorbed() {
    let disk = image(5);
    let mut tried = 0;
    for (name, bytes) in files(&disk, "checkpoint") {
        for end in (0..=bytes.len()).step_by(512) {
            for garbage in [false, true] {
                let mut torn = bytes.clone();
                match garbage {
                    true => torn[end..].fill(0xa5),
                    false => torn.truncate(end),
                }
                let copy = disk.fork(end as u64);
                copy.set_contents(&name, &torn);
                let what = format!("{name} torn at {end}");
                let mut sim = Sim::on(copy, 1, crate::harness::tiny())
                    .unwrap_or_else(|fault| panic!("{what}: {fault}"));
                assert!(readable(&mut sim).iter().all(|whole| *whole), "{what}");
                // The next one mends it: then the other copy may be lost.
                sim.write(50, K64, b"more").unwrap();
                sim.settle();
                sim.store.begin_checkpoint();
                sim.settle();
                let other = if name.ends_with('a') {
                    "checkpoint-b"
                } else {
                    "checkpoint-a"
                };
                sim.disk.set_contents(other, &[]);
                let mut sim = sim
                    .crash()
                    .unwrap_or_else(|fault| panic!("{what}, then {other} lost: {fault}"));
                assert!(
                    readable(&mut sim).iter().all(|whole| *whole),
                    "{what}, then {other} lost"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "{tried}");
}

/// The journal of another store that gave the same units to other chunks: two chunks own a unit, which is refused, because
/// nobody knows whose bytes they are.
#[test]
fn a_disk_on_which_two_chunks_own_a_unit_is_refused() {
    let write = |sim: &mut Sim, chunks: std::ops::Range<u64>| {
        for chunk in chunks {
            sim.write(chunk, K64, &bytes_of(chunk)).unwrap();
        }
        sim.settle();
    };
    let (mut ours, mut theirs) = (Sim::new(9), Sim::new(9));
    write(&mut ours, 1..4);
    ours.store.begin_checkpoint();
    ours.settle();
    // What they wrote behind the record from which ours is replayed lies in the units where ours begins.
    write(&mut theirs, 11..14);
    for chunk in 11..14 {
        theirs
            .ask(|request| StoreInput::Delete {
                request,
                chunk: ChunkId(chunk),
                placement: PlacementIndex(1),
                incarnation: ME.incarnation,
            })
            .unwrap();
    }
    write(&mut theirs, 4..7);
    ours.disk.kill();
    theirs.disk.kill();
    for (name, bytes) in files(&theirs.disk, "journal/") {
        ours.disk.set_contents(&name, &bytes);
    }
    let refused = open(&ours.disk, crate::harness::tiny())
        .err()
        .map(|fault| fault.to_string());
    assert!(
        refused
            .as_ref()
            .is_some_and(|why| why.contains("another chunk's units")),
        "{refused:?}"
    );
}

#[test]
fn opening_a_mutated_image_never_panics() {
    let disk = image(3);
    let names = disk.files();
    for seed in 0..300 {
        let mut rng = SeededRng::new(seed);
        let copy = disk.fork(seed);
        for _ in 0..1 + rng.below(4) {
            let name = &names[rng.below(names.len() as u64) as usize];
            let mut bytes = copy.contents(name).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let (at, other) = (
                rng.below(bytes.len() as u64) as usize,
                rng.below(bytes.len() as u64) as usize,
            );
            let count = (1 + rng.below(4096) as usize).min(bytes.len() - at.max(other));
            match rng.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.copy_within(other..other + count, at),
                2 => rng.fill(&mut bytes[at..at + count]),
                _ => bytes[at..at + count].fill(0),
            }
            copy.set_contents(name, &bytes);
        }
        let Ok(mut sim) = Sim::on(copy, seed, crate::harness::tiny()) else {
            continue;
        };
        for chunk in 1..=CHUNKS {
            let expected = bytes_of(chunk);
            if let Ok(bytes) = sim.read_all(chunk, expected.len() as u64) {
                assert!(bytes == expected, "seed {seed}: chunk {chunk} reads wrong bytes");
            }
        }
        sim.write(100, K64, b"still").ok();
        sim.settle();
    }
}
