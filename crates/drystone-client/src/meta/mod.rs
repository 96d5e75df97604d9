//! Metadata servers: who leads, calls repeated safely, commands exactly once.
//!
//! Every call is repeated until its deadline, over all known servers, with jittered backoff. A command keeps its
//! place in the session over all repetitions, so that it is applied at most once whoever led when it was sent.

mod servers;
mod session;

use crate::Idempotency;
use crate::admin::ClusterInfo;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::options::Caller;
use drystone_env::planted::{Bug, planted};
use drystone_env::{Env, Monotonic, Rng, SeededRng};
use drystone_proto::cluster::ClusterInfoRequest;
use drystone_proto::command::{CloseSession, Command, Op, OpenSession, Origin, Outcome};
use drystone_proto::meta::{MutateReply, MutateRequest};
use drystone_proto::{Kind, Message};
use drystone_rpc::{Backoff, CallError, CallOptions, Channels, NotSent, RetryBudget, Uncertain};
use drystone_types::{ClientId, Code};
use servers::Servers;
use session::{Session, Ticket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// One attempt of a call: longer than any healthy answer, short enough that a hung leader is left within 3 s.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// Attempts grow to this, so that a busy cluster is not asked ever again before it can answer.
const ATTEMPT_MOST: Duration = Duration::from_secs(10);
/// Between attempts: a failover takes about 400 ms.
const BACKOFF_BASE: Duration = Duration::from_millis(10);
const BACKOFF_CAP: Duration = Duration::from_millis(400);
/// Between attempts when the retry budget is used up.
const BROKE: Duration = Duration::from_millis(300);
/// Commands under way in one session: half of what the namespace keeps answers for.
const MAX_COMMANDS: usize = 512;
/// Times that a command may find its session forgotten.
const MAX_SESSIONS: u32 = 3;
/// What is known of the cluster is asked again after this long.
const INFO_AGE: Duration = Duration::from_secs(5);

/// The metadata servers as one process sees them.
pub(crate) struct Meta {
    env: Env,
    channels: Channels,
    servers: Mutex<Servers>,
    info: Mutex<Option<(Monotonic, Arc<ClusterInfo>)>>,
    budget: RetryBudget,
    metrics: Arc<Metrics>,
    rng: Mutex<SeededRng>,
    session: Mutex<Session>,
    opening: tokio::sync::Mutex<()>,
    commands: Semaphore,
    session_ttl: Duration,
}

/// How a call may be repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    /// It changes nothing: repeated freely; running out of time means that nothing was done.
    Read,
    /// The receiver recognises it: repeated freely, but running out of time leaves it unknown.
    Idempotent,
    /// It must not happen twice: repeated only while it certainly did not happen.
    Once,
}

/// What is being called, until when, and how it may be repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
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

/// What to do after an attempt that gave no answer.
enum Next {
    Again { retry_after_ms: u32 },
    GiveUp(Code),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meta {
    pub(crate) fn new(
        env: Env,
        channels: Channels,
        configured: &[String],
        metrics: Arc<Metrics>,
        session_ttl: Duration,
    ) -> Self {
        // Two clients of one environment must not share a session: each draws from a generator of its own.
        let mut rng = env.rng(&format!("client {}", env.number()));
        let session = Session::new(draw_client(&mut rng));
        let first = rng.next_u64();
        Self {
            env,
            channels,
            servers: Mutex::new(Servers::new(configured, first)),
            info: Mutex::default(),
            budget: RetryBudget::new(),
            metrics,
            rng: Mutex::new(rng),
            session: Mutex::new(session),
            opening: tokio::sync::Mutex::new(()),
            commands: Semaphore::new(MAX_COMMANDS),
            session_ttl,
        }
    }

    /// A generator for one call's jitter.
    fn fork_rng(&self) -> SeededRng {
        SeededRng::new(lock(&self.rng).next_u64())
    }

    /// Calls the leader, or whoever forwards to it, until there is an answer or the deadline passes. With the answer
    /// comes whether an earlier attempt may have been carried out.
    pub(crate) async fn call<Req: Message, Rep: Message + Default>(
        &self,
        call: Call,
        request: &Req,
    ) -> Result<(Rep, bool), Failed> {
        self.budget.earn();
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP, self.fork_rng());
        let mut patience = ATTEMPT;
        let mut maybe_done = false;
        loop {
            let now = self.env.clock.now();
            let target = lock(&self.servers).target();
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
            maybe_done |= matches!(error, CallError::Unknown(_)) || error.code() == Code::Unknown;
            if matches!(error, CallError::Unknown(Uncertain::Deadline)) {
                patience = (patience * 2).min(ATTEMPT_MOST);
            }
            let retry_after_ms = match self.judge(call, &target, &error, maybe_done) {
                Next::Again { retry_after_ms } => retry_after_ms,
                Next::GiveUp(code) => return Err(failed(call, code, error, maybe_done)),
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
                return Err(failed(call, code, error, maybe_done));
            }
            self.env.clock.sleep(delay).await;
        }
    }

