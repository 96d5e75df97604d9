//! The core against a seeded world of chunk servers.

mod world;

use super::*;
use crate::write::buffer::StretchFrame;
use drystone_env::{Monotonic, SeededRng};
use drystone_proto::data::{AppendReply, HopState};
use drystone_types::Code;
use std::collections::BTreeSet;
use std::time::Duration;
use world::*;

#[test]
fn without_faults_there_is_one_chunk_with_all_receipts() {
    for seed in 0..300 {
        let (ending, notes, _) = run(seed, 3, REPLICAS, 0, 0);
        let parts = ending.unwrap();
        assert!(parts.len() == 1 && notes.is_empty(), "seed {seed}");
        assert_eq!(parts[0].chunk.receipts.len(), 3);
    }
}

#[test]
fn one_server_down_at_a_time_never_fails_a_write() {
    let (mut seen, mut short) = (BTreeSet::new(), 0);
    for seed in 0..1_000 {
        for (servers, minimum) in [(4, REPLICAS), (3, 2)] {
            let (ending, notes, _) = run(seed, servers, minimum, 3, SECOND);
            let parts =
                ending.unwrap_or_else(|trouble| panic!("seed {seed}, {servers} servers: {trouble:?}"));
            short += parts.iter().filter(|part| part.chunk.receipts.len() < 3).count();
            seen.extend(notes);
        }
    }
    let all: BTreeSet<Note> = [Note::Rewritten, Note::CutShort, Note::Replaced].into();
    assert_eq!(seen, all, "every way out of trouble was taken");
    assert!(
        short > 0,
        "redundancy was reduced where only two of three servers lived"
    );
}

#[test]
fn what_is_sealed_is_sound_whatever_fails() {
    let mut failed = 0;
    for seed in 0..500 {
        let (ending, ..) = run(seed, 3, REPLICAS, 6, 0);
        failed += u32::from(ending.is_err());
    }
    assert!((1..500).contains(&failed), "{failed} of 500 failed");
}

#[test]
fn a_seed_always_runs_the_same_way() {
    for seed in 0..50 {
        assert_eq!(run(seed, 4, REPLICAS, 4, 0), run(seed, 4, REPLICAS, 4, 0));
    }
}

#[test]
fn a_stream_that_lasts_longer_than_grants_live_succeeds() {
    let mut many = 0;
    for seed in 0..300 {
        let (ending, world) = run_slowly(seed, 3 * SECOND, 0);
        let parts = ending.unwrap_or_else(|trouble| panic!("seed {seed}: {trouble:?}"));
        assert!(parts.iter().all(|part| part.chunk.receipts.len() == 3));
        assert_eq!(
            world.blamed, 0,
            "seed {seed}: nobody is to blame for time that passes"
        );
        assert_eq!(world.notes, BTreeSet::new(), "seed {seed}: nothing is sent twice");
        many += usize::from(parts.len() > 2);
    }
    assert!(many > 200, "{many} of 300 streams outlived two grants");
}

#[test]
fn a_slow_stream_survives_servers_that_fail() {
    for seed in 0..300 {
        let (ending, _) = run_slowly(seed, 120 * SECOND, 5);
        ending.unwrap_or_else(|trouble| panic!("seed {seed}: {trouble:?}"));
    }
}

/// It asked for grants again and again until its patience ended.
#[test]
fn a_write_to_full_disks_fails_at_once() {
    let mut world = World::new(SeededRng::new(1), 3, REPLICAS, 300 * SECOND);
    let limits = StretchLimits {
        window: 4,
        sync_every: 1 << 20,
        patience: Duration::from_secs(60),
    };
    let mut core = ChunkWrite::new(limits, world.policy(), []);
    let (mut out, data) = (Vec::new(), bytes::Bytes::from(vec![1; 8192]));
    core.on(Monotonic(0), ChunkInput::Frame(StretchFrame::new(data)), &mut out);
    core.on(Monotonic(0), ChunkInput::End, &mut out);
    let mut rounds = 0;
    while !core.is_over() {
        rounds += 1;
        assert!(rounds < 10, "it goes on: {out:?}");
        let now = Monotonic(rounds * SECOND / 10);
        for output in std::mem::take(&mut out) {
            let input = match output {
                ChunkOutput::Grant { step, .. } => ChunkInput::Granted {
                    step,
                    result: Ok(world.grant(&[])),
                },
                ChunkOutput::Append { step, position, .. } => ChunkInput::Appended {
                    step,
                    position,
                    result: Err(trouble(Code::NoSpace)),
                },
                _ => ChunkInput::Tick,
            };
            core.on(now, input, &mut out);
        }
    }
    let full = |output: &ChunkOutput| matches!(output, ChunkOutput::Failed(trouble) if trouble.code == Code::NoSpace);
    assert!(out.iter().any(full), "{out:?}");
}

