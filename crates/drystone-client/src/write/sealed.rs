//! What the stretches of one writer have sealed, in the order of the stream, until one command records it.
//!
//! Sealed parts must not wait for that command longer than their grants live. [`keep`] stages them in time, also
//! while nobody calls the writer. It never publishes anything.

use super::abandon::BegunChunks;
use super::chunk::{SealedPart, Trouble};
use super::holes::Holes;
use super::options::WriteMode;
use super::parts::{WRITE, impossible, not_visible};
use super::shared::WriteContext;
use super::written::WrittenParts;
use crate::error::{Error, ErrorKind};
use crate::requester::Requester;
use crate::target::Target;
use drystone_env::Monotonic;
use drystone_proto::command::{Content, Op, Stage, StageAbandon, StageExtend};
use drystone_types::Code;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// Chunks that one command records at most.
pub(super) const MAX_CHUNKS: usize = 256;
/// Chunks after which a replacement is staged: half of what a command takes.
const STAGE_CHUNKS: usize = 128;
/// A staged file is given up by the cluster this long after its writer's last word: longer than any pause that a
/// writer survives, and it costs space only.
const STAGE_LEASE: Duration = Duration::from_secs(6 * 3600);

/// See the module.
pub(super) struct SealedParts {
    requester: Requester,
    begun: Arc<BegunChunks>,
    target: Target,
    mode: WriteMode,
    parents: bool,
    ledger: Mutex<Ledger>,
    bell: Arc<watch::Sender<()>>,
    published: AtomicBool,
}

#[derive(Default)]
struct Ledger {
    running: VecDeque<RunningStretch>,
    parts: Vec<SealedPart>,
    staged: Option<Staged>,
    /// All parts, staged or not.
    written: WrittenParts,
    holes: Holes,
    error: Option<Error>,
}

/// The unlinked inode that takes parts.
#[derive(Clone, Copy)]
pub(super) struct Staged {
    pub(super) inode: u64,
    /// Bytes of it, and how many of them are data.
    length: u64,
    data: u64,
    /// Least number of replicas among its chunks.
    pub(super) redundancy: u32,
}

struct RunningStretch {
    began: Monotonic,
    news: mpsc::UnboundedReceiver<News>,
}

enum News {
    Sealed(SealedPart),
    Over(Result<(), Trouble>),
}

/// A stretch's way to say what it has sealed. The queue holds a stretch's parts at most.
pub(super) struct Reporter {
    news: Option<mpsc::UnboundedSender<News>>,
    bell: Arc<watch::Sender<()>>,
}

impl Reporter {
    fn say(&self, news: News) {
        if let Some(queue) = &self.news {
            let _ = queue.send(news);
        }
        self.bell.send_replace(());
    }

    pub(super) fn sealed(&self, part: SealedPart) {
        self.say(News::Sealed(part));
    }

    pub(super) fn over(self, result: Result<(), Trouble>) {
        self.say(News::Over(result));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.news = None;
        self.bell.send_replace(());
    }
}

impl Ledger {
    /// Takes what the oldest stretches have sealed: what comes later in the stream waits for them.
    fn gather(&mut self, target: &Target) -> Result<(), Error> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        while let Some(oldest) = self.running.front_mut() {
            let trouble = match oldest.news.try_recv() {
                Ok(News::Sealed(part)) => {
                    self.written.add(&part);
                    self.parts.push(part);
                    continue;
                }
                Ok(News::Over(Ok(()))) => {
                    self.running.pop_front();
                    continue;
                }
                Err(mpsc::error::TryRecvError::Empty) => break,
                Ok(News::Over(Err(trouble))) => trouble,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    Trouble::new(Code::Unavailable, "the client stopped")
                }
            };
            let error = impossible(target, trouble);
            self.error = Some(error.clone());
            return Err(error);
        }
        Ok(())
    }

    /// When the first of the parts must be staged.
    fn due(&self) -> Option<Monotonic> {
        self.parts.iter().map(|part| part.stage_at).min()
    }
}