    /// Whether another attempt can help, and at whom it goes.
    fn judge(&self, call: Call, target: &str, error: &CallError, maybe_done: bool) -> Next {
        let moved = match error {
            CallError::Refused(reply) => match error.code() {
                Code::NotLeader => lock(&self.servers).redirected(target, &reply.leader),
                Code::Unavailable | Code::Unknown | Code::Stranger => lock(&self.servers).failed(target),
                Code::Busy => false,
                // Apply refuses in its outcome. This refusal was made before it, and says nothing of an earlier
                // attempt whose answer was lost: only apply can tell.
                _ if maybe_done && call.repeat == Repeat::Idempotent => false,
                code => return Next::GiveUp(code),
            },
            CallError::NotSent(NotSent::TooLarge { .. }) => return Next::GiveUp(Code::TooLarge),
            CallError::NotSent(NotSent::Closed) => return Next::GiveUp(Code::Unavailable),
            CallError::NotSent(NotSent::QueueFull { .. }) => false,
            CallError::Unknown(Uncertain::Malformed(_)) => return Next::GiveUp(Code::Unknown),
            CallError::NotSent(_) | CallError::Unknown(_) => lock(&self.servers).failed(target),
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
        let call = Call {
            operation: "cluster info",
            kind: Kind::ClusterInfo,
            deadline,
            repeat: Repeat::Read,
        };
        let (info, _) = self.call::<_, ClusterInfo>(call, &ClusterInfoRequest {}).await?;
        lock(&self.servers).learned(&info);
        let info = Arc::new(info);
        *lock(&self.info) = Some((self.env.clock.now(), Arc::clone(&info)));
        Ok(info)
    }

    /// What is known of the cluster, at most some seconds old.
    pub(crate) async fn recent_info(&self, deadline: Monotonic) -> Result<Arc<ClusterInfo>, Error> {
        let known = lock(&self.info).clone();
        match known {
            Some((at, info)) if self.env.clock.now().since(at) < INFO_AGE => Ok(info),
            _ => self.cluster_info(deadline).await,
        }
    }

    /// Applies `op` exactly once, or says that it is unknown. The outcome's code is 0.
    pub(crate) async fn mutate(
        &self,
        operation: &'static str,
        caller: &Caller,
        key: Option<&Idempotency>,
        op: Op,
        deadline: Monotonic,
    ) -> Result<(Outcome, u64), Failed> {
        let call = Call {
            operation,
            kind: Kind::Mutate,
            deadline,
            repeat: if planted(Bug::RepeatedAnew) {
                Repeat::Once
            } else {
                Repeat::Idempotent
            },
        };
        let permit = self.env.clock.until(deadline, self.commands.acquire()).await;
        let Some(Ok(_permit)) = permit else {
            let error = Error::new(
                ErrorKind::Busy,
                operation,
                "too many commands are under way in this process",
            );
            return Err(Failed {
                code: Code::Busy,
                error,
            });
        };
        let mut request = MutateRequest {
            origin: None,
            command: Some(Command { op: Some(op) }),
        };
        let mut forgotten = 0;
        while forgotten < MAX_SESSIONS {
            self.open_session(caller, deadline).await?;
            let Some(mut begun) = self.begin() else {
                self.pause(call, deadline).await?;
                continue;
            };
            request.origin = Some(origin(begun.ticket, caller, key));
            let (reply, maybe_done) = match self.call::<_, MutateReply>(call, &request).await {
                Ok(answer) => answer,
                Err(failed)
                    if failed.code == Code::SessionUnknown && failed.error.kind() != ErrorKind::Unknown =>
                {
                    (session_unknown(), false)
                }
                Err(failed)
                    if planted(Bug::RepeatedAnew)
                        && failed.code == Code::Unknown
                        && self.env.clock.now().plus(BROKE) < deadline =>
                {
                    continue;
                }
                Err(failed) => {
                    begun.known = failed.error.kind() != ErrorKind::Unknown;
                    return Err(failed);
                }
            };
            begun.known = !maybe_done || reply.outcome.as_ref().is_some_and(|outcome| outcome.code == 0);
            let outcome = reply.outcome.unwrap_or_default();
            match Code::from_number(outcome.code) {
                None if outcome.code == 0 => return Ok((outcome, reply.index)),
                Some(Code::SessionUnknown) if !maybe_done => {
                    forgotten += 1;
                    self.renew(begun.ticket.generation);
                }
                // Nothing was done, and such an answer is not kept: once more, under a new number.
                Some(Code::Busy) if !maybe_done => {
                    drop(begun);
                    self.pause(call, deadline).await?;
                }
                code => {
                    // Such an answer is not kept: it says nothing of an earlier attempt that may still be on its way.
                    let busy = code == Some(Code::Busy);
                    let code = code.filter(|_| !busy).unwrap_or(Code::Unknown);
                    return Err(Failed {
                        code,
                        error: Error::of_code(code, operation, outcome.message),
                    });
                }
            }
        }
        let error = Error::new(
            ErrorKind::Unavailable,
            operation,
            "the session was forgotten again and again",
        );
        Err(Failed {
            code: Code::Unavailable,
            error,
        })
    }

    fn begin(&self) -> Option<Begun<'_>> {
        let ticket = lock(&self.session).begin()?;
        Some(Begun {
            meta: self,
            ticket,
            known: false,
        })
    }

