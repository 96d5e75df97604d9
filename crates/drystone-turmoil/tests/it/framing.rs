//! Frames over a stream that gives and takes what it likes, and over one that is lost in the middle.

use crate::probe::{Caller, ECHO, End, Probe, SERVER, WORK, end};
use crate::seams::{Host, seeds, world};
use bytes::Bytes;
use drystone_env::{Rng, SeededRng};
use drystone_rpc::{Payload, ServerOptions};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Content that depends on the call, so that answers that were mixed up would show.
fn content(nonce: u64, bytes: usize) -> Bytes {
    let mut data = vec![0; bytes];
    SeededRng::new(nonce).fill(&mut data);
    data.into()
}

/// Two clients at once, each with more calls under way than the server's window, frames from nothing to a third of a
/// megabyte, streams cut into segments of any length on both sides.
#[test]
fn frames_survive_any_segmentation() {
    seeds(|seed| {
        // From single bytes to pieces that hold many frames.
        let most = [7, 100, 1_500, 9_000, 60_000][seed as usize % 5];
        let largest = most * 40;
        let mut sim = world(seed);
        let probe = Probe::new(3, 0);
        probe.start(&mut sim, "server", seed, |options, _| options.window = 16);
        let server = Arc::clone(&probe);
        for name in ["client-a", "client-b"] {
            let server = Arc::clone(&server);
            sim.client(name, async move {
                let caller = Caller::new(name, seed);
                server.up(&caller.host).await;
                caller.host.faults.segments(most);
                server.host().faults.segments(most);
                let mut rng = SeededRng::new(seed).split(name);
                let calls = (0..60).map(|nonce| {
                    let kind = if rng.chance(1, 2) { ECHO } else { WORK };
                    let bytes =
                        rng.below(largest.min(300_000) as u64) as usize * usize::from(rng.chance(2, 3));
                    let data = content(nonce, bytes);
                    let answer = caller.send(SERVER, kind, nonce, Some(Payload::new(data.clone())), 100_000);
                    async move { (nonce, data, answer.await) }
                });
                for (nonce, data, answer) in join_all(calls).await {
                    let answer = answer.unwrap_or_else(|error| panic!("seed {seed}, call {nonce}: {error}"));
                    assert_eq!(answer.body.nonce, nonce);
                    assert!(
                        answer.payload == data,
                        "seed {seed}: call {nonce} came back changed"
                    );
                }
                assert_eq!(
                    caller.host.faults.connects(),
                    1,
                    "one connection carried all of it"
                );
                Ok(())
            });
        }
        sim.run().unwrap();
        assert!(probe.running.most() <= 2 * 16, "{} at once", probe.running.most());
    });
}

/// What became of two pipelined calls whose connection was lost after `cut` bytes in one direction.
struct Cut {
    ends: [End; 2],
    done: usize,
}

/// `by_server`: the answers are cut, not the requests.
fn cut_after(seed: u64, cut: u64, by_server: bool) -> Cut {
    let mut sim = world(seed);
    let probe = Probe::new(0, 0);
    // One request at a time is let in: a place that is not given back keeps everybody out.
    let options = |options: &mut ServerOptions, _: &Host| options.classes[1].requests = 3;
    probe.start(&mut sim, "server", seed, options);
    let found = Arc::new(Mutex::new(None));
    let (out, server) = (Arc::clone(&found), Arc::clone(&probe));
    sim.client("client", async move {
        let caller = Caller::new("client", seed);
        server.up(&caller.host).await;
        let faults = if by_server {
            server.host().faults
        } else {
            caller.host.faults.clone()
        };
        faults.cut_next_after(cut);
        let calls = [1, 2].map(|nonce| {
            let payload = Payload::new(content(nonce, 6_000));
            caller.send(SERVER, WORK, nonce, Some(payload), 5_000)
        });
        let start = caller.host.env.clock.now();
        let outcomes = join_all(calls).await;
        assert!(
            caller.host.since(start) < 1_000,
            "a lost connection is noticed, not waited out"
        );
        caller.host.pass(200).await;
        let ends = [end(&outcomes[0]), end(&outcomes[1])];
        *out.lock().unwrap() = Some((ends, server.done().len()));
        assert_eq!(
            server.running.now(),
            0,
            "cut {cut}: a half frame or a lost peer holds nothing"
        );
        assert!(caller.host.faults.open() <= 1 && server.server().connections() <= 1);
        if faults.lost() == 0 {
            return Ok(());
        }
        // The next calls take a new connection and find every place free.
        let again = (3..6).map(|nonce| caller.call(WORK, nonce, 5_000));
        assert!(join_all(again).await.iter().all(Result::is_ok), "cut {cut}");
        Ok(())
    });
    sim.run().unwrap();
    let (ends, done) = found.lock().unwrap().take().expect("the client ended");
    Cut { ends, done }
}

