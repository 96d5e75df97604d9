//! Calls of metadata servers, repeated until their deadline over all known servers.

use super::servers::MetaServers;
use super::session::CommandSession;
use crate::error::{Error, ErrorKind};
use crate::locks;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::waits::{Tried, Wait, Waiting, Waits, outcome};
use drystone_env::planted::{Bug, planted};
use drystone_env::sync::Mutex;
use drystone_env::{Env, Monotonic, Rng, SeededRng};
use drystone_proto::cluster::{ClusterInfo, ClusterInfoRequest};
use drystone_proto::{Kind, Message};
use drystone_rpc::{Backoff, CallError, CallOptions, Channels, NotSent, RetryBudget, Uncertain};
use drystone_types::{ClientId, Code};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;

/// One attempt of a call: longer than any healthy answer, short enough that a hung leader is left within 3 s.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// Attempts grow to this, so that a busy cluster is not asked ever again before it can answer.
const ATTEMPT_MOST: Duration = Duration::from_secs(10);
/// Between attempts: a failover takes about 400 ms.
pub(super) const BACKOFF_BASE: Duration = Duration::from_millis(10);
const BACKOFF_CAP: Duration = Duration::from_millis(400);
/// Between attempts when the retry budget is used up.
pub(super) const BROKE: Duration = Duration::from_millis(300);
/// Commands under way in one session: half of what the namespace keeps answers for.
const MAX_COMMANDS: usize = 512;
/// What is known of the cluster is asked again after this long.
const INFO_AGE: Duration = Duration::from_secs(5);

/// The metadata servers as one process sees them.
pub(crate) struct Meta {
    pub(super) env: Env,
    channels: Channels,
    servers: Mutex<MetaServers>,
    info: Mutex<Option<(Monotonic, Arc<ClusterInfo>)>>,
    budget: RetryBudget,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rng: Mutex<SeededRng>,
    pub(super) session: Mutex<CommandSession>,
    pub(super) opening: tokio::sync::Mutex<()>,
    pub(super) commands: Semaphore,
    pub(super) session_ttl: Duration,
    waits: Waits,
    /// Highest log index that any metadata server said was applied.
    seen: AtomicU64,
}

/// How a call may be repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    /// It changes nothing: repeated freely; running out of time means that nothing was done.
    Read,
    /// The receiver recognises it: repeated freely, but running out of time leaves it unknown.
    Idempotent,
    /// The same of inline content, if its sender can put it into a chunk. That the leader takes no inline content ends the
    /// call even if an earlier attempt may have been carried out: the code says so, the kind that it is unknown.
    Inline,
    /// It must not happen twice: repeated only while it certainly did not happen.
    Once,
}

/// What is being called, until when, and how it may be repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetaCall {
    pub(crate) operation: &'static str,
    pub(crate) kind: Kind,
    pub(crate) deadline: Monotonic,
    pub(crate) repeat: Repeat,
}

/// A failed call: the code from the wire tells more than the public kind.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) code: Code,
    pub(crate) error: Error,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Error {
        failed.error
    }
}

/// What was found before anything was sent.
impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed {
            code: error.code(),
            error,
        }
    }
}

/// What to do after an attempt that gave no answer.
enum Next {
    Again { retry_after_ms: u32 },
    GiveUp(Code),
}

impl Meta {
    pub(crate) fn new(env: Env, channels: Channels, metrics: Arc<Metrics>, options: &Options) -> Self {
        // Two clients of one environment must not share a session: each draws from a generator of its own.
        let mut rng = env.rng(&format!("client {}", env.number()));
        let session = CommandSession::new(draw_client(&mut rng));
        let first = rng.next_u64();
        Self {
            env,
            channels,
            servers: Mutex::new(locks::SERVERS, MetaServers::new(&options.metadata, first)),
            info: Mutex::new(locks::CLUSTER_INFO, None),
            budget: RetryBudget::new(),
            metrics,
            rng: Mutex::new(locks::RANDOM, rng),
            session: Mutex::new(locks::SESSION, session),
            opening: tokio::sync::Mutex::new(()),
            commands: Semaphore::new(MAX_COMMANDS),
            session_ttl: options.session_ttl,
            waits: options.waits.clone(),
            seen: AtomicU64::new(0),
        }
    }

