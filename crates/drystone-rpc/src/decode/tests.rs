use super::*;
use crate::encode::{OutFrame, Outbox};
use drystone_proto::checksum::block_checksums;
use drystone_proto::{Kind, Priority};
use drystone_types::{ClientId, HistoryId};
use proptest::prelude::*;

fn header(kind: Kind, request_id: u64) -> FrameHeader {
    FrameHeader {
        kind,
        reply: false,
        one_way: false,
        error: false,
        priority: Priority::Foreground,
        deadline_ms: 1_000,
        request_id,
        history: HistoryId([7; 16]),
        client: ClientId([9; 16]),
        body_len: 0,
        payload_len: 0,
        body_crc: 0,
    }
}

fn frame(id: u64, body: usize, payload: usize) -> OutFrame {
    let bytes =
        |length: usize, step: u64| -> Bytes { (0..length as u64).map(|i| (i * step + id) as u8).collect() };
    let payload = bytes(payload, 31);
    let checksums = block_checksums(&payload);
    OutFrame::new(header(Kind::Append, id), bytes(body, 7), payload, checksums)
}

/// The bytes that a peer would write, in writes of at most `step`.
fn encoded(frames: &[OutFrame], step: usize) -> Vec<u8> {
    let (mut outbox, mut out) = (Outbox::default(), Vec::new());
    frames.iter().for_each(|frame| outbox.push(frame.clone()));
    assert_eq!(outbox.bytes(), frames.iter().map(OutFrame::bytes).sum::<usize>());
    while !outbox.is_empty() {
        let before = out.len();
        let count = outbox.with_slices(|slices| {
            out.extend(slices.iter().flat_map(|slice| slice.iter()).take(step));
            out.len() - before
        });
        outbox.written(count);
    }
    out
}

fn same(found: &[Frame], sent: &[OutFrame]) {
    assert_eq!(found.len(), sent.len());
    for (found, sent) in found.iter().zip(sent) {
        assert_eq!(found.header, sent.header);
        assert_eq!(found.body, sent.body);
        assert_eq!(found.payload, sent.payload);
        assert_eq!(found.checksums, sent.checksums);
        assert_eq!(
            found
                .payload
                .as_ptr()
                .align_offset(if found.payload.is_empty() { 1 } else { 4096 }),
            0
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_split_of_the_stream_gives_the_same_frames(
        sizes in prop::collection::vec((0usize..6_000, prop_oneof![Just(0usize), 0usize..20_000]), 1..8),
        cuts in prop::collection::vec(1usize..9_000, 1..12),
        step in 1usize..5_000,
    ) {
        let sent: Vec<_> = sizes.iter().enumerate().map(|(i, &(body, payload))| frame(i as u64, body, payload)).collect();
        let bytes = encoded(&sent, step);
        let mut decoder = FrameDecoder::new(BufferPool::new(1 << 20), FrameLimits::WIRE);
        let (mut found, mut rest, mut cut) = (Vec::new(), &bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*cut.next().unwrap()));
            decoder.feed(now, &mut found).unwrap();
            rest = later;
        }
        prop_assert!(decoder.is_idle());
        same(&found, &sent);
        same(&decode_stream(&bytes).unwrap(), &sent);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_stream(&bytes);
    }

    #[test]
    fn a_damaged_byte_is_never_taken_for_what_was_sent(at in 0usize..9_000, bit in 0u8..8) {
        let bytes = encoded(&[frame(1, 300, 8_192), frame(2, 20, 0)], usize::MAX);
        let mut damaged = bytes.clone();
        let at = at % bytes.len();
        damaged[at] ^= 1 << bit;
        prop_assert!(decode_stream(&damaged).is_err());
    }
}

#[test]
fn large_bodies_and_payloads_arrive_byte_by_byte_or_at_once() {
    let sent = [
        frame(1, MAX_BODY_BYTES, 0),
        frame(2, 40_000, MAX_PAYLOAD_BYTES),
        frame(3, 0, 1),
        frame(4, 0, 0),
    ];
    let bytes = encoded(&sent, 1 << 20);
    same(&decode_stream(&bytes).unwrap(), &sent);
    let small = [frame(1, 100, 5_000), frame(2, 0, 0)];
    let mut decoder = FrameDecoder::new(BufferPool::new(0), FrameLimits::WIRE);
    let mut found = Vec::new();
    for byte in encoded(&small, 1) {
        decoder.feed(&[byte], &mut found).unwrap();
    }
    same(&found, &small);
}

#[test]
fn an_announcement_alone_costs_little_memory() {
    let announced = FrameHeader {
        body_len: MAX_BODY_BYTES as u32,
        ..header(Kind::Mutate, 1)
    };
    let mut decoder = FrameDecoder::new(BufferPool::new(0), FrameLimits::WIRE);
    decoder.feed(&announced.encode(), &mut Vec::new()).unwrap();
    assert!(decoder.target().len() <= BODY_STEP);
}

#[test]
fn before_the_hello_large_frames_are_refused() {
    let bytes = encoded(&[frame(1, 5_000, 0)], usize::MAX);
    let mut decoder = FrameDecoder::new(BufferPool::new(0), FrameLimits::HELLO);
    let error = decoder.feed(&bytes, &mut Vec::new()).unwrap_err();
    assert_eq!(
        error,
        FrameError::TooLarge {
            body: 5_000,
            payload: 0
        }
    );
    assert_eq!(decoder.next_frame(), Err(error), "the first fault is final");
}

/// Written anew with `DRYSTONE_WRITE_CORPUS=1`; seeds are valid or nearly so, because those find the most.
#[test]
fn the_corpus_holds_the_seeds() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/frame");
    let hello = OutFrame::new(
        header(Kind::Hello, 0),
        Bytes::from_static(b"\x18\x01"),
        Bytes::new(),
        Vec::new(),
    );
    let reply = FrameHeader {
        reply: true,
        ..header(Kind::Ping, 2)
    };
    let error = FrameHeader {
        reply: true,
        error: true,
        ..header(Kind::Mutate, 3)
    };
    let one_way = FrameHeader {
        one_way: true,
        deadline_ms: 0,
        ..header(Kind::Raft, 4)
    };
    let empty = |header| OutFrame::new(header, Bytes::new(), Bytes::new(), Vec::new());
    let whole = encoded(&[frame(1, 30, 4_097)], usize::MAX);
    let damaged = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let announced = FrameHeader {
        body_len: u32::MAX,
        ..header(Kind::Mutate, 1)
    };
    let seeds: [(&str, Vec<u8>); 10] = [
        ("hello", encoded(&[hello], usize::MAX)),
        ("reply", encoded(&[empty(reply)], usize::MAX)),
        ("error", encoded(&[empty(error)], usize::MAX)),
        ("one-way", encoded(&[empty(one_way)], usize::MAX)),
        ("payload", whole.clone()),
        (
            "two-frames",
            encoded(&[frame(1, 3, 1), frame(2, 0, 0)], usize::MAX),
        ),
        ("cut", whole[..100].to_vec()),
        ("damaged-header", damaged(20)),
        ("damaged-body", damaged(80)),
        ("oversized", announced.encode().to_vec()),
    ];
    for (name, bytes) in seeds {
        let path = directory.join(name);
        if std::env::var_os("DRYSTONE_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(
            std::fs::read(&path).unwrap(),
            bytes,
            "{name}: the wire format changed, or the seed did"
        );
    }
}
