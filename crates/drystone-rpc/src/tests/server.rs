use super::*;
use crate::encode::{OutFrame, Outbox};
use drystone_proto::{FrameHeader, Message};
use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use net::End;

fn header(kind: Kind, id: u64) -> FrameHeader {
    FrameHeader {
        kind,
        reply: false,
        one_way: false,
        error: false,
        priority: Priority::Foreground,
        deadline_ms: 60_000,
        request_id: id,
        history: HistoryId([2; 16]),
        client: ClientId([9; 16]),
        body_len: 0,
        payload_len: 0,
        body_crc: 0,
    }
}

fn bytes(header: FrameHeader, body: &impl Message) -> Vec<u8> {
    let mut outbox = Outbox::default();
    outbox.push(OutFrame::new(
        header,
        body.encode_to_vec().into(),
        Bytes::new(),
        Vec::new(),
    ));
    outbox.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect())
}

fn hello() -> Vec<u8> {
    bytes(
        header(Kind::Hello, 0),
        &Hello {
            software: "test".to_owned(),
            ..Hello::default()
        },
    )
}

async fn read_frames(end: &mut End, count: usize) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new(BufferPool::new(0), FrameLimits::WIRE);
    let mut frames = Vec::new();
    let mut buffer = vec![0; 1024];
    while frames.len() < count {
        let read = end.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the connection ended after {} frames", frames.len());
        decoder.feed(&buffer[..read], &mut frames).unwrap();
    }
    frames
}

#[tokio::test]
async fn garbage_closes_the_connection_and_harms_nobody_else() {
    let world = world(|_| ()).await;
    let damaged = |at: usize| {
        let mut bytes = hello();
        bytes[at] ^= 1;
        bytes
    };
    let large = OutFrame::new(
        header(Kind::Hello, 0),
        Bytes::from(vec![0; 8_000]),
        Bytes::new(),
        Vec::new(),
    );
    let mut outbox = Outbox::default();
    outbox.push(large);
    let large: Vec<u8> =
        outbox.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect());
    let garbage = [
        b"GET / HTTP/1.1\r\n\r\n".repeat(10),
        damaged(10),
        damaged(74),
        bytes(header(Kind::Ping, 1), &Ping::default()),
        large,
    ];
    for bytes in garbage {
        let mut end = world.net.raw(ADDRESS).unwrap();
        end.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        end.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
    settle().await;
    assert_eq!(world.server.connections(), 0);
    world.call(Kind::Ping, 1).await.unwrap();
}

#[tokio::test]
async fn a_frame_of_another_history_is_answered_stranger_and_ends_the_connection() {
    let world = world(|_| ()).await;
    let mut end = world.net.raw(ADDRESS).unwrap();
    end.write_all(&hello()).await.unwrap();
    assert!(!read_frames(&mut end, 1).await[0].header.error);
    let stranger = FrameHeader {
        history: HistoryId([5; 16]),
        ..header(Kind::Ping, 1)
    };
    end.write_all(&bytes(stranger, &Ping::default())).await.unwrap();
    end.write_all(&bytes(header(Kind::Ping, 2), &Ping::default()))
        .await
        .unwrap();
    let answer = read_frames(&mut end, 1).await.remove(0);
    assert_eq!((answer.header.error, answer.header.request_id), (true, 1));
    assert_eq!(
        ErrorReply::decode(answer.body).unwrap().code,
        Code::Stranger.number()
    );
    let mut rest = Vec::new();
    end.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty() && world.seen().is_empty());
}

#[tokio::test]
async fn a_connection_without_a_hello_is_closed_in_time() {
    let world = world(|_| ()).await;
    let _end = world.net.raw(ADDRESS).unwrap();
    settle().await;
    assert_eq!(world.server.connections(), 1);
    world.pass(6_000).await;
    assert_eq!(world.server.connections(), 0);
}

#[tokio::test]
async fn connections_are_limited() {
    let world = world(|options| options.connections = 2).await;
    let ends: Vec<_> = (0..3).map(|_| world.net.raw(ADDRESS).unwrap()).collect();
    settle().await;
    assert_eq!(world.server.connections(), 2);
    drop(ends);
    settle().await;
    world.call(Kind::Ping, 1).await.unwrap();
}