    /// This log index is applied.
    pub(super) fn see(&self, index: u64) {
        self.seen.fetch_max(index, Relaxed);
    }

    /// The highest log index of which this process knows that it is applied.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Relaxed)
    }

    /// A generator for one call's jitter.
    fn fork_rng(&self) -> SeededRng {
        SeededRng::new(self.rng.lock().next_u64())
    }

    /// Calls the leader, or whoever forwards to it, until there is an answer or the deadline passes. With the answer
    /// comes whether an earlier attempt may have been carried out.
    pub(crate) async fn call<Req: Message, Rep: Message + Default>(
        &self,
        call: MetaCall,
        request: &Req,
    ) -> Result<(Rep, bool), Failed> {
        self.call_after(call, request, false).await
    }

    /// The same; `maybe_done`: it may have been carried out already.
    pub(super) async fn call_after<Req: Message, Rep: Message + Default>(
        &self,
        call: MetaCall,
        request: &Req,
        mut maybe_done: bool,
    ) -> Result<(Rep, bool), Failed> {
        self.budget.earn();
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP, self.fork_rng());
        let mut patience = ATTEMPT;
        let mut wait = LeaderWait::new(self.env.clock.now());
        loop {
            let now = self.env.clock.now();
            let target = self.servers.lock().target();
            // What any server answers at once leaves time to ask another.
            let patience_here = match call.kind {
                Kind::ClusterInfo => patience.min(call.deadline.since(now) / 2),
                _ => patience,
            };
            let until = now.plus(patience_here).min(call.deadline);
            let channel = self.channels.to(&target);
            let result = channel
                .call::<Req, Rep>(call.kind, request, None, CallOptions::until(until))
                .await;
            let error = match result {
                Ok(answer) => return Ok((answer.body, maybe_done)),
                Err(error) => error,
            };
            wait.failed(self, call, &target, &error);
            maybe_done |= matches!(error, CallError::Unknown(_)) || error.code() == Code::Unknown;
            if matches!(error, CallError::Unknown(Uncertain::Deadline)) {
                patience = (patience * 2).min(ATTEMPT_MOST);
            }
            let retry_after_ms = match self.judge(call, &target, &error, maybe_done) {
                Next::Again { retry_after_ms } => retry_after_ms,
                Next::GiveUp(code) => return Err(failed(call, code, error, maybe_done, None)),
            };
            Metrics::add(&self.metrics.retries, 1);
            let mut delay = backoff.next_after(retry_after_ms);
            if !self.budget.spend() {
                delay = delay.max(BROKE);
            }
            if self.env.clock.now().plus(delay) >= call.deadline {
                let code = if maybe_done {
                    Code::Unknown
                } else {
                    Code::Unavailable
                };
                let code = if error.code() == Code::Busy && !maybe_done {
                    Code::Busy
                } else {
                    code
                };
                let message = wait.over(call, &error);
                return Err(failed(call, code, error, maybe_done, Some(message)));
            }
            self.env.clock.sleep(delay).await;
        }
    }

    /// Whether another attempt can help, and at whom it goes.
    fn judge(&self, call: MetaCall, target: &str, error: &CallError, maybe_done: bool) -> Next {
        let moved = match error {
            CallError::Refused(reply) => match error.code() {
                Code::NotLeader => self.servers.lock().redirected(target, &reply.leader),
                Code::Unavailable | Code::Unknown | Code::Stranger => self.servers.lock().failed(target),
                Code::Busy => false,
                // Apply refuses in its outcome. This refusal was made before it, and says nothing of an earlier
                // attempt whose answer was lost: only apply can tell.
                Code::InlineRefused if call.repeat == Repeat::Inline => {
                    return Next::GiveUp(Code::InlineRefused);
                }
                _ if maybe_done && matches!(call.repeat, Repeat::Idempotent | Repeat::Inline) => false,
                code => return Next::GiveUp(code),
            },
            CallError::NotSent(NotSent::TooLarge { .. }) => return Next::GiveUp(Code::TooLarge),
            CallError::NotSent(NotSent::Closed) => return Next::GiveUp(Code::Unavailable),
            CallError::NotSent(NotSent::QueueFull { .. }) => false,
            CallError::Unknown(Uncertain::Malformed(_)) => return Next::GiveUp(Code::Unknown),
            CallError::NotSent(_) | CallError::Unknown(_) => self.servers.lock().failed(target),
        };
        if moved {
            Metrics::add(&self.metrics.failovers, 1);
        }
        if maybe_done && call.repeat == Repeat::Once {
            return Next::GiveUp(Code::Unknown);
        }
        Next::Again {
            retry_after_ms: error.reply().map_or(0, |reply| reply.retry_after_ms),
        }
    }

    /// What is known of the cluster, asked now.
    pub(crate) async fn cluster_info(&self, deadline: Monotonic) -> Result<Arc<ClusterInfo>, Error> {
        let call = MetaCall {
            operation: "cluster info",
            kind: Kind::ClusterInfo,
            deadline,
            repeat: Repeat::Read,
        };
        let (info, _) = self.call::<_, ClusterInfo>(call, &ClusterInfoRequest {}).await?;
        self.servers.lock().learned(&info);
        self.see(info.applied);
        let info = Arc::new(info);
        *self.info.lock() = Some((self.env.clock.now(), Arc::clone(&info)));
        Ok(info)
    }

    /// What is known of the cluster, at most some seconds old.
    pub(crate) async fn recent_info(&self, deadline: Monotonic) -> Result<Arc<ClusterInfo>, Error> {
        let known = self.info.lock().clone();
        match known {
            Some((at, info)) if self.env.clock.now().since(at) < INFO_AGE => Ok(info),
            _ => self.cluster_info(deadline).await,
        }
    }
}

