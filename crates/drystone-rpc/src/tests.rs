//! Client and server over a network in memory, with a clock that is moved by hand.

mod client;
mod net;
mod server;

use crate::*;
use bytes::Bytes;
use drystone_env::os::OsSpawn;
use drystone_env::sim::SimClock;
use drystone_env::{BoxFuture, BufferPool, Env, Monotonic, WallTime};
use drystone_proto::cluster::{Empty, ErrorReply, Hello, HelloReply, Ping};
use drystone_proto::{Kind, Priority};
use drystone_types::{ClientId, ClusterId, Code, HistoryId, Incarnation, NodeId};
use net::MemoryNet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const ADDRESS: &str = "127.0.0.1:9710";

/// Answers pings at once, reads after `release`, appends never; echoes the payload of finishes.
struct Recorder {
    identity: ServerIdentity,
    seen: Mutex<Vec<(Kind, u64)>>,
    dropped: Arc<Mutex<usize>>,
    release: Arc<Notify>,
}

struct CountDrop(Arc<Mutex<usize>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

impl Service for Recorder {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        self.identity.answer(hello)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let ping = match request.decode::<Ping>() {
            Ok(ping) => ping,
            Err(error) => return Box::pin(async { Reply::error(error) }),
        };
        self.seen.lock().unwrap().push((request.kind, ping.nonce));
        let (release, dropped) = (Arc::clone(&self.release), CountDrop(Arc::clone(&self.dropped)));
        Box::pin(async move {
            let _dropped = dropped;
            match request.kind {
                Kind::Ping => Reply::ok(&ping),
                Kind::Read => {
                    release.notified().await;
                    Reply::ok(&ping)
                }
                Kind::Append => std::future::pending().await,
                Kind::Finish => Reply::with_payload(&ping, request.payload, Some(request.checksums)),
                _ => Reply::refuse(Code::NotSupported, "not here"),
            }
        })
    }
}

struct World {
    env: Env,
    clock: SimClock,
    net: MemoryNet,
    service: Arc<Recorder>,
    server: ServerHandle,
    channels: Channels,
}

fn identity() -> ServerIdentity {
    ServerIdentity {
        cluster: ClusterId([1; 16]),
        history: HistoryId([2; 16]),
        node: NodeId(3),
        incarnation: Incarnation(4),
        software: "test".to_owned(),
    }
}

fn channel_options() -> ChannelOptions {
    ChannelOptions {
        roles: drystone_proto::record::role::METADATA,
        ..ChannelOptions::new(BufferPool::new(1 << 20), ClientId([9; 16]))
    }
}

async fn world(change: impl FnOnce(&mut ServerOptions)) -> World {
    let (clock, net) = (
        SimClock::new(Monotonic(1_000_000), WallTime(0)),
        MemoryNet::default(),
    );
    let spawn = Arc::new(OsSpawn::new());
    let env = Env {
        clock: Arc::new(clock.clone()),
        net: Arc::new(net.clone()),
        spawn,
        seed: 1,
        numbers: Arc::default(),
    };
    let service = Arc::new(Recorder {
        identity: identity(),
        seen: Mutex::default(),
        dropped: Arc::default(),
        release: Arc::default(),
    });
    let mut options = ServerOptions::new(BufferPool::new(1 << 20));
    change(&mut options);
    let listener = env.net.bind(ADDRESS.parse().unwrap()).await.unwrap();
    let server = serve(
        env.clone(),
        listener,
        Arc::clone(&service) as Arc<dyn Service>,
        options,
    );
    let channels = Channels::new(env.clone(), channel_options());
    World {
        env,
        clock,
        net,
        service,
        server,
        channels,
    }
}

impl World {
    fn channel(&self) -> Channel {
        self.channels.to(ADDRESS)
    }

    fn within(&self, ms: u64) -> CallOptions {
        CallOptions::until(self.env.clock.now().plus(Duration::from_millis(ms)))
    }

    fn call(&self, kind: Kind, nonce: u64) -> CallFuture<Ping> {
        self.channel()
            .call(kind, &Ping { nonce }, None, self.within(10_000))
    }

    fn seen(&self) -> Vec<(Kind, u64)> {
        self.service.seen.lock().unwrap().clone()
    }

    /// Lets time pass in small steps, so that what wakes in one can act before the next.
    async fn pass(&self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.clock.advance(Duration::from_millis(100));
            settle().await;
        }
    }
}

/// Lets every task do what it can.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