/// Peers that connect and say nothing more keep nobody out, and nobody is closed who is at work.
#[tokio::test]
async fn an_idle_connection_makes_room_for_a_new_one() {
    let world = world(|options| {
        options.connections = 2;
        options.hello_timeout = Duration::from_secs(600);
    })
    .await;
    let held = world.call(Kind::Read, 1);
    settle().await;
    let mut idle = world.net.raw(ADDRESS).unwrap();
    idle.write_all(&hello()).await.unwrap();
    read_frames(&mut idle, 1).await;
    let mut new = world.net.raw(ADDRESS).unwrap();
    new.write_all(&hello()).await.unwrap();
    settle().await;
    assert_eq!(world.server.connections(), 2);
    world.pass(1_500).await;
    read_frames(&mut new, 1).await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "it was closed, and heard nothing");
    assert_eq!(world.server.connections(), 2);
    world.service.release.notify_waiters();
    held.await.expect("a connection at work is kept");
}

#[tokio::test]
async fn a_full_class_answers_busy_and_leaves_the_others_alone() {
    let world = world(|options| options.classes[1].requests = 2).await;
    let held = [world.call(Kind::Read, 1), world.call(Kind::Read, 2)];
    settle().await;
    let Err(CallError::Refused(busy)) = world.call(Kind::Ping, 3).await else {
        panic!("a third was let in")
    };
    assert_eq!((busy.code, busy.retry_after_ms), (Code::Busy.number(), 50));
    let control = world.within(1_000).priority(Priority::Control);
    world
        .channel()
        .call::<_, Ping>(Kind::Ping, &Ping { nonce: 4 }, None, control)
        .await
        .unwrap();
    world.service.release.notify_waiters();
    assert!(join_all(held).await.iter().all(Result::is_ok));
    world.call(Kind::Ping, 5).await.unwrap();
}

#[tokio::test]
async fn a_flood_without_reading_is_held_back_and_then_cut_off() {
    let world = world(|options| options.queue_bytes = 64 << 10).await;
    let mut end = world.net.raw(ADDRESS).unwrap();
    end.write_all(&hello()).await.unwrap();
    settle().await;
    let mut flood: Vec<u8> = Vec::new();
    for id in 1..=20_000 {
        flood.extend(bytes(header(Kind::Ping, id), &Ping { nonce: id }));
    }
    let mut write = Box::pin(end.write_all(&flood));
    for _ in 0..100 {
        assert!((&mut write).now_or_never().is_none(), "the server took all of it");
        settle().await;
    }
    // Answers: what the queue, the pipe and one round of reading hold; the rest is unread.
    let handled = world.seen().len();
    assert!(
        handled < 5_000,
        "{handled} requests were handled for a peer that reads no answer"
    );
    world.pass(33_000).await;
    assert_eq!(world.server.connections(), 0);
}

#[tokio::test]
async fn a_slow_reader_gets_every_answer() {
    let world = world(|options| options.queue_bytes = 8 << 10).await;
    let calls: Vec<_> = (0..200)
        .map(|nonce| {
            let payload = Payload::new(Bytes::from(vec![nonce as u8; 30_000]));
            world.channel().call::<_, Ping>(
                Kind::Finish,
                &Ping { nonce },
                Some(payload),
                world.within(60_000),
            )
        })
        .collect();
    for (nonce, answer) in join_all(calls).await.into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!(
            (answer.body.nonce, answer.payload[29_999]),
            (nonce as u64, nonce as u8)
        );
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_the_connection_lives() {
    let world = world(|_| ()).await;
    let call = world.channel().call_encoded::<Ping>(
        Kind::Ping,
        Bytes::from_static(b"\xff\xff"),
        None,
        world.within(1_000),
    );
    assert_eq!(call.await.unwrap_err().code(), Code::Invalid);
    world.call(Kind::Ping, 1).await.unwrap();
    assert_eq!(world.net.connects(), 1);
}

#[tokio::test]
async fn shutdown_closes_every_connection() {
    let world = world(|_| ()).await;
    let call = world.call(Kind::Append, 1);
    settle().await;
    world.server.shutdown();
    settle().await;
    assert_eq!(world.server.connections(), 0);
    assert_eq!(call.await.unwrap_err().code(), Code::Unknown);
    assert!(matches!(
        world.call(Kind::Ping, 2).await,
        Err(CallError::NotSent(_))
    ));
}
