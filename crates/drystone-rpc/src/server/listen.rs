//! The listener's task and the handle to stop it.

use super::ServerOptions;
use super::admission::Admission;
use super::connection::Connection;
use crate::message::Service;
use drystone_env::{BoxStream, Env, Listener};
use futures_util::task::AtomicWaker;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// After a failed accept (no descriptors left, most often) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the listener and all connections share.
pub(super) struct Server {
    pub(super) env: Env,
    pub(super) service: Arc<dyn Service>,
    pub(super) options: ServerOptions,
    pub(super) admission: Arc<Admission>,
    stopped: AtomicBool,
    listening: AtomicWaker,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    next: u64,
    wakers: BTreeMap<u64, Arc<AtomicWaker>>,
}

/// A running server. Dropping it does not stop the server; its environment's [`drystone_env::Spawn`] does.
#[derive(Clone)]
pub struct ServerHandle {
    address: SocketAddr,
    server: Arc<Server>,
}

impl ServerHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and closes every connection; requests under way are dropped. Returns at once.
    pub fn shutdown(&self) {
        self.server.stopped.store(true, Ordering::Release);
        self.server.listening.wake();
        self.server.lock().wakers.values().for_each(|waker| waker.wake());
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.server.lock().wakers.len()
    }
}

/// Serves `service` on `listener` until [`ServerHandle::shutdown`].
pub fn serve(
    env: Env,
    listener: Box<dyn Listener>,
    service: Arc<dyn Service>,
    options: ServerOptions,
) -> ServerHandle {
    let address = listener.address();
    let admission = Arc::new(Admission::new(&options));
    let server = Arc::new(Server {
        env: env.clone(),
        service,
        options,
        admission,
        stopped: AtomicBool::new(false),
        listening: AtomicWaker::new(),
        connections: Mutex::default(),
    });
    env.spawn
        .spawn("rpc listener", Box::pin(listen(Arc::clone(&server), listener)));
    ServerHandle { address, server }
}

impl Server {
    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn admit(self: &Arc<Self>, stream: BoxStream, peer: SocketAddr) {
        let (id, waker) = (self.lock().next, Arc::new(AtomicWaker::new()));
        {
            let mut connections = self.lock();
            if connections.wakers.len() >= self.options.connections {
                tracing::warn!(%peer, limit = self.options.connections, "too many connections: one is closed");
                return;
            }
            connections.next += 1;
            connections.wakers.insert(id, Arc::clone(&waker));
        }
        let place = Place {
            server: Arc::clone(self),
            id,
        };
        let mut connection = Connection::new(Arc::clone(self), stream, peer);
        let task = async move {
            let reason = poll_fn(|context| {
                waker.register(context.waker());
                if place.server.stopped() {
                    return Poll::Ready(None);
                }
                connection.poll(context).map(Some)
            })
            .await;
            drop((connection, place));
            if let Some(reason) = reason {
                tracing::debug!(%peer, %reason, "connection ended");
            }
        };
        self.env.spawn.spawn("rpc connection", Box::pin(task));
    }
}

/// A connection's place under the limit; given back when its task ends, however it ends.
struct Place {
    server: Arc<Server>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.lock().wakers.remove(&self.id);
    }
}

async fn listen(server: Arc<Server>, mut listener: Box<dyn Listener>) {
    loop {
        let accepted = {
            let mut accept = listener.accept();
            poll_fn(|context| {
                server.listening.register(context.waker());
                if server.stopped() {
                    return Poll::Ready(None);
                }
                accept.as_mut().poll(context).map(Some)
            })
            .await
        };
        match accepted {
            None => return,
            Some(Ok((stream, peer))) => server.admit(stream, peer),
            Some(Err(error)) => {
                tracing::warn!(%error, "accepting a connection failed");
                server.env.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
