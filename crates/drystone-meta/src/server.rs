//! Start of a metadata server.

use crate::config::Config;
use crate::error::StartError;
use crate::handle::Handle;
use crate::opening::{MetadataDirectory, open};
use crate::service::dispatch::WireService;
use crate::wiring::{make_service, start_tasks, start_threads};
use drystone_env::{BufferPool, Env};
use drystone_rpc::{ServerOptions, serve};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Unused buffers kept: some batches of the log and some bulk frames.
const POOL_BYTES: usize = 64 << 20;

/// A metadata server; see [`MetadataServer::start`].
pub struct MetadataServer(());

impl MetadataServer {
    /// Starts the server on the formatted directory `config.data`, which stays locked until the handle is shut
    /// down or dropped. Returns once it listens; see [`Handle::ready`] for when a leader is known.
    ///
    /// Cancellation: dropping the future leaves nothing running once the runtime has dropped its tasks.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(env: Env, config: Config) -> Result<Handle, StartError> {
        config.validate()?;
        let directory = MetadataDirectory::open(&config.data, config.store_cache.0)?;
        Self::start_on(env, config, directory).await
    }

    /// [`MetadataServer::start`] on an open directory; `config.data` is only a name then.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start_on(
        env: Env,
        config: Config,
        directory: MetadataDirectory,
    ) -> Result<Handle, StartError> {
        config.validate()?;
        let pool = BufferPool::new(POOL_BYTES);
        let (reply, answer) = oneshot::channel();
        let (inner, settings, buffers) = (env.clone(), config.clone(), pool.clone());
        let opening = async move { drop(reply.send(open(&inner, &settings, directory, buffers))) };
        env.spawn.thread("meta-open", Box::pin(opening));
        let mut opened = answer
            .await
            .map_err(|_| StartError::Store("opening panicked".to_owned()))??;
        let listen_error = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = env.net.bind(config.listen).await.map_err(listen_error)?;
        let address = listener.address();
        let advertised = config.advertise.clone().unwrap_or_else(|| address.to_string());
        tracing::info!(node = %opened.identity.node, %address, boot = opened.boot.counter,
            applied = opened.state.applied().0, log_last = opened.opened.last.0, "metadata server starts");
        let directory_lock = opened.directory.lock.take();
        let wiring = start_threads(env.clone(), config, advertised, opened, pool.clone());
        let (service, tasks) = make_service(&wiring);
        let server = serve(
            env,
            listener,
            Arc::new(WireService(service)),
            ServerOptions::new(pool),
        );
        start_tasks(&wiring.lifecycle, tasks);
        Ok(Handle {
            identity: wiring.identity,
            clock: wiring.env.clock,
            lifecycle: wiring.lifecycle,
            raft: wiring.raft,
            state: wiring.state,
            channels: wiring.channels,
            server: Some(server),
            registry: Arc::new(Mutex::new(wiring.registry)),
            address,
            _directory_lock: directory_lock,
        })
    }
}
