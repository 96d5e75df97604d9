//! The HTTP/1.1 server of every door: hyper over the Net seam, with bounds on everything a peer can hold.
//!
//! A request reaches its door when its head is small enough and it comes from where it may ([`crate::origin`]). Every
//! request is counted ([`crate::metrics`]), whoever answers it.

use crate::http_stream::{HttpStream, READ_BYTES};
use crate::locks;
use crate::metrics::{Ended, Metrics, Operation, REFUSED};
use crate::origin::{self, Hosts};
use crate::pace::Pace;
use crate::problem::Problem;
use crate::request_body::{RequestBody, expects_continue};
use crate::response::{Body, BodyError, Response, close, empty};
use bytes::Bytes;
use drystone_env::connections::{Busy, Place};
use drystone_env::{Clock, Connections, Env, Listener, Monotonic};
use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;

/// After a failed accept (no descriptors left, most often) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers one request.
pub type Handler = Arc<dyn Fn(http::Request<RequestBody>) -> BoxFuture<'static, Response> + Send + Sync>;

/// Bounds of a server.
#[derive(Clone)]
pub struct HttpOptions {
    /// Name of the door in metrics.
    pub door: &'static str,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// Host names for which it answers, beside those of loopback and its own address; default none. See [`Hosts`].
    pub hosts: Vec<String>,
    /// Connections at one time, or fewer where descriptors are few ([`Listener::room`]). One more takes the place of the
    /// one that has been idle for longest, or waits. Default 4,096.
    pub connections: usize,
    /// How long the head of a request may take, and how long a connection may be idle; default 30 s.
    pub head_timeout: Duration,
    /// Bytes of a request's head; default 32 KiB (a path of 4,096 bytes is at most 12,288 when encoded). A larger one
    /// is answered 431.
    pub head_bytes: usize,
    /// A connection is closed when its peer sends a body, or takes an answer, more slowly; default 1 KiB/s, see [`Pace`].
    /// No end is heard of a peer that lost its power or its network.
    pub pace: Pace,
}

impl HttpOptions {
    /// The defaults for the door of this name.
    pub fn new(door: &'static str, metrics: Metrics) -> Self {
        Self {
            door,
            metrics,
            hosts: Vec::new(),
            connections: 4096,
            head_timeout: Duration::from_secs(30),
            head_bytes: 32 << 10,
            pace: Pace::default(),
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
        let door = Door {
            hosts: Hosts::new(address, &options.hosts),
            clock: Arc::clone(&env.clock),
            options,
            handler,
        };
        let task = accept(env.clone(), listener, Arc::new(door), stopping);
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
    door: Arc<Door>,
    mut stopping: watch::Receiver<bool>,
) {
    let connections = Connections::new(Arc::clone(&env.clock), locks::CONNECTIONS);
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = asked_to_stop(&mut stopping) => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Said once: it is tried again ten times a second.
                if !failing {
                    tracing::warn!(%error, address = %listener.address(), "no connection can be accepted");
                }
                failing = true;
                connections.close_oldest_idle();
                env.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let limit = door.options.connections.min(listener.room());
        let place = tokio::select! {
            biased;
            () = asked_to_stop(&mut stopping) => return,
            place = connections.admit(limit) => Arc::new(place),
        };
        let stream = HttpStream::new(
            stream,
            Arc::clone(&env.clock),
            Arc::clone(&place),
            door.options.pace,
        );
        let (door, stopping) = (Arc::clone(&door), stopping.clone());
        env.spawn.spawn(
            "http-connection",
            Box::pin(async move { door.serve(stream, place, stopping).await }),
        );
    }
}

async fn asked_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error: the server is gone, which asks for the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// What all connections of a server share.
struct Door {
    options: HttpOptions,
    hosts: Hosts,
    clock: Arc<dyn Clock>,
    handler: Handler,
}

impl Door {
    async fn serve(
        self: Arc<Self>,
        stream: HttpStream,
        place: Arc<Place>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let _open = self.options.metrics.connection(self.options.door);
        let (head_timeout, head_bytes) = (self.options.head_timeout, self.options.head_bytes);
        let requests = Arc::clone(&place);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (door, busy) = (Arc::clone(&self), requests.busy());
            async move { Ok::<_, Infallible>(door.answer(request, busy).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(head_bytes.max(READ_BYTES))
            .serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let outcome = tokio::select! {
            biased;
            outcome = connection.as_mut() => outcome,
            () = asked_to_stop(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = poll_fn(|context| place.asked_to_close(context)) => {
                tracing::debug!("an idle connection is closed: another one needs its place");
                return;
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn answer(&self, request: http::Request<Incoming>, busy: Busy) -> Response {
        let received = Arc::new(AtomicU64::new(0));
        let mut under_way = UnderWay::begin(self, Arc::clone(&received), busy);
        let refused = self.check(&request);
        let expected = expects_continue(request.headers());
        let request = request.map(|body| {
            RequestBody::new(
                body,
                Arc::clone(&self.clock),
                self.options.pace,
                received,
                expected,
            )
        });
        let response = match refused {
            None => (self.handler)(request).await,
            Some(fault) => self.refuse(&fault, request).await,
        };
        under_way.status = Some(response.status());
        under_way.operation = *response.extensions().get().unwrap_or(&Operation(REFUSED));
        response.map(|body| Counted { body, under_way }.boxed_unsync())
    }

    /// Why the request does not reach its door.
    fn check(&self, request: &http::Request<Incoming>) -> Option<Problem> {
        let (uri, headers) = (request.uri(), request.headers());
        let lines = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
        let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
        let bytes = lines.sum::<usize>() + target;
        if bytes > self.options.head_bytes {
            return Some(Problem::named(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head_too_large",
                format!(
                    "the head of the request has {bytes} bytes, may have {}",
                    self.options.head_bytes
                ),
            ));
        }
        origin::check(&self.hosts, request.method(), uri, request.version(), headers).err()
    }

    async fn refuse(&self, fault: &Problem, request: http::Request<RequestBody>) -> Response {
        let is_head = request.method() == http::Method::HEAD;
        let mut response = fault.response();
        if is_head {
            *response.body_mut() = empty();
        }
        if !request.into_body().drain(&*self.clock).await {
            close(&mut response);
        }
        response
    }
}

/// A request whose answer has not been sent to its end. It is counted when this is dropped.
struct UnderWay {
    door: &'static str,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    began: Monotonic,
    operation: Operation,
    status: Option<StatusCode>,
    received: Arc<AtomicU64>,
    sent_bytes: u64,
    _busy: Busy,
}

impl UnderWay {
    fn begin(door: &Door, received: Arc<AtomicU64>, busy: Busy) -> Self {
        door.options.metrics.begin(door.options.door);
        Self {
            door: door.options.door,
            metrics: door.options.metrics.clone(),
            clock: Arc::clone(&door.clock),
            began: door.clock.now(),
            operation: Operation(REFUSED),
            status: None,
            received,
            sent_bytes: 0,
            _busy: busy,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = Ended {
            operation: self.operation,
            status: self.status,
            received_bytes: self.received.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes,
            seconds: self.clock.now().since(self.began).as_secs_f64(),
        };
        self.metrics.end(self.door, &ended);
    }
}

/// A response's body that counts what is taken of it.
struct Counted {
    body: Body,
    under_way: UnderWay,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.under_way.sent_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
