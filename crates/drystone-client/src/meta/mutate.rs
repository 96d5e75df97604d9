//! Commands: each is applied exactly once, or it is said that nobody knows.

use super::calls::{BACKOFF_BASE, BROKE, Failed, Meta, MetaCall, Repeat, draw_client};
use super::session::Ticket;
use crate::attributes::Idempotency;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::options::Caller;
use drystone_env::Monotonic;
use drystone_env::planted::{Bug, planted};
use drystone_proto::Kind;
use drystone_proto::command::{CloseSession, Op, OpenSession, Origin, Outcome};
use drystone_proto::envelope::encode;
use drystone_proto::meta::{MutateReply, MutateRequest};
use drystone_types::Code;
use futures_util::future::BoxFuture;

/// A command to send in the place of another, made when it is needed.
pub(crate) type Alternative<'a> = BoxFuture<'a, Result<Op, Failed>>;

/// Times that a command may find its session forgotten.
const MAX_SESSIONS: u32 = 3;

impl Meta {
    /// Applies `op` exactly once, or says that it is unknown. The answer has an outcome, and its code is 0. If `op` has
    /// inline content, `other` is the same content in a chunk, which is written when it is needed ([`Self::settle`]).
    pub(crate) async fn mutate(
        &self,
        operation: &'static str,
        caller: &Caller,
        key: Option<&Idempotency>,
        op: Op,
        mut other: Option<Alternative<'_>>,
        deadline: Monotonic,
    ) -> Result<MutateReply, Failed> {
        let call = MetaCall {
            operation,
            kind: Kind::Mutate,
            deadline,
            repeat: match other {
                _ if planted(Bug::RepeatedAnew) => Repeat::Once,
                Some(_) => Repeat::Inline,
                None => Repeat::Idempotent,
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
            command: encode(&op),
        };
        let mut forgotten = 0;
        while forgotten < MAX_SESSIONS {
            self.open_session(caller, deadline).await?;
            let Some(mut begun) = self.begin() else {
                self.pause(call, deadline, "too many answers are outstanding")
                    .await?;
                continue;
            };
            request.origin = Some(origin(&begun.ticket, caller, key));
            let mut answer = self.call::<_, MutateReply>(call, &request).await;
            if let Err(failed) = &answer
                && (failed.code, failed.error.kind()) == (Code::InlineRefused, ErrorKind::Unknown)
                && let Some(other) = other.take()
            {
                answer = self.settle(call, &mut request, other).await;
            }
            let (reply, maybe_done) = match answer {
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
            let outcome = reply.outcome.clone().unwrap_or_default();
            match Code::from_number(outcome.code) {
                None if outcome.code == 0 => {
                    self.see(reply.index);
                    return Ok(MutateReply {
                        outcome: Some(outcome),
                        ..reply
                    });
                }
                Some(Code::SessionUnknown) if !maybe_done => {
                    forgotten += 1;
                    self.renew(begun.ticket.generation);
                }
                // Nothing was done, and such an answer is not kept: once more, under a new number.
                Some(Code::Busy) if !maybe_done => {
                    drop(begun);
                    self.pause(call, deadline, &outcome.message).await?;
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

    /// Inline content was on its way when its leader died, and the next leader takes none, so that nobody may know
    /// whether it was applied: the same content in a chunk goes under the same number of the session. Whichever is applied
    /// first gives the answer to both. If it was the inline content, it is held by too few voters, as far as is known.
    async fn settle(
        &self,
        call: MetaCall,
        request: &mut MutateRequest,
        other: Alternative<'_>,
    ) -> Result<(MutateReply, bool), Failed> {
        let op = other.await.map_err(|failed| Failed {
            code: Code::Unknown,
            error: Error::new(ErrorKind::Unknown, call.operation, "its answer was lost")
                .because(failed.error),
        })?;
        request.command = encode(&op);
        let call = MetaCall {
            repeat: Repeat::Idempotent,
            ..call
        };
        let (mut reply, maybe_done) = self.call_after::<_, MutateReply>(call, request, true).await?;
        reply.short = reply
            .outcome
            .as_ref()
            .is_some_and(|outcome| outcome.code == 0 && outcome.redundancy == 0);
        Ok((reply, maybe_done))
    }

    fn begin(&self) -> Option<Begun<'_>> {
        let ticket = self.session.lock().begin()?;
        Some(Begun {
            meta: self,
            ticket,
            known: false,
        })
    }

    /// The cluster has forgotten the session of `generation`.
    fn renew(&self, generation: u64) {
        let fresh = draw_client(&mut self.rng.lock());
        self.session.lock().forgotten(generation, fresh);
    }

    /// Waits a little because of `why`.
    async fn pause(&self, call: MetaCall, deadline: Monotonic, why: &str) -> Result<(), Failed> {
        if self.env.clock.now().plus(BACKOFF_BASE) >= deadline {
            let error = Error::new(ErrorKind::Busy, call.operation, why);
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
        let fresh = draw_client(&mut self.rng.lock());
        let Some(ticket) = self.session.lock().close(fresh) else {
            return;
        };
        let call = MetaCall {
            operation: "close session",
            kind: Kind::Mutate,
            deadline,
            repeat: Repeat::Idempotent,
        };
        let request = MutateRequest {
            origin: Some(origin(&ticket, caller, None)),
            command: encode(&Op::CloseSession(CloseSession {})),
        };
        // If it fails, the session ends by itself after its time.
        let _ = self.call::<_, MutateReply>(call, &request).await;
    }

    /// Makes sure that the cluster knows our session.
    async fn open_session(&self, caller: &Caller, deadline: Monotonic) -> Result<(), Failed> {
        if self.session.lock().to_open().is_none() {
            return Ok(());
        }
        let _one = self.opening.lock().await;
        let Some((client, generation)) = self.session.lock().to_open() else {
            return Ok(());
        };
        let call = MetaCall {
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
            outstanding: Vec::new(),
        };
        let op = Op::OpenSession(OpenSession {
            ttl: self.session_ttl.as_micros() as u64,
            seen: self.seen(),
        });
        let request = MutateRequest {
            origin: Some(origin(&ticket, caller, None)),
            command: encode(&op),
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
        // Of a refusal too: the next id is drawn after it.
        self.see(reply.index);
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
        self.session.lock().opened(generation);
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
        self.meta.session.lock().end(&self.ticket, self.known);
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

fn origin(ticket: &Ticket, caller: &Caller, key: Option<&Idempotency>) -> Origin {
    Origin {
        client: bytes::Bytes::copy_from_slice(&ticket.client.0),
        sequence: ticket.sequence,
        acknowledged_below: ticket.acknowledged_below,
        outstanding: ticket.outstanding.clone(),
        user: caller.user.clone(),
        groups: caller.groups.clone(),
        key: key.map(|key| key.key.clone()).unwrap_or_default(),
        key_hash: key
            .map(|key| bytes::Bytes::copy_from_slice(&key.hash))
            .unwrap_or_default(),
    }
}
