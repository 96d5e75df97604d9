//! After a silent partition a stream stays open and swallows everything: whoever calls must find out and connect anew.

use crate::probe::{ECHO, End, Probe, WAIT, WORK, end};
use crate::seams::seeds;
use futures_util::future::join_all;
use std::time::Duration;

/// A connection on which nothing comes back for so long is given up when a call's deadline passes.
const SILENCE: u64 = 1_000;
/// A refused attempt, a hello and an answer.
const RECONNECT: u64 = 500;

/// How the connection is lost without a sign.
fn silence(oneway: bool) {
    if oneway {
        turmoil::partition_oneway("server", "client");
    } else {
        turmoil::partition("client", "server");
    }
}

fn heal(oneway: bool) {
    if oneway {
        turmoil::repair_oneway("server", "client");
    } else {
        turmoil::repair("client", "server");
    }
}

/// Nobody spoke during the partition, so the connection looks healthy afterwards. In turmoil one lost segment makes a
/// stream deaf for ever; the call below is that segment.
fn recovers_after_silence(call_ms: u64, oneway: bool) {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |_, _| (),
            async move |caller, _| {
                caller.call(ECHO, 0, 1_000).await.expect("the link is whole");
                silence(oneway);
                assert_eq!(end(&caller.call(ECHO, 1, 30).await), End::Unknown);
                heal(oneway);
                let took = caller.recover(call_ms, 20_000).await;
                let bound = SILENCE.max(call_ms) + call_ms + RECONNECT;
                assert!(
                    took.is_some_and(|took| took <= bound),
                    "seed {seed}: calls of {call_ms} ms recovered after {took:?} ms"
                );
                assert_eq!(caller.host.faults.connects(), 2);
            },
        );
    });
}

#[test]
fn long_calls_recover_after_a_silent_partition() {
    recovers_after_silence(1_200, false);
    recovers_after_silence(3_000, true);
}

/// No single one of them waits for a second.
#[test]
fn short_calls_recover_after_a_silent_partition() {
    recovers_after_silence(300, false);
    recovers_after_silence(50, true);
}

/// Callers who have waited long enough and leave, though their calls have more time: a writer that goes elsewhere.
#[test]
fn callers_that_leave_find_out_about_a_dead_connection_too() {
    for patience in [200, 1_100] {
        seeds(|seed| {
            Probe::new(0, 0).meet(
                seed,
                |_, _| (),
                async move |caller, _| {
                    caller.call(ECHO, 0, 1_000).await.expect("the link is whole");
                    turmoil::partition("client", "server");
                    assert_eq!(end(&caller.call(ECHO, 1, 30).await), End::Unknown);
                    turmoil::repair("client", "server");
                    let (clock, start) = (&caller.host.env.clock, caller.host.env.clock.now());
                    loop {
                        let leave = clock.now().plus(Duration::from_millis(patience));
                        if let Some(Ok(_)) = clock.until(leave, caller.call(ECHO, 2, 60_000)).await {
                            break;
                        }
                        let took = caller.host.since(start);
                        assert!(
                            took <= SILENCE + patience + RECONNECT,
                            "seed {seed}: still dead after {took} ms"
                        );
                        caller.host.pass(10).await;
                    }
                    assert_eq!(caller.host.faults.connects(), 2);
                },
            );
        });
    }
}

/// Calls go on during the partition, and connections are refused.
#[test]
fn calls_during_a_partition_do_not_delay_the_recovery_after_it() {
    for call_ms in [100, 1_200, 2_500] {
        seeds(|seed| {
            Probe::new(0, 0).meet(
                seed,
                |_, _| (),
                async move |caller, _| {
                    caller.call(ECHO, 0, 1_000).await.expect("the link is whole");
                    turmoil::partition("client", "server");
                    assert_eq!(caller.recover(call_ms, 4_000 + seed * 333).await, None);
                    turmoil::repair("client", "server");
                    let took = caller.recover(call_ms, 20_000).await;
                    let bound = call_ms + RECONNECT;
                    assert!(
                        took.is_some_and(|took| took <= bound),
                        "seed {seed}: calls of {call_ms} ms recovered after {took:?} ms"
                    );
                },
            );
        });
    }
}

/// Everybody who waits on a dead connection is told when it is given up, and that is the truth: unknown.
#[test]
fn calls_that_wait_on_a_dead_connection_end_with_it() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |_, _| (),
            async move |caller, server| {
                caller.call(ECHO, 0, 1_000).await.expect("the link is whole");
                turmoil::partition("client", "server");
                let start = caller.host.env.clock.now();
                let patient = (1..100).map(|nonce| caller.call(WORK, nonce, 60_000));
                let (patient, short) = tokio::join!(join_all(patient), caller.call(WORK, 100, 1_500));
                assert!(
                    caller.host.since(start) < 1_600,
                    "ended after {} ms",
                    caller.host.since(start)
                );
                assert!(
                    patient
                        .iter()
                        .chain([&short])
                        .all(|outcome| end(outcome) == End::Unknown)
                );
                assert!(server.done().is_empty());
            },
        );
    });
}

/// A server that is slow with some calls and answers others is no dead connection.
#[test]
fn a_slow_server_is_not_taken_for_a_silent_one() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |_, _| (),
            async move |caller, server| {
                let slow = caller.call(WAIT, 1, 60_000);
                for round in 0..40 {
                    let impatient = caller.call(WAIT, 2, 60);
                    caller.call(ECHO, round, 1_000).await.expect("the link is whole");
                    assert_eq!(end(&impatient.await), End::Unknown);
                }
                for _ in 0..40 {
                    let leave = caller.host.env.clock.now().plus(Duration::from_millis(60));
                    let left = caller
                        .host
                        .env
                        .clock
                        .until(leave, caller.call(WAIT, 2, 60_000))
                        .await;
                    assert!(left.is_none());
                    caller.call(ECHO, 5, 1_000).await.expect("the link is whole");
                }
                // Alone, but each for less than a second, and answers come in between.
                for _ in 0..4 {
                    assert_eq!(end(&caller.call(WAIT, 3, 900).await), End::Unknown);
                    caller.call(ECHO, 4, 1_000).await.expect("the link is whole");
                }
                caller.host.pass(2_000).await;
                server.release(1_000);
                slow.await.expect("nobody cut the connection");
                assert_eq!(caller.host.faults.connects(), 1);
            },
        );
    });
}
