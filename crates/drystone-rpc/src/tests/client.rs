use super::*;
use futures_util::FutureExt;
use futures_util::future::join_all;

fn code<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> Code {
    outcome.unwrap_err().code()
}

#[tokio::test]
async fn a_call_is_answered_and_teaches_cluster_and_history() {
    let world = world(|_| ()).await;
    assert_eq!(world.channels.history(), None);
    assert_eq!(world.call(Kind::Ping, 7).await.unwrap().body, Ping { nonce: 7 });
    assert_eq!(
        (world.channels.cluster(), world.channels.history()),
        (Some(ClusterId([1; 16])), Some(HistoryId([2; 16])))
    );
    assert_eq!(world.channel().peer_node(), Some(NodeId(3)));
    let refused = world.call(Kind::Mutate, 1).await;
    assert_eq!(code(refused), Code::NotSupported);
    assert_eq!(world.net.connects(), 1);
}

#[tokio::test]
async fn payloads_travel_verified_and_aligned() {
    let world = world(|_| ()).await;
    for length in [1, 4096, 5000, 1 << 20] {
        let payload = Payload::new((0..length).map(|i| (i * 7) as u8).collect());
        let channel = world.channel();
        let answer = channel
            .call::<_, Ping>(
                Kind::Finish,
                &Ping { nonce: 1 },
                Some(payload.clone()),
                world.within(1_000),
            )
            .await
            .unwrap();
        assert_eq!(
            (&answer.payload, &answer.checksums),
            (&payload.data, &payload.checksums)
        );
        assert_eq!(answer.payload.as_ptr().align_offset(4096), 0);
    }
}

