//! A service that tells what became of requests, a server for it, and clients.

use crate::seams::{Host, world};
use bytes::Bytes;
use drystone_env::{BoxFuture, BufferPool};
use drystone_proto::Kind;
use drystone_proto::checksum::{Checksums, block_checksums};
use drystone_proto::cluster::{ErrorReply, Hello, HelloReply, Ping};
use drystone_rpc::{
    Answer, CallError, CallFuture, CallOptions, ChannelOptions, Channels, Payload, Reply, Request,
    ServerHandle, ServerIdentity, ServerOptions, Service, serve,
};
use drystone_types::{ClientId, ClusterId, Code, HistoryId, Incarnation, NodeId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answered at once, with what came.
pub(crate) const ECHO: Kind = Kind::Ping;
/// Done at once, answered with what came after the probe's `work_ms`.
pub(crate) const WORK: Kind = Kind::Append;
/// Answered when it is released.
pub(crate) const WAIT: Kind = Kind::Read;
/// Answered at once with `answer_bytes`.
pub(crate) const FETCH: Kind = Kind::List;

pub(crate) const PORT: u16 = 9710;
pub(crate) const SERVER: &str = "server:9710";

/// Raw bytes that know how many of their kind are held.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

struct Block {
    data: Vec<u8>,
    held: Held,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}

impl Held {
    /// So many bytes, counted until the last of their handles is dropped.
    pub(crate) fn block(&self, bytes: usize) -> Bytes {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Bytes::from_owner(Block {
            data: vec![7; bytes],
            held: self.clone(),
        })
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that knows the most it has been.
#[derive(Default)]
pub(crate) struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One of those that a gauge counts.
struct Counted(Arc<Probe>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gauge {
    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// The service. What it has seen outlives the server's host.
pub(crate) struct Probe {
    work_ms: u64,
    answer: Checksums,
    answer_bytes: usize,
    release: tokio::sync::Semaphore,
    done: Mutex<Vec<u64>>,
    server: Mutex<Option<(ServerHandle, Host)>>,
    /// Requests that the service has begun and not ended.
    pub(crate) running: Gauge,
    /// Bytes of its large answers.
    pub(crate) answers: Held,
}

impl Probe {
    pub(crate) fn new(work_ms: u64, answer_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            work_ms,
            answer: block_checksums(&vec![7; answer_bytes]).into(),
            answer_bytes,
            release: tokio::sync::Semaphore::new(0),
            done: Mutex::default(),
            server: Mutex::default(),
            running: Gauge::default(),
            answers: Held::default(),
        })
    }

    /// Nonces of what was done, in order.
    pub(crate) fn done(&self) -> Vec<u64> {
        self.done.lock().unwrap().clone()
    }

    /// Lets so many of those that wait be answered.
    pub(crate) fn release(&self, count: usize) {
        self.release.add_permits(count);
    }

    /// Waits until the server runs: hosts start in any order.
    pub(crate) async fn up(&self, host: &Host) {
        assert!(host.wait(100, || self.server.lock().unwrap().is_some()).await);
    }

    /// The running server.
    pub(crate) fn server(&self) -> ServerHandle {
        self.server.lock().unwrap().as_ref().expect("it runs").0.clone()
    }

    /// The server's host.
    pub(crate) fn host(&self) -> Host {
        self.server.lock().unwrap().as_ref().expect("it runs").1.clone()
    }

    /// Serves it on the host `server` of `sim`.
    pub(crate) fn start(
        self: &Arc<Self>,
        sim: &mut turmoil::Sim<'static>,
        name: &'static str,
        seed: u64,
        change: impl Fn(&mut ServerOptions, &Host) + Copy + 'static,
    ) {
        let probe = Arc::clone(self);
        sim.host(name, move || {
            let probe = Arc::clone(&probe);
            async move {
                let host = Host::new(name, seed);
                let mut options = ServerOptions::new(BufferPool::new(1 << 20));
                change(&mut options, &host);
                let listener = host.env.net.bind(([0, 0, 0, 0], PORT).into()).await?;
                let service = Front(Arc::clone(&probe));
                let handle = serve(host.env.clone(), listener, Arc::new(service), options);
                *probe.server.lock().unwrap() = Some((handle, host));
                std::future::pending().await
            }
        });
    }

    /// One world: this is served on the host `server`, and `talk` is what the host `client` does with it.
    pub(crate) fn meet(
        self: Arc<Self>,
        seed: u64,
        change: impl Fn(&mut ServerOptions, &Host) + Copy + 'static,
        talk: impl AsyncFnOnce(Caller, Arc<Self>) + 'static,
    ) {
        let mut sim = world(seed);
        self.start(&mut sim, "server", seed, change);
        sim.client("client", async move {
            let caller = Caller::new("client", seed);
            self.up(&caller.host).await;
            talk(caller, self).await;
            Ok(())
        });
        sim.run().unwrap();
    }
}

pub(crate) fn history() -> HistoryId {
    HistoryId([2; 16])
}

struct Front(Arc<Probe>);

impl Service for Front {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        let identity = ServerIdentity {
            cluster: ClusterId([1; 16]),
            history: history(),
            node: NodeId(3),
            incarnation: Incarnation(4),
            software: "probe".to_owned(),
        };
        identity.answer(hello)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let ping = match request.decode::<Ping>() {
            Ok(ping) => ping,
            Err(error) => return Box::pin(async { Reply::error(error) }),
        };
        let probe = Arc::clone(&self.0);
        let now = probe.running.now.fetch_add(1, Ordering::Relaxed) + 1;
        probe.running.most.fetch_max(now, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&probe));
        if request.kind == WORK {
            probe.done.lock().unwrap().push(ping.nonce);
        }
        Box::pin(async move {
            let probe = &counted.0;
            match request.kind {
                WORK => {
                    #[allow(clippy::disallowed_methods, reason = "the service has no environment")]
                    tokio::time::sleep(Duration::from_millis(probe.work_ms)).await;
                }
                WAIT => probe.release.acquire().await.expect("never closed").forget(),
                FETCH => {
                    let block = probe.answers.block(probe.answer_bytes);
                    return Reply::with_payload(&ping, block, Some(probe.answer.clone()));
                }
                ECHO => {}
                _ => return Reply::refuse(Code::NotSupported, "not here"),
            }
            Reply::with_payload(&ping, request.payload, Some(request.checksums))
        })
    }
}

/// A client process.
pub(crate) struct Caller {
    pub(crate) host: Host,
    pub(crate) channels: Channels,
}

impl Caller {
    /// On the host `name`; called by its software.
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        Self::with(name, seed, |_| ())
    }

    pub(crate) fn with(name: &str, seed: u64, change: impl FnOnce(&mut ChannelOptions)) -> Self {
        let host = Host::new(name, seed);
        let mut options = ChannelOptions::new(BufferPool::new(1 << 20), ClientId([9; 16]));
        change(&mut options);
        let channels = Channels::new(host.env.clone(), options);
        Self { host, channels }
    }

    /// A call of `server` that has so many milliseconds.
    pub(crate) fn call(&self, kind: Kind, nonce: u64, ms: u64) -> CallFuture<Ping> {
        self.send(SERVER, kind, nonce, None, ms)
    }

    pub(crate) fn send(
        &self,
        server: &str,
        kind: Kind,
        nonce: u64,
        payload: Option<Payload>,
        ms: u64,
    ) -> CallFuture<Ping> {
        let deadline = self.host.env.clock.now().plus(Duration::from_millis(ms));
        let options = CallOptions::until(deadline);
        self.channels
            .to(server)
            .call(kind, &Ping { nonce }, payload, options)
    }

    /// The first answer to an echo, asked again and again, each time with `ms`; how long it took.
    pub(crate) async fn recover(&self, ms: u64, within: u64) -> Option<u64> {
        let start = self.host.env.clock.now();
        while self.host.since(start) < within {
            match self.call(ECHO, 0, ms).await {
                Ok(_) => return Some(self.host.since(start)),
                Err(_) => self.host.pass(10).await,
            }
        }
        None
    }
}

/// How a call ended, in three words that a table can hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum End {
    Answered,
    NotSent,
    Unknown,
}

pub(crate) fn end(outcome: &Result<Answer<Ping>, CallError>) -> End {
    match outcome {
        Ok(_) => End::Answered,
        Err(CallError::NotSent(_)) => End::NotSent,
        Err(CallError::Unknown(_)) => End::Unknown,
        Err(CallError::Refused(reply)) => panic!("refused: {}", reply.message),
    }
}
