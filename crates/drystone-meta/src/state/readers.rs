//! Threads for reads that may wait for the disk, so that no thread of the runtime does.

use crate::lifecycle::Lifecycle;
use drystone_proto::cluster::ErrorReply;
use drystone_rpc::refusal;
use drystone_types::Code;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};

/// Reads at the same time: what keeps a solid disk busy.
const THREADS: usize = 4;
/// Reads that wait for a thread; who asks for more waits to ask. Requests under way are bounded by the wire.
const WAITING: usize = 64;

type Read = Box<dyn FnOnce() + Send>;

/// See the module. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Readers(mpsc::Sender<Read>);

impl Readers {
    /// Starts the threads; they end with the server.
    pub(crate) fn start(lifecycle: &Arc<Lifecycle>) -> Self {
        let (sender, inbox) = mpsc::channel::<Read>(WAITING);
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..THREADS {
            let (inbox, mut stopped) = (Arc::clone(&inbox), lifecycle.watch_stopped());
            lifecycle.thread("meta-read", async move {
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

    /// Runs `read` on one of the threads. Dropping the future gives up the answer only.
    ///
    /// # Errors
    /// This server is stopping.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let stopping = || refusal(Code::Unavailable, "this server is stopping");
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move || drop(reply.send(read())));
        self.0.send(read).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}
