//! The listener's task and the handle to stop it.

use super::ServerOptions;
use super::admission::Admission;
use super::connection::Connection;
use super::shared::Server;
use crate::locks;
use crate::message::Service;
use drystone_env::connections::Place;
use drystone_env::{BoxStream, Connections, Env, Listener};
use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

/// After a failed accept (no descriptors left, most often) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        self.server.connections.wake();
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.server.connections.len()
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
        connections: Connections::new(Arc::clone(&env.clock), locks::CONNECTIONS),
    });
    env.spawn
        .spawn("rpc listener", Box::pin(listen(Arc::clone(&server), listener)));
    ServerHandle { address, server }
}

/// Serves one connection in a task of its own.
fn serve_connection(shared: &Arc<Server>, stream: BoxStream, peer: SocketAddr, place: Place) {
    let server = Arc::clone(shared);
    let mut connection = Connection::new(Arc::clone(shared), stream, peer);
    let task = async move {
        let reason = poll_fn(|context| {
            // Registers this task before it is looked whether it shall stop.
            if place.asked_to_close(context).is_ready() {
                return Poll::Ready(Some("another connection needs its place".to_owned()));
            }
            if server.stopped() {
                return Poll::Ready(None);
            }
            connection
                .poll(&place, context)
                .map(|reason| Some(reason.to_string()))
        })
        .await;
        drop((connection, place));
        if let Some(reason) = reason {
            tracing::debug!(%peer, %reason, "connection ended");
        }
    };
    shared.env.spawn.spawn("rpc connection", Box::pin(task));
}

async fn listen(server: Arc<Server>, mut listener: Box<dyn Listener>) {
    let mut failing = false;
    loop {
        match server.unless_stopped(listener.accept()).await {
            None => return,
            Some(Ok((stream, peer))) => {
                failing = false;
                let limit = server.options.connections.min(listener.room());
                match server.unless_stopped(server.connections.admit(limit)).await {
                    None => return,
                    Some(place) => serve_connection(&server, stream, peer, place),
                }
            }
            Some(Err(error)) => {
                // Said once: it is tried again ten times a second.
                if !failing {
                    tracing::warn!(%error, address = %listener.address(), "no connection can be accepted");
                }
                failing = true;
                server.connections.close_oldest_idle();
                server.env.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
