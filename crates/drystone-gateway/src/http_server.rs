//! The HTTP/1.1 server of every door: hyper over the Net seam, with bounds on everything a peer can hold.

use crate::http_stream::{HttpStream, READ_BYTES};
use crate::request_body::RequestBody;
use bytes::Bytes;
use drystone_env::{Clock, Env, Listener};
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// A response's body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;
/// A response.
pub type Response = http::Response<Body>;
/// Why a body ends before its length: the connection is closed, so that nobody takes it for whole.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// Answers one request.
pub type Handler = Arc<dyn Fn(http::Request<RequestBody>) -> BoxFuture<'static, Response> + Send + Sync>;

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct HttpOptions {
    /// Connections at one time; more wait to be accepted. Default 4,096.
    pub connections: usize,
    /// How long the head of a request may take; default 30 s.
    pub head_timeout: Duration,
    /// Bytes of a request's head; default 32 KiB (a path of 4,096 bytes is at most 12,288 when encoded).
    pub head_bytes: usize,
    /// A connection is closed when its peer sends nothing of a body that is being read, or takes nothing of an answer,
    /// for so long; default 30 s. No end is heard of a peer that lost its power or its network.
    pub stall_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connections: 4096,
            head_timeout: Duration::from_secs(30),
            head_bytes: 32 << 10,
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// A running server. Dropping it stops it.
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl HttpServer {
    /// Listens on `address` and answers every request by `handler`.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn start(
        env: &Env,
        address: SocketAddr,
        options: HttpOptions,
        handler: Handler,
    ) -> io::Result<Self> {
        let listener = env.net.bind(address).await?;
        let address = listener.address();
        let (stop, stopping) = watch::channel(false);
        let task = accept(env.clone(), listener, options, handler, stopping);
        env.spawn.spawn("http", Box::pin(task));
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new request and closes idle connections. Requests under way are finished in the background.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

async fn accept(
    env: Env,
    mut listener: Box<dyn Listener>,
    options: HttpOptions,
    handler: Handler,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(options.connections));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let connection = tokio::select! {
            biased;
            () = asked_to_stop(&mut stopping) => return,
            connection = listener.accept() => connection,
        };
        let stream = match connection {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: wait until some are free.
                tracing::warn!(%error, "accept failed");
                env.clock.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let stream = HttpStream::new(stream, Arc::clone(&env.clock), options.stall_timeout);
        let (clock, handler, stopping) = (Arc::clone(&env.clock), Arc::clone(&handler), stopping.clone());
        env.spawn.spawn(
            "http-connection",
            Box::pin(async move {
                serve_connection(stream, clock, options, handler, stopping).await;
                drop(place);
            }),
        );
    }
}

async fn serve_connection(
    stream: HttpStream,
    clock: Arc<dyn Clock>,
    options: HttpOptions,
    handler: Handler,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let patient = |body| RequestBody::new(body, Arc::clone(&clock), options.stall_timeout);
        let answer = handler(request.map(patient));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_buf_size(options.head_bytes.max(READ_BYTES))
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = asked_to_stop(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

async fn asked_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error: the server is gone, which asks for the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