/// A call that has not been answered yet, for those who wait and for the error in the end.
struct LeaderWait {
    began: Monotonic,
    tried: Tried,
    waiting: Option<Waiting>,
}

impl LeaderWait {
    fn new(began: Monotonic) -> Self {
        Self {
            began,
            tried: Tried::default(),
            waiting: None,
        }
    }

    /// `target` gave no answer.
    fn failed(&mut self, meta: &Meta, call: MetaCall, target: &str, error: &CallError) {
        self.tried.note(target, outcome(error));
        match &self.waiting {
            Some(waiting) => waiting.tried(&self.tried),
            None => {
                self.waiting = Some(meta.waits.begin(Wait {
                    what: "a metadata leader",
                    began: self.began,
                    until: call.deadline,
                    tried: self.tried.clone(),
                }));
            }
        }
    }

    /// It is given up after `last`: nobody answered, or somebody did and refused.
    fn over(self, call: MetaCall, last: &CallError) -> String {
        let seconds = call.deadline.since(self.began).as_secs_f64().round();
        let is_refused = matches!(last, CallError::Refused(_))
            && !matches!(last.code(), Code::NotLeader | Code::Unavailable);
        match is_refused {
            true => format!("given up after {seconds} s: {}", self.tried),
            false => format!("no metadata leader answered in {seconds} s: {}", self.tried),
        }
    }
}

/// The error of a call: what may have happened is unknown, unless it was only a question.
fn failed(call: MetaCall, code: Code, error: CallError, maybe_done: bool, message: Option<String>) -> Failed {
    let (said, wait) = match error.reply() {
        Some(reply) => (reply.message.clone(), u64::from(reply.retry_after_ms)),
        None => (error.to_string(), 0),
    };
    let message = message.unwrap_or(said);
    let refused = code;
    let code = match call.repeat {
        Repeat::Read if code == Code::Unknown => Code::Unavailable,
        _ if maybe_done && planted(Bug::UnknownAsUnavailable) => Code::Unavailable,
        // A refusal of the last attempt says nothing of an earlier one whose answer was lost.
        Repeat::Idempotent | Repeat::Inline | Repeat::Once if maybe_done => Code::Unknown,
        _ => code,
    };
    let kind = match code {
        Code::SessionUnknown if !maybe_done => ErrorKind::Unavailable,
        code => ErrorKind::from_code(code),
    };
    let code = match call.repeat {
        Repeat::Inline if refused == Code::InlineRefused => refused,
        _ => code,
    };
    Failed {
        code,
        error: Error::new(kind, call.operation, message)
            .retry_after(wait)
            .because(error),
    }
}

/// A new client id.
pub(super) fn draw_client(rng: &mut SeededRng) -> ClientId {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    ClientId(bytes)
}
