//! Servers that are told to stop, and clients that go: nothing is left behind and nobody is lied to.

use crate::cluster::Cluster;
use crate::probe::{Caller, ECHO, End, Probe, WAIT, WORK, end};
use crate::seams::{Host, in_worlds, seeds, world, world_in_steps};
use crate::user::{self, pieces};
use drystone_rpc::{CallError, NotSent};
use futures_util::future::join_all;
use http::Method;
use std::sync::Arc;

/// Calls under way are unknown at once, new ones are not sent, and the server's tasks end.
#[test]
fn a_server_that_stops_ends_what_it_has_accepted_truthfully() {
    seeds(|seed| {
        Probe::new(400, 0).meet(
            seed,
            |options, _| options.window = 8,
            async move |caller, server| {
                let calls: Vec<_> = (0..40).map(|nonce| caller.call(WORK, nonce, 60_000)).collect();
                let calls = join_all(calls);
                let stop = async {
                    // In the middle of the second batch of eight.
                    caller.host.pass(600).await;
                    server.server().shutdown();
                };
                let start = caller.host.env.clock.now();
                let (outcomes, ()) = tokio::join!(calls, stop);
                assert!(
                    caller.host.since(start) < 900,
                    "nobody waits for a server that has stopped"
                );
                let done = server.done();
                for (nonce, outcome) in (0..).zip(&outcomes) {
                    match end(outcome) {
                        End::Answered => assert!(done.contains(&nonce)),
                        End::NotSent => assert!(!done.contains(&nonce), "call {nonce} was done"),
                        End::Unknown => {}
                    }
                }
                let count = |wanted| outcomes.iter().filter(|outcome| end(outcome) == wanted).count();
                let counts = [End::Answered, End::Unknown, End::NotSent].map(count);
                assert!(counts.iter().all(|count| *count >= 8), "seed {seed}: {counts:?}");
                assert!(matches!(
                    caller.call(ECHO, 0, 1_000).await,
                    Err(CallError::NotSent(NotSent::Unreachable { .. }))
                ));
                caller.host.pass(100).await;
                let host = server.host();
                assert!(host.tasks.all().is_empty(), "{:?}", host.tasks.all());
                assert_eq!(
                    (
                        server.server().connections(),
                        host.faults.open(),
                        server.running.now()
                    ),
                    (0, 0, 0)
                );
            },
        );
    });
}

/// A client closes its channels: what it asked for is dropped at the server, and no task is left on either side.
#[test]
fn a_client_that_closes_leaves_nothing_behind() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |_, _| (),
            async move |caller, server| {
                let calls: Vec<_> = (0..50).map(|nonce| caller.call(WAIT, nonce, 60_000)).collect();
                assert!(caller.host.wait(100, || server.running.now() == 50).await);
                caller.channels.close();
                for outcome in join_all(calls).await {
                    assert_eq!(end(&outcome), End::Unknown);
                }
                assert_eq!(end(&caller.call(ECHO, 0, 1_000).await), End::NotSent);
                caller.host.pass(100).await;
                assert_eq!((server.running.now(), server.server().connections()), (0, 0));
                assert!(
                    caller.host.tasks.all().is_empty(),
                    "{:?}",
                    caller.host.tasks.all()
                );
                assert_eq!((caller.host.faults.open(), server.host().faults.open()), (0, 0));
            },
        );
    });
}

/// The link to a client goes silent while it has requests under way and answers on their way. The server hears no
/// end: deadlines, the answers that nobody takes and idleness free what the client held.
#[test]
fn a_client_that_vanishes_is_forgotten_in_time() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |options, _| {
                options.idle_timeout = std::time::Duration::from_secs(5);
            },
            async move |caller, server| {
                let waiting: Vec<_> = (0..50).map(|nonce| caller.call(WAIT, nonce, 3_000)).collect();
                assert!(caller.host.wait(100, || server.running.now() == 50).await);
                turmoil::partition("client", "server");
                server.release(20);
                assert!(
                    join_all(waiting)
                        .await
                        .iter()
                        .all(|outcome| end(outcome) == End::Unknown)
                );
                assert!(
                    caller.host.wait(1_100, || server.running.now() == 0).await,
                    "deadlines have passed"
                );
                assert_eq!(server.server().connections(), 1, "it might come back");
                let gone = caller
                    .host
                    .wait(7_000, || server.server().connections() == 0)
                    .await;
                assert!(gone, "its connection is kept for ever");
                assert_eq!(server.host().tasks.live("rpc connection"), 0);
            },
        );
    });
}

/// The server's host dies and comes back: clients find out at once by the reset, and go on with the new one.
#[test]
fn a_server_that_crashes_and_returns_is_found_again() {
    seeds(|seed| {
        let mut sim = world(seed);
        let probe = Probe::new(100, 0);
        probe.start(&mut sim, "server", seed, |_, _| ());
        let server = Arc::clone(&probe);
        sim.client("client", async move {
            let caller = Caller::new("client", seed);
            server.up(&caller.host).await;
            let (mut unknown, mut nonce) = (0, 0);
            let start = caller.host.env.clock.now();
            while caller.host.since(start) < 3_000 {
                nonce += 1;
                let before = caller.host.env.clock.now();
                let outcome = caller.call(WORK, nonce, 2_000).await;
                let took = caller.host.since(before);
                match end(&outcome) {
                    End::Answered => {}
                    End::Unknown => {
                        unknown += 1;
                        assert!(took < 500, "a reset is noticed at once, not after {took} ms");
                    }
                    End::NotSent => {
                        assert!(!server.done().contains(&nonce));
                        caller.host.pass(20).await;
                    }
                }
            }
            assert_eq!(unknown, 1, "the call under way at the crash");
            caller.call(ECHO, 0, 1_000).await.expect("it is back");
            Ok(())
        });
        while sim.elapsed().as_millis() < 1_000 + u128::from(seed) * 17 {
            sim.step().unwrap();
        }
        sim.crash("server");
        while sim.elapsed().as_millis() < 2_000 {
            sim.step().unwrap();
        }
        sim.bounce("server");
        sim.run().unwrap();
    });
}

/// All servers of a cluster are told to stop while a file goes in: every task of theirs ends, every connection is
/// closed, and the door says that it does not know or that it could not.
#[test]
fn servers_that_are_told_to_stop_leave_nothing_running() {
    in_worlds(2, |seed| {
        let mut sim = world_in_steps(seed, 3);
        let cluster = Cluster::start(&mut sim, seed, 3, 2);
        sim.client("user", async move {
            let host = Host::new("user", seed);
            cluster.up(&host).await;
            let body = pieces(&host, vec![1; 4 << 20].into(), 10, 0, || false);
            let upload = user::ask(&host, Method::PUT, "/files/file", &[], body, 10_000);
            let stop = async {
                host.pass(300).await;
                cluster.stop();
            };
            let (upload, ()) = tokio::join!(upload, stop);
            let status = upload.expect("an answer").status;
            assert!([503, 504].contains(&status), "{status}");
            let left = || -> Vec<_> {
                let hosts = cluster.hosts().into_iter();
                let left = hosts.map(|host| (host.tasks.all(), host.faults.open()));
                left.filter(|(tasks, open)| !tasks.is_empty() || *open > 0)
                    .collect()
            };
            assert!(host.wait(10_000, || left().is_empty()).await, "{:?}", left());
            Ok(())
        });
        sim.run().unwrap();
    });
}
