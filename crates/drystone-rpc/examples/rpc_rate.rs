//! Calls per second and megabytes per second over loopback: `cargo run --release --example rpc_rate -p drystone-rpc`.

use drystone_env::{BoxFuture, BufferPool, Env, Monotonic};
use drystone_proto::Kind;
use drystone_proto::cluster::{Empty, ErrorReply, Hello, HelloReply, Ping};
use drystone_rpc::{
    CallOptions, Channel, ChannelOptions, Channels, Payload, Reply, Request, ServerIdentity, ServerOptions,
    Service, serve,
};
use drystone_types::{ClientId, ClusterId, HistoryId, Incarnation, MAX_PAYLOAD_BYTES, NodeId};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::time::Duration;

struct Rate {
    identity: ServerIdentity,
    block: Payload,
}

impl Service for Rate {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        self.identity.answer(hello)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let reply = match request.kind {
            Kind::Ping => Reply::ok(&request.decode::<Ping>().unwrap_or_default()),
            Kind::Read => Reply::with_payload(
                &Empty {},
                self.block.data.clone(),
                Some(self.block.checksums.clone()),
            ),
            _ => Reply::with_payload(&Empty {}, request.payload, Some(request.checksums)),
        };
        let reply = if request.kind == Kind::Append {
            Reply::ok(&Empty {})
        } else {
            reply
        };
        Box::pin(std::future::ready(reply))
    }
}

const IN_FLIGHT: usize = 64;
const CALLS: usize = 1_000_000;
const BULK_CALLS: usize = 8_000;

async fn run(
    channel: &Channel,
    kind: Kind,
    payload: Option<Payload>,
    calls: usize,
    in_flight: usize,
    now: Monotonic,
) {
    let options = CallOptions::until(now.plus(Duration::from_secs(120)));
    let mut under_way = FuturesUnordered::new();
    let mut started = 0;
    let mut done = 0;
    while done < calls {
        while started < calls && under_way.len() < in_flight {
            under_way.push(channel.call::<Ping, Ping>(kind, &Ping { nonce: 0 }, payload.clone(), options));
            started += 1;
        }
        let answer = under_way.next().await.expect("calls are under way");
        answer.expect("the call succeeds");
        done += 1;
    }
}

#[tokio::main]
async fn main() {
    let env = Env::os();
    let pool = BufferPool::new(256 << 20);
    let data = pool.copy(&vec![7; MAX_PAYLOAD_BYTES]).freeze();
    let block = Payload::new(data);
    let identity = ServerIdentity {
        cluster: ClusterId([1; 16]),
        history: HistoryId([2; 16]),
        node: NodeId(1),
        incarnation: Incarnation(1),
        software: String::new(),
    };
    let listener = env
        .net
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .expect("a free port");
    let service = Arc::new(Rate {
        identity,
        block: block.clone(),
    });
    let server = serve(env.clone(), listener, service, ServerOptions::new(pool.clone()));
    let channels = Channels::new(env.clone(), ChannelOptions::new(pool, ClientId([3; 16])));
    let channel = channels.to(&server.address().to_string());
    run(&channel, Kind::Ping, None, 10_000, 1, env.clock.now()).await;
    let cases = [
        ("ping, 1 in flight", Kind::Ping, None, CALLS / 20, 1, 0),
        ("ping, 64 in flight", Kind::Ping, None, CALLS, IN_FLIGHT, 0),
        ("ping, 256 in flight", Kind::Ping, None, CALLS, 4 * IN_FLIGHT, 0),
        ("1 MiB sink", Kind::Append, Some(block.clone()), BULK_CALLS, 8, 1),
        ("1 MiB source", Kind::Read, None, BULK_CALLS, 8, 1),
        ("1 MiB echo", Kind::Finish, Some(block), BULK_CALLS, 8, 2),
    ];
    for (name, kind, payload, calls, in_flight, ways) in cases {
        let start = env.clock.now();
        run(&channel, kind, payload, calls, in_flight, start).await;
        let seconds = env.clock.now().since(start).as_secs_f64();
        let rate = calls as f64 / seconds;
        println!(
            "{name:20} {rate:10.0} calls/s {:8.0} MB/s",
            rate * (ways * MAX_PAYLOAD_BYTES) as f64 / 1e6
        );
    }
    server.shutdown();
    channels.close();
}