    /// The cluster has forgotten the session of `generation`.
    fn renew(&self, generation: u64) {
        let fresh = draw_client(&mut lock(&self.rng));
        lock(&self.session).forgotten(generation, fresh);
    }

    /// Waits a little for room in the session.
    async fn pause(&self, call: Call, deadline: Monotonic) -> Result<(), Failed> {
        if self.env.clock.now().plus(BACKOFF_BASE) >= deadline {
            let error = Error::new(
                ErrorKind::Busy,
                call.operation,
                "too many answers are outstanding",
            );
            return Err(Failed {
                code: Code::Busy,
                error,
            });
        }
        self.env.clock.sleep(BACKOFF_BASE).await;
        Ok(())
    }

    /// Closes the session, if it was opened and everything that was sent in it has ended for certain. Best effort.
    pub(crate) async fn close(&self, caller: &Caller, deadline: Monotonic) {
        let fresh = draw_client(&mut lock(&self.rng));
        let Some(ticket) = lock(&self.session).close(fresh) else {
            return;
        };
        let call = Call {
            operation: "close session",
            kind: Kind::Mutate,
            deadline,
            repeat: Repeat::Idempotent,
        };
        let request = MutateRequest {
            origin: Some(origin(ticket, caller, None)),
            command: Some(Command {
                op: Some(Op::CloseSession(CloseSession {})),
            }),
        };
        // If it fails, the session ends by itself after its time.
        let _ = self.call::<_, MutateReply>(call, &request).await;
    }

