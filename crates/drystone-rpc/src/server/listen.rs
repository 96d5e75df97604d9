//! The listener's task and the handle to stop it.

use super::ServerOptions;
use crate::message::Service;
use drystone_env::{Env, Listener};
use std::net::SocketAddr;
use std::sync::Arc;

/// A running server. Dropping it does not stop the server; its environment's [`drystone_env::Spawn`] does.
#[derive(Clone)]
pub struct ServerHandle {
    address: SocketAddr,
}

impl ServerHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and closes every connection; requests under way are dropped. Returns at once.
    pub fn shutdown(&self) {
        unimplemented!()
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        unimplemented!()
    }
}

/// Serves `service` on `listener` until [`ServerHandle::shutdown`].
pub fn serve(
    _env: Env,
    listener: Box<dyn Listener>,
    _service: Arc<dyn Service>,
    _options: ServerOptions,
) -> ServerHandle {
    ServerHandle {
        address: listener.address(),
    }
}
