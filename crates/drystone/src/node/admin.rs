//! A node's admin port: `/metrics`, `/healthz`, `/readyz`.

use crate::node::Node;
use anyhow::Context;
use drystone_client::Client;
use drystone_env::{Clock, Env};
use drystone_gateway::response::{empty, full};
use drystone_gateway::{HttpOptions, HttpServer, Metrics, Operation, Response};
use http::{HeaderValue, StatusCode, header};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// Connections at one time.
const CONNECTIONS: usize = 32;
/// How long a metadata leader may take to answer the doors before they are not ready.
const ANSWER: Duration = Duration::from_secs(2);

/// What the port reports about. It does not keep the roles alive.
#[derive(Clone)]
pub struct State {
    metadata: Option<Weak<drystone_meta::Handle>>,
    chunk: Option<drystone_chunk::Handle>,
    /// The client of its doors, once a metadata server has answered.
    client: Option<Arc<OnceLock<Client>>>,
    clock: Arc<dyn Clock>,
    doors: Metrics,
}

impl State {
    /// Reports about the roles of `node`, and about its doors if there are to be any.
    pub fn new(env: &Env, node: &Node, has_doors: bool) -> Self {
        Self {
            client: has_doors.then(|| Arc::clone(&node.client)),
            clock: Arc::clone(&env.clock),
            metadata: node.metadata.as_ref().map(Arc::downgrade),
            chunk: node.chunk.clone(),
            doors: node.http_metrics.clone(),
        }
    }

    async fn unready(&self) -> Option<&'static str> {
        if let Some(metadata) = &self.metadata
            && !metadata.upgrade().is_some_and(|handle| handle.is_ready())
        {
            return Some("the metadata server knows no leader or has not caught up");
        }
        if self.chunk.as_ref().is_some_and(|chunk| !chunk.ready()) {
            return Some("the chunk server is not registered with a leader");
        }
        let client = self.client.as_ref()?;
        let Some(client) = client.get() else {
            return Some("no metadata server has answered the doors yet");
        };
        let until = self.clock.now().plus(ANSWER);
        match self.clock.until(until, client.cluster_info()).await {
            Some(Ok(info)) if info.leader != 0 => None,
            _ => Some("no metadata leader answers the doors"),
        }
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        // Each part ends with the mark of the end, which stands once in the whole.
        let mut add = |part: &str| text.push_str(part.trim_end_matches("# EOF\n"));
        if let Some(handle) = self.metadata.as_ref().and_then(Weak::upgrade) {
            let registry = handle.registry();
            let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            let mut part = String::new();
            if let Err(error) = prometheus_client::encoding::text::encode(&mut part, &registry) {
                tracing::warn!(%error, "metrics could not be written");
            }
            add(&part);
        }
        if let Some(chunk) = &self.chunk {
            add(&chunk.metrics());
        }
        add(&self.doors.encode());
        text.push_str("# EOF\n");
        text
    }

    async fn answer(&self, path: &str) -> Response {
        let plain = "text/plain; charset=utf-8";
        let (operation, status, kind, body) = match path {
            "/healthz" => ("healthz", StatusCode::OK, plain, "ok\n".to_owned()),
            "/readyz" => match self.unready().await {
                None => ("readyz", StatusCode::OK, plain, "ready\n".to_owned()),
                Some(reason) => (
                    "readyz",
                    StatusCode::SERVICE_UNAVAILABLE,
                    plain,
                    format!("{reason}\n"),
                ),
            },
            "/metrics" => (
                "metrics",
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.metrics(),
            ),
            _ => (
                "unknown",
                StatusCode::NOT_FOUND,
                plain,
                "there are /metrics, /healthz and /readyz\n".to_owned(),
            ),
        };
        let mut response = Response::new(empty());
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        *response.body_mut() = full(body);
        response.extensions_mut().insert(Operation(operation));
        response
    }
}

/// Serves the port in the background, until the answer is dropped.
///
/// It answers for `hosts` beside its own address. Few look at it, and descriptors are for others.
pub async fn serve(
    env: &Env,
    listen: SocketAddr,
    state: State,
    hosts: Vec<String>,
) -> anyhow::Result<HttpServer> {
    let options = HttpOptions {
        hosts,
        connections: CONNECTIONS,
        ..HttpOptions::new("admin", state.doors.clone())
    };
    let handler = move |request: http::Request<drystone_gateway::RequestBody>| -> futures_util::future::BoxFuture<'static, Response> {
        let state = state.clone();
        Box::pin(async move {
            if request.method() == http::Method::GET {
                return state.answer(request.uri().path()).await;
            }
            let mut response = Response::new(full("this port answers GET\n"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
        })
    };
    HttpServer::start(env, listen, options, Arc::new(handler))
        .await
        .with_context(|| format!("cannot listen on {listen} (admin)"))
}