impl SealedParts {
    pub(super) fn new(context: WriteContext, target: Target, mode: WriteMode, parents: bool) -> Arc<Self> {
        Arc::new(Self {
            requester: context.requester,
            begun: context.begun,
            target,
            mode,
            parents,
            ledger: Mutex::default(),
            bell: Arc::new(watch::Sender::new(())),
            published: AtomicBool::new(false),
        })
    }

    /// The publication has linked what was staged.
    pub(super) fn published(&self) {
        self.published.store(true, Ordering::Relaxed);
    }

    /// Gives back what was staged and not published, best effort: its lease ends otherwise. If an answer was lost and it
    /// is published after all, it is no staged inode any more, and this is refused.
    async fn abandon(&self) {
        let staged = self.ledger.lock().await.staged.take();
        if let Some(staged) = staged.filter(|_| !self.published.load(Ordering::Relaxed)) {
            let op = Op::StageAbandon(StageAbandon { inode: staged.inode });
            let _ = self
                .requester
                .mutate(WRITE, None, op, self.requester.deadline())
                .await;
        }
    }

    /// A stretch begins behind those that are under way.
    pub(super) async fn begin(&self, began: Monotonic) -> Reporter {
        let (queue, news) = mpsc::unbounded_channel();
        self.ledger
            .lock()
            .await
            .running
            .push_back(RunningStretch { began, news });
        Reporter {
            news: Some(queue),
            bell: self.bell.clone(),
        }
    }

    /// What went wrong, unless somebody is busy with it.
    pub(super) fn fault(&self) -> Option<Error> {
        self.ledger.try_lock().ok()?.error.clone()
    }

    /// When the oldest stretch under way began.
    pub(super) async fn oldest(&self) -> Option<Monotonic> {
        let ledger = self.ledger.lock().await;
        ledger.running.front().map(|running| running.began)
    }

    /// Waits until at most `left` stretches are under way.
    pub(super) async fn collect(&self, left: usize) -> Result<(), Error> {
        let mut bell = self.bell.subscribe();
        loop {
            {
                // Not held while waiting: what is sealed may have to be staged meanwhile.
                let mut ledger = self.ledger.lock().await;
                ledger.gather(&self.target)?;
                if ledger.running.len() <= left {
                    return Ok(());
                }
            }
            let _ = bell.changed().await;
        }
    }

    /// Stages what must not wait any longer; when to look again.
    pub(super) async fn stage_if_due(&self) -> Result<Option<Monotonic>, Error> {
        let mut ledger = self.ledger.lock().await;
        ledger.gather(&self.target)?;
        let now = self.requester.now();
        let due = ledger.due().is_some_and(|at| at <= now) || ledger.parts.len() >= STAGE_CHUNKS;
        if self.mode != WriteMode::Replace {
            return Ok(None);
        }
        if due {
            self.stage(&mut ledger, false).await?;
        }
        Ok(ledger.due())
    }

    /// There is a hole behind `at` bytes of data.
    pub(super) async fn hole(&self, at: u64, length: u64) {
        self.ledger.lock().await.holes.add(at, length);
    }

    /// Everything is sealed: what the publication brings, or the staged file that holds it all.
    pub(super) async fn take(&self) -> Result<(Content, Option<Staged>), Error> {
        let mut ledger = self.ledger.lock().await;
        ledger.gather(&self.target)?;
        let fits = ledger.holes.batch(&ledger.parts, 0, MAX_CHUNKS) == ledger.parts.len();
        if !fits || ledger.staged.is_some() {
            self.stage(&mut ledger, true).await?;
        }
        let parts = std::mem::take(&mut ledger.parts);
        Ok((ledger.holes.content(&parts, 0, true), ledger.staged))
    }

    /// Where everything is that was sealed, once it was taken.
    pub(super) async fn written(&self) -> (WrittenParts, Holes) {
        let mut ledger = self.ledger.lock().await;
        (
            std::mem::take(&mut ledger.written),
            std::mem::take(&mut ledger.holes),
        )
    }

