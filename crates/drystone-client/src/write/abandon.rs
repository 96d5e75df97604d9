//! What a writer began and no command names: given up, so that its space comes back in seconds.
//!
//! [`BegunChunks`] remembers the chunks that one writer was granted until the command that records them is sent. What is left
//! when the writer is gone goes to the leader in batches, best effort: what does not arrive comes back when the grant floor has
//! passed it. Never given up is what a command names of which nobody knows whether it was applied.

use crate::locks;
use crate::meta::Repeat;
use crate::metrics::Metrics;
use crate::requester::Requester;
use bytes::Bytes;
use drystone_env::Monotonic;
use drystone_env::sync::Mutex;
use drystone_proto::Kind;
use drystone_proto::cluster::Empty;
use drystone_proto::command::Content;
use drystone_proto::meta::AbandonRequest;
use drystone_types::Code;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Chunks that wait to be given up; more are left to the grant floor.
const MAX_WAITING: usize = 4_096;
/// Chunks in one request.
const MAX_CHUNKS: usize = 128;
/// Grants of one chunk that are told: the first one, and replacements.
const MAX_TOKENS: usize = 8;
/// Times that a request is tried; each lasts as long as any operation may.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The tokens of the grants of each chunk.
type Chunks = BTreeMap<u64, Vec<Bytes>>;

/// Takes what writers leave behind. Clones are the same.
#[derive(Clone)]
pub(crate) struct Abandoner {
    queue: mpsc::Sender<Vec<Bytes>>,
    /// Chunks that wait to be given up.
    outstanding: Arc<watch::Sender<usize>>,
    writers: Arc<Mutex<Writers>>,
}

/// What each writer has begun, by a number of its own.
#[derive(Default)]
struct Writers {
    last: u64,
    begun: BTreeMap<u64, Arc<Mutex<Chunks>>>,
}

impl Abandoner {
    /// Begins the task that tells the leader; it ends with the last clone.
    pub(crate) fn start(requester: &Requester) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let outstanding = Arc::new(watch::Sender::new(0));
        let task = tell(requester.clone(), waiting, Arc::clone(&outstanding));
        requester.env().spawn.spawn("abandoner", Box::pin(task));
        Self {
            queue,
            outstanding,
            writers: Arc::new(Mutex::new(locks::WRITERS, Writers::default())),
        }
    }

    /// Gives up what all writers have begun, those too that are still there: they may hang on what they read from. Waits until
    /// it is told, or until `deadline`.
    pub(crate) async fn close(&self, requester: &Requester, deadline: Monotonic) {
        let begun: Vec<_> = self.writers.lock().begun.values().cloned().collect();
        for chunks in begun {
            self.give_up(std::mem::take(&mut *chunks.lock()));
        }
        let mut outstanding = self.outstanding.subscribe();
        let none = outstanding.wait_for(|outstanding| *outstanding == 0);
        let _ = requester.clock().until(deadline, none).await;
    }

    fn give_up(&self, chunks: Chunks) {
        for mut tokens in chunks.into_values() {
            tokens.truncate(MAX_TOKENS);
            if let Ok(place) = self.queue.try_reserve() {
                self.outstanding.send_modify(|outstanding| *outstanding += 1);
                place.send(tokens);
            }
        }
    }
}

/// Tells the leader until nobody is left who could give anything up.
async fn tell(
    requester: Requester,
    mut waiting: mpsc::Receiver<Vec<Bytes>>,
    outstanding: Arc<watch::Sender<usize>>,
) {
    loop {
        let mut chunks = Vec::new();
        let count = waiting.recv_many(&mut chunks, MAX_CHUNKS).await;
        if count == 0 {
            return;
        }
        let request = AbandonRequest {
            grants: chunks.into_iter().flatten().collect(),
        };
        for attempt in 1..=ATTEMPTS {
            let told = requester.ask::<_, Empty>("abandon", Kind::Abandon, Repeat::Read, &request);
            match told.await {
                Ok(Empty {}) => {
                    Metrics::add(&requester.metrics().chunks_abandoned, count as u64);
                    break;
                }
                Err(failed) if matches!(failed.code, Code::Unavailable | Code::Busy | Code::Unknown) => {
                    if attempt < ATTEMPTS {
                        requester.clock().sleep(PAUSE).await;
                    }
                }
                // This cluster takes it from nobody, or not for these.
                Err(_) => break,
            }
        }
        outstanding.send_modify(|outstanding| *outstanding -= count);
    }
}

/// See the module. Dropped with the last part of its writer.
pub(crate) struct BegunChunks {
    abandoner: Abandoner,
    writer: u64,
    chunks: Arc<Mutex<Chunks>>,
}

impl BegunChunks {
    pub(crate) fn new(abandoner: Abandoner) -> Arc<Self> {
        let chunks = Arc::new(Mutex::new(locks::BEGUN, Chunks::new()));
        let writer = {
            let mut writers = abandoner.writers.lock();
            writers.last += 1;
            let writer = writers.last;
            writers.begun.insert(writer, Arc::clone(&chunks));
            writer
        };
        Arc::new(Self {
            abandoner,
            writer,
            chunks,
        })
    }

    /// The chunk was granted, or a replacement in it.
    pub(crate) fn granted(&self, chunk: u64, token: Bytes) {
        self.chunks.lock().entry(chunk).or_default().push(token);
    }

    /// The command with this content goes on its way now. What is not given back with [`BegunChunks::refused`] is not given up.
    #[must_use = "to be given back if the command was certainly not applied"]
    pub(crate) fn sent(&self, content: &Content) -> SentChunks {
        let mut chunks = self.chunks.lock();
        let sent = |new: &drystone_proto::command::NewChunk| chunks.remove_entry(&new.chunk);
        SentChunks(content.chunks.iter().filter_map(sent).collect())
    }

    /// The command that named these was certainly not applied, and is not repeated.
    pub(crate) fn refused(&self, sent: SentChunks) {
        self.chunks.lock().extend(sent.0);
    }
}

impl Drop for BegunChunks {
    fn drop(&mut self) {
        self.abandoner.writers.lock().begun.remove(&self.writer);
        let chunks = std::mem::take(&mut *self.chunks.lock());
        self.abandoner.give_up(chunks);
    }
}

/// Chunks that a command names which is on its way.
pub(crate) struct SentChunks(Chunks);
