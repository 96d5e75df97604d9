//! Whoever does not read makes others wait, and nobody's memory grows for it.

use crate::probe::{Caller, ECHO, FETCH, Held, PORT, Probe, SERVER, WAIT, WORK};
use crate::raw;
use crate::seams::{Host, seeds, world};
use drystone_rpc::{CallError, NotSent, Payload};
use futures_util::future::join_all;
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;

/// What a client has handed to its connection and not written yet.
const OUTBOX: usize = 2 << 20;

/// The server greets and reads nothing more. What the client holds for it is its queue, one outbox and a frame.
#[test]
fn a_client_holds_no_more_than_its_queue_for_a_server_that_does_not_read() {
    const QUEUE: usize = 1 << 20;
    const FRAME: usize = 64 << 10;
    seeds(|seed| {
        let mut sim = world(seed);
        sim.host("server", move || async move {
            let host = Host::new("server", seed);
            let _stream = raw::accept(&host, PORT, 1_000).await;
            std::future::pending().await
        });
        sim.client("client", async move {
            let caller = Caller::with("client", seed, |options| options.queue_bytes = QUEUE);
            let held = Held::default();
            let mut calls = futures_util::stream::FuturesUnordered::new();
            let (mut refused, mut most) = (0, 0);
            for nonce in 0..600 {
                let payload = Payload::new(held.block(FRAME));
                let mut call = Box::pin(caller.send(SERVER, WORK, nonce, Some(payload), 20_000));
                match (&mut call).now_or_never() {
                    None => calls.push(call),
                    Some(Err(CallError::NotSent(NotSent::QueueFull { .. }))) => refused += 1,
                    Some(other) => panic!("call {nonce}: {other:?}"),
                }
                most = most.max(held.bytes());
                caller.host.pass(2).await;
            }
            assert!(refused > 300, "only {refused} of 600 were refused");
            assert!(most <= QUEUE + OUTBOX + 2 * FRAME, "{most} bytes were held");
            let mut ready = Box::pin(caller.channels.to(SERVER).ready(QUEUE / 2));
            assert!(
                (&mut ready).now_or_never().is_none(),
                "a producer is told to wait"
            );
            while let Some(outcome) = calls.next().await {
                assert!(outcome.is_err());
            }
            ready.await;
            caller.host.pass(100).await;
            assert_eq!(held.bytes(), 0, "nothing is kept for calls that have ended");
            Ok(())
        });
        sim.run().unwrap();
    });
}

/// A client asks for far more than it reads: the server makes few of the answers, and gives the client up in the end.
#[test]
fn a_server_makes_no_more_answers_than_its_queue_for_a_client_that_does_not_read() {
    const QUEUE: usize = 1 << 20;
    const ANSWER: usize = 256 << 10;
    seeds(|seed| {
        let mut sim = world(seed);
        let probe = Probe::new(0, ANSWER);
        probe.start(&mut sim, "server", seed, |options, _| options.queue_bytes = QUEUE);
        let server = Arc::clone(&probe);
        sim.client("client", async move {
            let host = Host::new("client", seed);
            server.up(&host).await;
            let mut stream = raw::connect(&host).await;
            let flood = raw::flood(FETCH, 2_000);
            let mut sending = Box::pin(stream.write_all(&flood));
            let mut most = 0;
            for _ in 0..1_000 {
                let _ = (&mut sending).now_or_never();
                host.pass(1).await;
                most = most.max(server.answers.bytes());
            }
            assert!(most >= QUEUE, "it began to answer");
            assert!(
                most <= QUEUE + 2 * ANSWER,
                "{} MiB of answers wait for one client",
                most >> 20
            );
            host.pass(32_000).await;
            assert_eq!((server.server().connections(), server.answers.bytes()), (0, 0));
            Ok(())
        });
        sim.run().unwrap();
    });
}