    /// Adds the parts that are sealed to an unlinked inode, which the publication will link. A failure is final:
    /// nobody knows which of them were added. `all`: no more will come.
    async fn stage(&self, ledger: &mut Ledger, all: bool) -> Result<(), Error> {
        let result = self.extend(ledger, all).await;
        if let Err(error) = &result {
            ledger.error = Some(error.clone());
        }
        result
    }

    async fn extend(&self, ledger: &mut Ledger, all: bool) -> Result<(), Error> {
        if self.mode != WriteMode::Replace {
            let message = format!(
                "{}: more than {MAX_CHUNKS} chunks in one append or range",
                self.target
            );
            return Err(Error::new(ErrorKind::TooLarge, WRITE, message));
        }
        let lease = STAGE_LEASE.as_micros() as u64;
        let mut staged = match ledger.staged {
            Some(staged) => staged,
            None => Staged {
                inode: self.open(lease, ledger.parts.first()).await?,
                length: 0,
                data: 0,
                redundancy: u32::MAX,
            },
        };
        ledger.staged = Some(staged);
        let mut holes_behind = all && ledger.holes.reach(staged.data);
        while !ledger.parts.is_empty() || holes_behind {
            let count = ledger.holes.batch(&ledger.parts, staged.data, STAGE_CHUNKS);
            let parts: Vec<SealedPart> = ledger.parts.drain(..count).collect();
            let is_last = all && ledger.parts.is_empty();
            holes_behind &= !is_last;
            let content = ledger.holes.content(&parts, staged.data, is_last);
            let length: u64 = content.extents.iter().map(|extent| extent.length).sum();
            let sent = self.begun.sent(&content);
            let op = Op::StageExtend(StageExtend {
                inode: staged.inode,
                offset: staged.length,
                content: Some(content),
                lease,
            });
            let outcome = self
                .requester
                .mutate(WRITE, None, op, self.requester.deadline())
                .await;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(failed) => {
                    if failed.error.kind() != ErrorKind::Unknown {
                        self.begun.refused(sent);
                    }
                    return Err(not_visible(failed, &self.target));
                }
            };
            staged.length += length;
            staged.data += parts.iter().map(|part| part.length).sum::<u64>();
            if !parts.is_empty() {
                staged.redundancy = staged.redundancy.min(outcome.redundancy);
            }
            ledger.staged = Some(staged);
        }
        Ok(())
    }

    /// A new unlinked inode for parts that follow the policy of the first one. Its target says only in which directory the caller must be allowed to write: if that is
    /// still to be made, the nearest one above it, in which the publication will make it.
    async fn open(&self, lease: u64, first: Option<&SealedPart>) -> Result<u64, Error> {
        let mut target = self.target.clone();
        loop {
            let op = Op::Stage(Stage {
                target: Some(target.message(WRITE)?),
                lease,
                policy: first.and_then(|first| first.chunk.policy),
            });
            let outcome = self
                .requester
                .mutate(WRITE, None, op, self.requester.deadline())
                .await;
            match outcome {
                Err(failed)
                    if failed.code == Code::NotFound
                        && self.parents
                        && let Some(parent) = target.parent() =>
                {
                    target = parent;
                }
                outcome => return Ok(outcome.map_err(|failed| not_visible(failed, &self.target))?.inode),
            }
        }
    }
}

/// Stages in time what is sealed until the writer is gone, and gives it back if it was not published. What fails is
/// found by the writer's next call.
pub(super) async fn keep(sealed: Arc<SealedParts>, mut gone: oneshot::Receiver<()>) {
    if !stage_in_time(&sealed, &mut gone).await {
        // It failed; the writer may go on for a while without knowing.
        let _ = gone.await;
    }
    sealed.abandon().await;
}

/// True once the writer is gone, false when staging has failed.
async fn stage_in_time(sealed: &SealedParts, gone: &mut oneshot::Receiver<()>) -> bool {
    let clock = sealed.requester.clock().clone();
    let mut bell = sealed.bell.subscribe();
    while let Ok(next) = sealed.stage_if_due().await {
        let sleep = async {
            match next {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = &mut *gone => return true,
            _ = bell.changed() => {}
            () = sleep => {}
        }
    }
    false
}