/// Every place where a connection can be lost: in the hello, in the first frame, between the two, after both, and the
/// same for the answers. `not sent` is said of what was not done, `unknown` only once bytes had gone out.
#[test]
fn a_connection_lost_within_a_frame_leaves_a_truthful_error() {
    let mut seen: BTreeMap<(bool, End, bool), u32> = BTreeMap::new();
    for by_server in [false, true] {
        for cut in (1..13_000).step_by(397).chain([72, 73, 160, 12_400, 12_600]) {
            let found = cut_after(cut, cut, by_server);
            let unknown = found.ends.iter().filter(|end| **end == End::Unknown).count();
            let answered = found.ends.iter().filter(|end| **end == End::Answered).count();
            assert!(
                (answered..=answered + unknown).contains(&found.done),
                "cut {cut}, by the server {by_server}: {:?}, but {} were done",
                found.ends,
                found.done
            );
            for end in found.ends {
                *seen.entry((by_server, end, found.done == 2)).or_default() += 1;
            }
        }
    }
    let count = |by_server, wanted| -> u32 {
        let of = seen
            .iter()
            .filter(|((by, end, _), _)| *by == by_server && *end == wanted);
        of.map(|(_, count)| *count).sum()
    };
    assert!(
        count(false, End::NotSent) >= 10,
        "what was not sent is told as such: {seen:?}"
    );
    assert!(count(false, End::Unknown) >= 20, "{seen:?}");
    assert!(count(true, End::Unknown) >= 10, "{seen:?}");
    assert!(
        count(true, End::Answered) >= 10,
        "answers that came whole are answers: {seen:?}"
    );
}

/// A host that dies in the middle of everything: the others are told at once and it leaves nothing behind.
#[test]
fn a_client_that_crashes_within_a_frame_leaves_nothing_at_the_server() {
    seeds(|seed| {
        let mut sim = world(seed);
        let probe = Probe::new(50, 0);
        probe.start(&mut sim, "server", seed, |options, host| {
            options.window = 8;
            host.faults.segments(2_000);
        });
        sim.host("client", move || async move {
            let caller = Caller::new("client", seed);
            let calls = (0..200).map(|nonce| {
                let payload = Payload::new(content(nonce, 20_000));
                caller.send(SERVER, WORK, nonce, Some(payload), 60_000)
            });
            join_all(calls).await;
            Ok(())
        });
        let crash_at = 150 + seed as u128 * 13;
        while sim.elapsed().as_millis() < crash_at {
            sim.step().unwrap();
        }
        assert!(
            probe.server().connections() == 1 && probe.running.now() > 0,
            "seed {seed}: it is in the middle"
        );
        sim.crash("client");
        let done = probe.done().len();
        for _ in 0..200 {
            sim.step().unwrap();
        }
        assert_eq!(
            (probe.server().connections(), probe.running.now()),
            (0, 0),
            "seed {seed}"
        );
        assert_eq!(probe.host().tasks.live("rpc connection"), 0);
        assert!(
            probe.done().len() <= done + 16,
            "what had not arrived whole is not done"
        );
    });
}