/// The same client, but a slow reader: it gets every answer.
#[test]
fn a_slow_reader_gets_all_of_its_answers() {
    const ANSWER: usize = 20_000;
    seeds(|seed| {
        let mut sim = world(seed);
        let probe = Probe::new(0, ANSWER);
        probe.start(&mut sim, "server", seed, |options, _| {
            options.queue_bytes = 64 << 10
        });
        let server = Arc::clone(&probe);
        sim.client("client", async move {
            let host = Host::new("client", seed);
            server.up(&host).await;
            let mut stream = raw::connect(&host).await;
            stream
                .write_all(&raw::flood(FETCH, 200))
                .await
                .expect("small enough for the buffers");
            let (mut read, mut buffer) = (0, vec![0; 16 << 10]);
            while read < 200 * ANSWER {
                read += stream.read(&mut buffer).await.expect("the connection lives");
                assert!(server.answers.bytes() <= (64 << 10) + 2 * ANSWER);
                host.pass(2).await;
            }
            Ok(())
        });
        sim.run().unwrap();
    });
}

#[test]
fn requests_under_way_on_one_connection_are_bounded() {
    seeds(|seed| {
        Probe::new(5, 0).meet(
            seed,
            |options, _| options.window = 32,
            async move |caller, server| {
                let calls = (0..1_500).map(|nonce| caller.call(WORK, nonce, 60_000));
                assert!(join_all(calls).await.iter().all(Result::is_ok));
                assert_eq!(server.running.most(), 32, "a client that keeps to the window");
                // One that does not.
                let mut stream = raw::connect(&caller.host).await;
                let flood = raw::flood(WAIT, 1_500);
                let _ = stream.write_all(&flood).now_or_never();
                caller.host.pass(300).await;
                assert_eq!(server.running.most(), 32, "and one that does not");
            },
        );
    });
}

/// One server is stuck behind its link, the calls to it fill their queue; the other one answers as ever.
#[test]
fn a_stuck_server_delays_no_other() {
    seeds(|seed| {
        let mut sim = world(seed);
        let (stuck, well) = (Probe::new(0, 0), Probe::new(0, 0));
        stuck.start(&mut sim, "server", seed, |_, _| ());
        well.start(&mut sim, "other", seed, |_, _| ());
        let (one, two) = (Arc::clone(&stuck), Arc::clone(&well));
        sim.client("client", async move {
            let caller = Caller::with("client", seed, |options| options.queue_bytes = 4 << 20);
            one.up(&caller.host).await;
            two.up(&caller.host).await;
            caller.call(ECHO, 0, 1_000).await.expect("the link is whole");
            turmoil::hold("client", "server");
            let bulk = Held::default();
            let calls = (0..100).map(|nonce| {
                let payload = Payload::new(bulk.block(100_000));
                caller.send(SERVER, WORK, nonce, Some(payload), 30_000)
            });
            let mut calls = Box::pin(join_all(calls));
            assert!((&mut calls).now_or_never().is_none());
            for nonce in 0..50 {
                let start = caller.host.env.clock.now();
                let other = caller.send("other:9710", ECHO, nonce, None, 1_000);
                other.await.expect("it has nothing to do with the stuck one");
                assert!(caller.host.since(start) <= 150, "{} ms", caller.host.since(start));
            }
            turmoil::release("client", "server");
            let outcomes = calls.await;
            let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let full = |outcome: &&Result<_, CallError>| {
                matches!(outcome, Err(CallError::NotSent(NotSent::QueueFull { .. })))
            };
            assert_eq!(done + outcomes.iter().filter(full).count(), 100);
            assert_eq!(one.done().len(), done);
            Ok(())
        });
        sim.run().unwrap();
    });
}

/// On one connection: requests that wait do not stand before others.
#[test]
fn requests_that_wait_do_not_delay_others_of_their_connection() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |_, _| (),
            async move |caller, server| {
                let waiting: Vec<_> = (0..200).map(|nonce| caller.call(WAIT, nonce, 60_000)).collect();
                for nonce in 0..20 {
                    let start = caller.host.env.clock.now();
                    caller
                        .call(ECHO, nonce, 1_000)
                        .await
                        .expect("it waits for nothing");
                    assert!(caller.host.since(start) <= 150, "{} ms", caller.host.since(start));
                }
                server.release(200);
                assert!(join_all(waiting).await.iter().all(Result::is_ok));
                assert_eq!(caller.host.faults.connects(), 1);
            },
        );
    });
}