    /// Makes sure that the cluster knows our session.
    async fn open_session(&self, caller: &Caller, deadline: Monotonic) -> Result<(), Failed> {
        if lock(&self.session).to_open().is_none() {
            return Ok(());
        }
        let _one = self.opening.lock().await;
        let Some((client, generation)) = lock(&self.session).to_open() else {
            return Ok(());
        };
        let call = Call {
            operation: "open session",
            kind: Kind::Mutate,
            deadline,
            repeat: Repeat::Idempotent,
        };
        let ticket = Ticket {
            client,
            generation,
            sequence: 0,
            acknowledged_below: 0,
        };
        let op = Op::OpenSession(OpenSession {
            ttl: self.session_ttl.as_micros() as u64,
        });
        let request = MutateRequest {
            origin: Some(origin(ticket, caller, None)),
            command: Some(Command { op: Some(op) }),
        };
        let result = self.call::<_, MutateReply>(call, &request).await;
        // Whether it was opened or not: the caller's own command was certainly not sent.
        let unavailable = |failed: Failed| match failed.error.kind() {
            ErrorKind::Unknown => Failed {
                code: Code::Unavailable,
                error: Error::new(ErrorKind::Unavailable, call.operation, failed.error.context()),
            },
            _ => failed,
        };
        let (reply, _) = result.map_err(unavailable)?;
        let outcome = reply.outcome.unwrap_or_default();
        if outcome.code == Code::SessionUnknown.number() {
            // The id is used up: the command will find the session unknown too, and go on under another.
            self.renew(generation);
            return Ok(());
        }
        if outcome.code != 0 {
            let code = Code::from_number(outcome.code).unwrap_or(Code::Unavailable);
            return Err(Failed {
                code,
                error: Error::of_code(code, call.operation, outcome.message),
            });
        }
        Metrics::add(&self.metrics.sessions, 1);
        lock(&self.session).opened(generation);
        Ok(())
    }
}

/// Ends the command's place in the session, also when the caller goes away.
struct Begun<'a> {
    meta: &'a Meta,
    ticket: Ticket,
    /// Nothing of it can be on its way any more.
    known: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        lock(&self.meta.session).end(self.ticket, self.known);
    }
}

fn session_unknown() -> MutateReply {
    let outcome = Outcome {
        code: Code::SessionUnknown.number(),
        ..Outcome::default()
    };
    MutateReply {
        outcome: Some(outcome),
        ..MutateReply::default()
    }
}

fn draw_client(rng: &mut SeededRng) -> ClientId {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    ClientId(bytes)
}

fn origin(ticket: Ticket, caller: &Caller, key: Option<&Idempotency>) -> Origin {
    Origin {
        client: bytes::Bytes::copy_from_slice(&ticket.client.0),
        sequence: ticket.sequence,
        acknowledged_below: ticket.acknowledged_below,
        user: caller.user.clone(),
        groups: caller.groups.clone(),
        key: key.map(|key| key.key.clone()).unwrap_or_default(),
        key_hash: key
            .map(|key| bytes::Bytes::copy_from_slice(&key.hash))
            .unwrap_or_default(),
    }
}

/// The error of a call: what may have happened is unknown, unless it was only a question.
fn failed(call: Call, code: Code, error: CallError, maybe_done: bool) -> Failed {
    let (message, wait) = match error.reply() {
        Some(reply) => (reply.message.clone(), u64::from(reply.retry_after_ms)),
        None => (error.to_string(), 0),
    };
    let code = match call.repeat {
        Repeat::Read if code == Code::Unknown => Code::Unavailable,
        _ if maybe_done && planted(Bug::UnknownAsUnavailable) => Code::Unavailable,
        // A refusal of the last attempt says nothing of an earlier one whose answer was lost.
        Repeat::Idempotent | Repeat::Once if maybe_done => Code::Unknown,
        _ => code,
    };
    let kind = match code {
        Code::SessionUnknown if !maybe_done => ErrorKind::Unavailable,
        code => ErrorKind::from_code(code),
    };
    Failed {
        code,
        error: Error::new(kind, call.operation, message)
            .retry_after(wait)
            .because(error),
    }
}
