//! Threads for reads that may wait for the disk, so that no thread of the runtime does.

use super::cell::StateReader;
use crate::lifecycle::Lifecycle;
use drystone_namespace::NamespaceView;
use drystone_proto::cluster::ErrorReply;
use drystone_rpc::refusal;
use drystone_types::Code;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};

/// Reads of clients at the same time: what keeps a solid disk busy.
const CLIENT_THREADS: usize = 4;
/// Reads of the leader's own work and of heartbeats, which no listing may hold up.
const CONTROL_THREADS: usize = 2;
/// Reads that wait for a thread; who asks for more waits to ask. Requests under way are bounded by the wire.
const WAITING: usize = 64;

type Read = Box<dyn FnOnce() + Send>;

/// See the module. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Readers(mpsc::Sender<Read>);

impl Readers {
    /// Starts the threads for what clients ask; they end with the server.
    pub(crate) fn for_clients(lifecycle: &Arc<Lifecycle>) -> Self {
        Self::start(lifecycle, "meta-read", CLIENT_THREADS)
    }

    /// Starts the threads for heartbeats and the leader's tasks; they end with the server.
    pub(crate) fn for_control(lifecycle: &Arc<Lifecycle>) -> Self {
        Self::start(lifecycle, "meta-read-control", CONTROL_THREADS)
    }

    fn start(lifecycle: &Arc<Lifecycle>, name: &'static str, threads: usize) -> Self {
        let (sender, inbox) = mpsc::channel::<Read>(WAITING);
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..threads {
            let (inbox, mut stopped) = (Arc::clone(&inbox), lifecycle.watch_stopped());
            lifecycle.thread(name, async move {
                loop {
                    let next = async { inbox.lock().await.recv().await };
                    let read = tokio::select! {
                        biased;
                        _ = stopped.wait_for(|stopped| *stopped) => return,
                        read = next => read,
                    };
                    let Some(read) = read else { return };
                    read();
                }
            });
        }
        Self(sender)
    }

    /// Runs `read` on one of the threads, with the namespace as it is then. Dropping the future gives up the answer, and
    /// the read if it has not begun.
    ///
    /// # Errors
    /// This server is stopping, or its store failed, which ends it.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        state: &StateReader,
        read: impl FnOnce(NamespaceView) -> T + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let (viewed, merged) = (state.clone(), state.clone());
        let read = move || viewed.view().map(read);
        // Nobody waits for the layers that the view has left.
        let answer = self.run(read, move || merged.merge_layers()).await?;
        answer.map_err(|error| state.store_error(&error))
    }

    /// Goes on with `work` on one of the threads: a part of a long read, so that others get their turn between the parts.
    ///
    /// # Errors
    /// This server is stopping.
    pub(crate) async fn go_on<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorReply> {
        self.run(work, || ()).await
    }

    /// Runs `read` on one of the threads, and `after` when it is answered.
    async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
        after: impl FnOnce() + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let stopping = || refusal(Code::Unavailable, "this server is stopping");
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move || {
            if !reply.is_closed() {
                let _ = reply.send(read());
                after();
            }
        });
        self.0.send(read).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}