#[tokio::test]
async fn calls_are_handled_in_the_order_in_which_they_were_made() {
    let world = world(|_| ()).await;
    // None of the futures has been polled when the last call is made.
    let calls: Vec<_> = (0..500).map(|nonce| world.call(Kind::Ping, nonce)).collect();
    let answers = join_all(calls.into_iter().rev()).await;
    assert!(answers.iter().all(Result::is_ok));
    let order: Vec<u64> = world.seen().into_iter().map(|(_, nonce)| nonce).collect();
    assert_eq!(order, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn control_overtakes_what_waits_and_repair_comes_last() {
    let world = world(|_| ()).await;
    let channel = world.channel();
    let call = |nonce, priority| {
        channel.call::<_, Ping>(
            Kind::Ping,
            &Ping { nonce },
            None,
            world.within(1_000).priority(priority),
        )
    };
    let calls = [
        call(3, Priority::Repair),
        call(2, Priority::Foreground),
        call(1, Priority::Control),
    ];
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(world.seen(), [(Kind::Ping, 1), (Kind::Ping, 2), (Kind::Ping, 3)]);
}

#[tokio::test]
async fn a_deadline_ends_the_call_as_unknown_and_drops_the_work() {
    let world = world(|_| ()).await;
    let call = world
        .channel()
        .call::<_, Ping>(Kind::Append, &Ping { nonce: 1 }, None, world.within(500));
    settle().await;
    assert_eq!(world.seen().len(), 1);
    world.pass(500).await;
    assert_eq!(call.await, Err(CallError::Unknown(Uncertain::Deadline)));
    assert_eq!(*world.service.dropped.lock().unwrap(), 0);
    world.pass(2_000).await;
    assert_eq!(
        *world.service.dropped.lock().unwrap(),
        1,
        "the server drops what nobody waits for"
    );
    // A deadline this short says nothing about the connection, which is still in use.
    world.call(Kind::Ping, 2).await.unwrap();
    assert_eq!(world.net.connects(), 1);
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_not_sent() {
    let world = world(|_| ()).await;
    let call = world
        .channel()
        .call::<_, Ping>(Kind::Ping, &Ping { nonce: 1 }, None, world.within(0));
    assert_eq!(call.await, Err(CallError::NotSent(NotSent::Deadline)));
}

#[tokio::test]
async fn a_connection_that_dies_leaves_sent_calls_unknown_and_is_made_again() {
    let world = world(|_| ()).await;
    let sent = world.call(Kind::Append, 1);
    settle().await;
    world.net.cut();
    settle().await;
    assert_eq!(code(sent.await), Code::Unknown);
    world.call(Kind::Ping, 2).await.unwrap();
    assert_eq!(world.net.connects(), 2);
}

#[tokio::test]
async fn what_was_never_written_is_not_sent() {
    let world = world(|options| options.window = 1).await;
    let (sent, waiting) = (world.call(Kind::Append, 1), world.call(Kind::Append, 2));
    settle().await;
    assert_eq!(world.seen().len(), 1, "the window holds the second back");
    world.net.cut();
    settle().await;
    assert_eq!(code(sent.await), Code::Unknown);
    assert!(matches!(
        waiting.await,
        Err(CallError::NotSent(NotSent::Unreachable { .. }))
    ));
}

#[tokio::test]
async fn a_silent_peer_is_given_up_when_a_deadline_passes() {
    let world = world(|_| ()).await;
    world.call(Kind::Ping, 1).await.unwrap();
    world.net.silence();
    let (short, long) = (
        world
            .channel()
            .call::<_, Ping>(Kind::Ping, &Ping { nonce: 2 }, None, world.within(2_000)),
        world
            .channel()
            .call::<_, Ping>(Kind::Ping, &Ping { nonce: 3 }, None, world.within(60_000)),
    );
    settle().await;
    world.pass(2_100).await;
    assert_eq!(short.await, Err(CallError::Unknown(Uncertain::Deadline)));
    assert!(
        matches!(long.await, Err(CallError::Unknown(Uncertain::Lost { .. }))),
        "it does not wait for a minute"
    );
    world.call(Kind::Ping, 4).await.unwrap();
    assert_eq!(world.net.connects(), 2);
}

#[tokio::test]
async fn dropping_a_call_frees_its_place_and_unsends_what_waits() {
    let world = world(|options| options.window = 1).await;
    let (sent, waiting) = (world.call(Kind::Append, 1), world.call(Kind::Append, 2));
    let last = world.call(Kind::Ping, 3);
    settle().await;
    drop(waiting);
    drop(sent);
    settle().await;
    // The server still works on the first: only when it is done, or dropped it, is there room.
    assert_eq!(world.seen(), [(Kind::Append, 1)]);
    assert!(
        world.channel().ready(1).now_or_never().is_some(),
        "the last has been handed over"
    );
    world.pass(9_000).await;
    drop(last);
}

#[tokio::test]
async fn an_unreachable_server_is_told_at_once_and_then_left_alone() {
    let world = world(|_| ()).await;
    let channel = world.channels.to("127.0.0.1:1");
    for _ in 0..50 {
        let call = channel.call::<_, Ping>(Kind::Ping, &Ping { nonce: 1 }, None, world.within(1_000));
        assert!(matches!(
            call.await,
            Err(CallError::NotSent(NotSent::Unreachable { .. }))
        ));
        settle().await;
    }
    assert!(
        channel
            .send(Kind::Raft, &Empty {}, None, Priority::Control)
            .is_err()
    );
    assert!(world.net.connects() <= 3, "{} attempts", world.net.connects());
    world.pass(400).await;
    assert!(
        channel
            .send(Kind::Raft, &Empty {}, None, Priority::Control)
            .is_ok(),
        "it tries again"
    );
}

#[tokio::test]
async fn an_unanswered_connect_lasts_no_longer_than_the_deadline() {
    let world = world(|_| ()).await;
    world.net.swallow_connects();
    let call = world.call(Kind::Ping, 1);
    let short = world
        .channel()
        .call::<_, Ping>(Kind::Ping, &Ping { nonce: 2 }, None, world.within(300));
    settle().await;
    world.pass(300).await;
    assert_eq!(short.await, Err(CallError::NotSent(NotSent::Deadline)));
    world.pass(2_800).await;
    assert!(matches!(
        call.await,
        Err(CallError::NotSent(NotSent::Unreachable { .. }))
    ));
}

#[tokio::test]
async fn servers_of_another_history_or_node_are_refused() {
    let world = world(|_| ()).await;
    let ping = |channels: &Channels| {
        channels
            .to(ADDRESS)
            .call::<_, Ping>(Kind::Ping, &Ping { nonce: 1 }, None, world.within(1_000))
    };
    let other = Channels::new(
        world.env.clone(),
        ChannelOptions {
            history: Some(HistoryId([8; 16])),
            ..channel_options()
        },
    );
    assert!(
        matches!(ping(&other).await, Err(CallError::NotSent(NotSent::Hello(reply))) if reply.code == Code::Stranger.number())
    );
    let node = world.channels.to_node(ADDRESS, NodeId(5));
    let call = node.call::<_, Ping>(Kind::Ping, &Ping { nonce: 1 }, None, world.within(1_000));
    assert_eq!(code(call.await), Code::Stranger);
    assert!(world.seen().is_empty());
    ping(&world.channels).await.unwrap();
}

#[tokio::test]
async fn queues_are_bounded() {
    let world = world(|_| ()).await;
    world.net.swallow_connects();
    let options = ChannelOptions {
        calls: 3,
        one_way_frames: 2,
        queue_bytes: 10_000,
        ..channel_options()
    };
    let channel = Channels::new(world.env.clone(), options).to(ADDRESS);
    let call = |payload: usize| {
        let payload = Some(Payload::new(Bytes::from(vec![0; payload])));
        channel.call::<_, Ping>(Kind::Append, &Ping { nonce: 1 }, payload, world.within(1_000))
    };
    let _small = (call(0), call(0));
    assert_eq!(code(call(10_000).await), Code::Busy);
    let _third = call(0);
    assert_eq!(code(call(0).await), Code::Busy);
    let send = || channel.send(Kind::Raft, &Empty {}, None, Priority::Control);
    assert_eq!(
        (send().is_ok(), send().is_ok(), send().is_ok()),
        (true, true, false)
    );
    assert!(channel.ready(100).now_or_never().is_none());
    assert!(matches!(
        call(2 << 20).await,
        Err(CallError::NotSent(NotSent::TooLarge { .. }))
    ));
}

#[tokio::test]
async fn one_way_messages_arrive_and_are_not_answered() {
    let world = world(|_| ()).await;
    for nonce in 0..3 {
        world
            .channel()
            .send(Kind::Raft, &Ping { nonce }, None, Priority::Control)
            .unwrap();
    }
    settle().await;
    assert_eq!(world.seen(), [(Kind::Raft, 0), (Kind::Raft, 1), (Kind::Raft, 2)]);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_made_again_when_needed() {
    let world = world(|_| ()).await;
    world.call(Kind::Ping, 1).await.unwrap();
    world.clock.advance(Duration::from_secs(301));
    settle().await;
    assert_eq!(world.server.connections(), 0);
    world.call(Kind::Ping, 2).await.unwrap();
    assert_eq!(world.net.connects(), 2);
}

#[tokio::test]
async fn closed_channels_fail_what_is_under_way_and_what_comes() {
    let world = world(|_| ()).await;
    let call = world.call(Kind::Append, 1);
    settle().await;
    world.channels.close();
    assert_eq!(code(call.await), Code::Unknown);
    assert_eq!(
        world.call(Kind::Ping, 2).await,
        Err(CallError::NotSent(NotSent::Closed))
    );
}

#[tokio::test]
async fn a_kind_is_refused_from_a_peer_that_may_not_send_it() {
    let world = world(|_| ()).await;
    let client = Channels::new(
        world.env.clone(),
        ChannelOptions {
            roles: 0,
            ..channel_options()
        },
    );
    let call = |kind| {
        client
            .to(ADDRESS)
            .call::<_, Ping>(kind, &Ping { nonce: 1 }, None, world.within(1_000))
    };
    for kind in [Kind::Fence, Kind::Delete, Kind::Heartbeat, Kind::Join] {
        assert_eq!(code(call(kind).await), Code::Denied, "{kind:?}");
    }
    let raft = client
        .to(ADDRESS)
        .send(Kind::Raft, &Ping { nonce: 1 }, None, Priority::Control);
    assert!(raft.is_ok(), "it is sent, and dropped there");
    call(Kind::Ping).await.unwrap();
    assert_eq!(
        world.seen(),
        [(Kind::Ping, 1)],
        "nothing else came to the service"
    );
}