#[test]
fn nobody_is_blamed_for_an_expired_grant() {
    let mut world = World::new(SeededRng::new(1), 4, REPLICAS, 3 * SECOND);
    let mut core = ChunkWrite::new(
        StretchLimits {
            window: 4,
            sync_every: 1,
            patience: Duration::from_secs(60),
        },
        world.policy(),
        [],
    );
    let (mut out, data) = (Vec::new(), bytes::Bytes::from(vec![1; 8192]));
    let grant = world.grant(&[]);
    core.on(Monotonic(0), ChunkInput::Frame(StretchFrame::new(data)), &mut out);
    core.on(
        Monotonic(0),
        ChunkInput::Granted {
            step: core.step,
            result: Ok(grant),
        },
        &mut out,
    );
    core.on(Monotonic(SECOND / 2), ChunkInput::Tick, &mut out);
    out.clear();
    // The first bytes are durable and forgotten when the process sleeps for longer than the grant lives.
    let hops = (0..3)
        .map(|_| HopState {
            durable: 8192,
            ..HopState::default()
        })
        .collect();
    let acknowledged = ChunkInput::Appended {
        step: core.step,
        position: 0,
        result: Ok(AppendReply { hops }),
    };
    core.on(Monotonic(SECOND / 2), acknowledged, &mut out);
    core.on(Monotonic(100 * SECOND), ChunkInput::Tick, &mut out);
    let asked: Vec<usize> = out
        .iter()
        .filter_map(|output| match output {
            ChunkOutput::Finish { member, .. } => Some(*member),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 3);
    for member in asked {
        let result = Err(trouble(Code::GrantExpired));
        core.on(
            Monotonic(100 * SECOND),
            ChunkInput::Finished {
                step: core.step,
                member,
                result,
            },
            &mut out,
        );
    }
    assert!(!out.iter().any(|output| matches!(output, ChunkOutput::Blamed(_))));
    let failed =
        |output: &ChunkOutput| matches!(output, ChunkOutput::Failed(trouble) if trouble.is_of_grant());
    assert!(out.iter().any(failed));
}

/// One process writes chunks of a frame each for so long, one after another. Gives when each was begun, how long it
/// took and how many receipts it has.
fn run_chunks(world: &mut World, until: u64) -> Vec<(u64, u64, usize)> {
    let (mut chunks, limits) = (
        Vec::new(),
        StretchLimits {
            window: 4,
            sync_every: 40_000,
            patience: Duration::from_secs(30),
        },
    );
    while world.now < until {
        let (began, data) = (world.now, vec![chunks.len() as u8; 8192]);
        world.released = 0;
        let frame = StretchFrame::new(bytes::Bytes::copy_from_slice(&data));
        world.push(began, Event::Feed(ChunkInput::Frame(frame)));
        world.push(began, Event::Feed(ChunkInput::End));
        let parts = drive(world, limits.clone(), &data).unwrap();
        let receipts = parts.iter().map(|part| part.chunk.receipts.len()).min().unwrap();
        chunks.push((began, world.now - began, receipts));
        // What is left belongs to the chunk that is over; faults are still to come.
        world.wake = None;
        world
            .queue
            .retain(|_, event| !matches!(event, Event::Deliver(_) | Event::Answer(..) | Event::Feed(_)));
        world.now += 1_000;
    }
    chunks
}

/// Once it cost every chunk of the next 10 s a replica, and nothing repaired them.
#[test]
fn one_slow_moment_of_a_server_costs_no_redundancy() {
    for seed in 0..20 {
        let mut world = World::new(SeededRng::new(seed), 3, 2, 3_600 * SECOND);
        world.servers[1].paused_until = SECOND * 9 / 5;
        let chunks = run_chunks(&mut world, 12 * SECOND);
        assert!(world.blamed > 0, "seed {seed}: the moment was noticed");
        for (began, _, receipts) in &chunks {
            assert_eq!(*receipts, 3, "seed {seed}: the chunk begun at {began}");
        }
        assert!(chunks.len() > 500, "seed {seed}: {} chunks", chunks.len());
    }
}

#[test]
fn a_dead_server_holds_nobody_up_for_long_and_is_found_again() {
    for (seed, paused) in (0..10).flat_map(|seed| [(seed, false), (seed, true)]) {
        let (mut world, back) = (
            World::new(SeededRng::new(seed), 3, 2, 3_600 * SECOND),
            30 * SECOND,
        );
        if paused {
            world.servers[1].paused_until = back;
        } else {
            world.push(0, Event::Kill(1));
            world.push(back, Event::Revive(1));
        }
        let chunks = run_chunks(&mut world, 40 * SECOND);
        let waited: u64 = chunks
            .iter()
            .filter(|chunk| chunk.1 > SECOND / 10)
            .map(|chunk| chunk.1)
            .sum();
        assert!(
            waited < 6 * SECOND,
            "seed {seed}, {paused}: writers waited {waited} us in all"
        );
        for (began, _, receipts) in &chunks {
            let expected = if *began < back - 3 * SECOND { 2..=2 } else { 2..=3 };
            assert!(
                expected.contains(receipts),
                "seed {seed}: {receipts} of the chunk begun at {began}"
            );
            assert!(
                *began < back + 2 * SECOND || *receipts == 3,
                "seed {seed}: it is back at {began}"
            );
        }
    }
}

/// Its disk hangs, and its process does not know.
#[test]
fn a_server_that_only_seems_well_is_tried_less_and_less() {
    let mut world = World::new(SeededRng::new(1), 3, 2, 3_600 * SECOND);
    world.hung = Some(1);
    let chunks = run_chunks(&mut world, 60 * SECOND);
    assert!((2..=10).contains(&world.spoiled), "{} copies", world.spoiled);
    assert!(chunks.iter().all(|chunk| chunk.2 == 2 && chunk.1 < 15 * SECOND));
    let waited: u64 = chunks
        .iter()
        .filter(|chunk| chunk.1 > SECOND / 10)
        .map(|chunk| chunk.1)
        .sum();
    assert!(waited < 45 * SECOND, "{waited}");
}
