//! Peers that speak the wire by hand and break its manners.

use crate::probe::{SERVER, history};
use crate::seams::Host;
use bytes::Bytes;
use drystone_env::{BoxStream, BufferPool};
use drystone_proto::cluster::{Hello, HelloReply, Ping};
use drystone_proto::{FrameHeader, Kind, Message, Priority};
use drystone_rpc::encode::{OutFrame, Outbox};
use drystone_rpc::{Frame, FrameDecoder, FrameLimits};
use drystone_types::{ClientId, HistoryId};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};

fn header(kind: Kind, id: u64, deadline_ms: u32) -> FrameHeader {
    FrameHeader {
        kind,
        reply: false,
        one_way: false,
        error: false,
        priority: Priority::Foreground,
        deadline_ms,
        request_id: id,
        history: if kind == Kind::Hello {
            HistoryId::default()
        } else {
            history()
        },
        client: ClientId([9; 16]),
        body_len: 0,
        payload_len: 0,
        body_crc: 0,
    }
}

fn encode(header: FrameHeader, body: &impl Message) -> Vec<u8> {
    let mut outbox = Outbox::default();
    outbox.push(OutFrame::new(
        header,
        body.encode_to_vec().into(),
        Bytes::new(),
        Vec::new(),
    ));
    outbox.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect())
}

/// `count` requests of one kind, one behind the other.
pub(crate) fn flood(kind: Kind, count: u64) -> Vec<u8> {
    (1..=count)
        .flat_map(|id| encode(header(kind, id, 600_000), &Ping { nonce: id }))
        .collect()
}

/// A connection to the server that has been greeted.
pub(crate) async fn connect(host: &Host) -> BoxStream {
    let mut stream = host.env.net.connect(SERVER).await.expect("the server listens");
    let hello = encode(header(Kind::Hello, 0, 1_000), &Hello::default());
    stream.write_all(&hello).await.expect("it is read");
    let reply = read_frame(&mut stream).await;
    assert!(reply.header.reply && !reply.header.error);
    stream
}

/// Waits for a client and greets it as a server that allows so many calls under way.
pub(crate) async fn accept(host: &Host, port: u16, window: u32) -> BoxStream {
    let mut listener = host
        .env
        .net
        .bind(([0, 0, 0, 0], port).into())
        .await
        .expect("the port is free");
    let (mut stream, _) = listener.accept().await.expect("somebody comes");
    let hello = read_frame(&mut stream).await;
    let reply = FrameHeader {
        reply: true,
        history: history(),
        ..hello.header
    };
    let body = HelloReply {
        cluster: Bytes::from_static(&[1; 16]),
        history: Bytes::from_static(&[2; 16]),
        node: 3,
        window,
        ..HelloReply::default()
    };
    stream.write_all(&encode(reply, &body)).await.expect("it is read");
    stream
}

/// The next frame; whatever came behind it is lost.
async fn read_frame(stream: &mut BoxStream) -> Frame {
    let mut decoder = FrameDecoder::new(BufferPool::new(0), FrameLimits::WIRE);
    let (mut frames, mut buffer) = (Vec::new(), [0; 4_096]);
    while frames.is_empty() {
        let count = stream.read(&mut buffer).await.expect("the connection lives");
        assert!(count > 0, "the connection ended");
        decoder.feed(&buffer[..count], &mut frames).expect("frames");
    }
    frames.swap_remove(0)
}
