//! What the listener and all connections of a server share.

use super::ServerOptions;
use super::admission::Admission;
use crate::message::Service;
use drystone_env::{Connections, Env};
use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// See the module.
pub(super) struct Server {
    pub(super) env: Env,
    pub(super) service: Arc<dyn Service>,
    pub(super) options: ServerOptions,
    pub(super) admission: Arc<Admission>,
    pub(super) stopped: AtomicBool,
    /// The listener's task.
    pub(super) listening: AtomicWaker,
    pub(super) connections: Connections,
}

impl Server {
    /// True once it shall stop.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// What `future` comes to, unless the server is stopped before.
    pub(super) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|context| {
            self.listening.register(context.waker());
            if self.stopped() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        })
        .await
    }
}
