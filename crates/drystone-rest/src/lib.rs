//! The REST door: files, directories and attributes over HTTP, described by OpenAPI.
//!
//! Read [`call`] for what a request is, [`route`] for what may be asked, then one file per resource; [`guard`] is what is
//! looked at before a body is read. Bodies stream in both directions.
//! Architecture invariant: everything is done through the client library; nothing is kept between requests.

mod call;
mod cluster;
mod conditions;
mod directories;
mod door;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod guard;
mod links;
mod media_type;
mod metadata;
mod range;
mod respond;
mod route;
mod upload;

use door::Door;
use drystone_client::Client;
use drystone_env::Env;
use drystone_gateway::{HttpOptions, HttpServer, Metrics};
use std::net::SocketAddr;
use std::sync::Arc;

/// The description of this door, as served at `/openapi.json`.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Configuration of the door.
#[derive(Clone)]
pub struct RestConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// On whose behalf requests without a `Drystone-User` header are done; default: the system's user.
    pub default_user: String,
    /// Limits, hosts and metrics.
    pub http: HttpOptions,
}

impl RestConfig {
    /// Listens on `listen`, for the system's user, with the usual limits.
    pub fn new(listen: SocketAddr, metrics: Metrics) -> Self {
        Self {
            listen,
            default_user: drystone_gateway::caller::system_user(),
            http: HttpOptions::new(DOOR, metrics),
        }
    }
}

/// Name of this door in metrics.
pub const DOOR: &str = "rest";

/// A running door. Dropping it stops it.
pub struct Handle {
    server: HttpServer,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Takes no new requests.
    pub fn shutdown(&self) {
        self.server.shutdown();
    }
}

/// Starts the door.
///
/// # Errors
/// If it cannot listen.
pub async fn serve(env: Env, config: RestConfig, client: Client) -> std::io::Result<Handle> {
    let door = Arc::new(Door {
        env: env.clone(),
        client,
        default_user: config.default_user,
    });
    let handler = move |request| -> futures_util::future::BoxFuture<'static, drystone_gateway::Response> {
        let door = Arc::clone(&door);
        Box::pin(async move { route::answer(&door, request).await })
    };
    let server = HttpServer::start(&env, config.listen, config.http, Arc::new(handler)).await?;
    Ok(Handle { server })
}
