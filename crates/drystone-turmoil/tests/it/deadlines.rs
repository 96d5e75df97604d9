//! A call ends at its deadline whatever the network does, and work that nobody waits for is not begun or is dropped.

use crate::probe::{ECHO, End, Probe, WAIT, WORK, end};
use crate::seams::seeds;
use drystone_rpc::{CallError, NotSent, Uncertain};
use futures_util::future::join_all;

/// After a timer of tokio has fired: it counts in milliseconds.
const LATE: u64 = 3;
/// A server looks once a second for work whose deadline has passed.
const SWEEP: u64 = 1_000;

/// What happens to the link between client and server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Held,
    Partitioned,
    AnswersLost,
    NeverThere,
}

#[test]
fn a_call_ends_at_its_deadline_whatever_the_network_does() {
    for link in [Link::Held, Link::Partitioned, Link::AnswersLost, Link::NeverThere] {
        seeds(|seed| {
            Probe::new(0, 0).meet(
                seed,
                |_, _| (),
                async move |caller, server| {
                    if link != Link::NeverThere {
                        caller.call(ECHO, 0, 1_000).await.expect("the link is whole");
                    }
                    match link {
                        // turmoil refuses a connection over a partitioned link at once.
                        Link::Held | Link::NeverThere => turmoil::hold("client", "server"),
                        Link::AnswersLost => turmoil::partition_oneway("server", "client"),
                        Link::Partitioned => turmoil::partition("client", "server"),
                    }
                    let start = caller.host.env.clock.now();
                    let calls = [40, 200, 700, 1_500, 2_900].map(|ms| {
                        let (call, host) = (caller.call(WORK, ms, ms), caller.host.clone());
                        async move { (ms, call.await, host.since(start)) }
                    });
                    for (ms, outcome, took) in join_all(calls).await {
                        // A connection that is silent for a second ends the calls that wait longer.
                        assert!(
                            (ms.min(1_000)..=ms + LATE).contains(&took),
                            "{link:?}: {ms} ms took {took}"
                        );
                        let expected = if link == Link::NeverThere {
                            End::NotSent
                        } else {
                            End::Unknown
                        };
                        assert_eq!(end(&outcome), expected, "{link:?}: {outcome:?}");
                        if took >= ms {
                            assert!(
                                matches!(
                                    outcome,
                                    Err(CallError::NotSent(NotSent::Deadline)
                                        | CallError::Unknown(Uncertain::Deadline))
                                ),
                                "{link:?}: {outcome:?}"
                            );
                        }
                    }
                    caller.host.pass(50).await;
                    let arrived = link == Link::AnswersLost;
                    assert_eq!(server.done().len(), if arrived { 5 } else { 0 }, "{link:?}");
                },
            );
        });
    }
}

/// The first call fills the server's window: the others wait at the client.
#[test]
fn work_whose_deadline_has_passed_is_not_begun() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |options, _| options.window = 1,
            async move |caller, server| {
                let start = caller.host.env.clock.now();
                let first = caller.call(WAIT, 1, 10_000);
                let late = [2, 3].map(|nonce| caller.call(WORK, nonce, 300));
                let patient = caller.call(WORK, 4, 10_000);
                let late = join_all(late).await;
                assert!((300..=300 + LATE).contains(&caller.host.since(start)));
                for outcome in late {
                    assert!(
                        matches!(outcome, Err(CallError::NotSent(NotSent::Deadline))),
                        "it never left: {outcome:?}"
                    );
                }
                caller.host.pass(1_000).await;
                server.release(1);
                first.await.expect("released");
                patient.await.expect("its turn came");
                assert_eq!(server.done(), [4]);
            },
        );
    });
}

/// What is left of the deadline travels, not what it was at first; when it has passed the server drops the work.
#[test]
fn a_server_drops_work_when_the_deadline_of_its_caller_has_passed() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |options, _| options.window = 1,
            async move |caller, server| {
                let start = caller.host.env.clock.now();
                let first = caller.call(WAIT, 1, 10_000);
                let second = caller.call(WAIT, 2, 2_000);
                caller.host.pass(1_500).await;
                server.release(1);
                first.await.expect("released");
                assert!(
                    caller.host.wait(100, || server.running.now() == 1).await,
                    "the second has begun"
                );
                assert_eq!(end(&second.await), End::Unknown);
                assert!((2_000..=2_000 + LATE).contains(&caller.host.since(start)));
                let gone = caller.host.wait(SWEEP + 50, || server.running.now() == 0).await;
                assert!(gone, "the server works on for nobody");
            },
        );
    });
}

/// Frames that were on their way when the link stalled arrive when nobody waits any more. Deadlines are durations, so
/// the server cannot know; what matters is that the caller was told `unknown`.
#[test]
fn what_arrives_after_its_deadline_was_told_as_unknown() {
    seeds(|seed| {
        Probe::new(0, 0).meet(
            seed,
            |_, _| (),
            async move |caller, server| {
                caller.call(ECHO, 0, 1_000).await.expect("the link is whole");
                turmoil::hold("client", "server");
                let calls = join_all([1, 2, 3].map(|nonce| caller.call(WORK, nonce, 300))).await;
                assert!(calls.iter().all(|outcome| end(outcome) == End::Unknown));
                assert!(server.done().is_empty());
                turmoil::release("client", "server");
                assert!(caller.host.wait(100, || server.done() == [1, 2, 3]).await);
                // Their late answers are nobody's, and the connection goes on.
                caller
                    .call(WORK, 4, 1_000)
                    .await
                    .expect("the link is whole again");
                assert_eq!(
                    (caller.host.faults.connects(), server.done()),
                    (1, vec![1, 2, 3, 4])
                );
            },
        );
    });
}
