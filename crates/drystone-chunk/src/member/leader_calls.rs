//! Calls to the metadata leader, wherever it is.
//!
//! Any metadata server is asked; one that is not the leader names it. Addresses are asked in turn when one fails.

use drystone_env::{Clock, Rng};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::{Kind, Message, Priority};
use drystone_rpc::{CallError, CallOptions, Channels, refusal};
use drystone_types::Code;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// So many refusals of connections are a verdict: one may come from a process that is being replaced.
const STRANGERS: usize = 3;

/// Why a call to the leader brought nothing.
pub(crate) enum Failure {
    /// Nobody at this address took it: the next call goes elsewhere.
    Again(String, CallError),
    /// The cluster's verdict, in its words.
    Stranger(ErrorReply),
}

/// See the module.
pub(crate) struct LeaderCalls {
    clock: Arc<dyn Clock>,
    channels: Channels,
    timeout: Duration,
    addresses: Vec<String>,
    at: usize,
    /// Where the last refusal said that the leader is; asked for as long as it answers.
    hint: Option<String>,
    /// Connections refused as a stranger's since this server was known to somebody, and by which addresses.
    strangers: usize,
    strange: BTreeSet<String>,
}

impl LeaderCalls {
    /// Begins with one of `addresses`, drawn with `rng`.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        channels: Channels,
        addresses: Vec<String>,
        timeout: Duration,
        rng: &mut dyn Rng,
    ) -> Self {
        let at = rng.below(addresses.len().max(1) as u64) as usize;
        Self {
            clock,
            channels,
            timeout,
            addresses,
            at,
            hint: None,
            strangers: 0,
            strange: BTreeSet::new(),
        }
    }

    /// Somebody knows this server.
    fn accepted(&mut self) {
        self.strangers = 0;
        self.strange.clear();
    }

    /// The next call goes to `address` first.
    pub(crate) fn try_next(&mut self, address: String) {
        self.hint = Some(address).filter(|address| !address.is_empty());
    }

    /// Calls whoever is taken for the leader.
    pub(crate) async fn call<Req: Message, Rep: Message + Default>(
        &mut self,
        kind: Kind,
        request: &Req,
    ) -> Result<Rep, Failure> {
        let hint = self.hint.take();
        let address = hint
            .clone()
            .unwrap_or_else(|| self.addresses[self.at % self.addresses.len()].clone());
        let deadline = self.clock.now().plus(self.timeout);
        let options = CallOptions::until(deadline).priority(Priority::Control);
        let error = match self
            .channels
            .to(&address)
            .call::<Req, Rep>(kind, request, None, options)
            .await
        {
            Ok(answer) => {
                self.accepted();
                self.hint = hint;
                return Ok(answer.body);
            }
            Err(error) => error,
        };
        let code = error.code();
        if code == Code::Stranger {
            // One address that leads elsewhere is a mistake in a list; most of them are a verdict. Those that do not
            // answer say nothing.
            self.strangers += 1;
            self.strange.insert(address.clone());
            let is_most = 2 * self.strange.len() > self.addresses.len();
            let is_verdict =
                matches!(error, CallError::Refused(_)) || (is_most && self.strangers >= STRANGERS);
            if is_verdict {
                let reply = error.reply().cloned();
                return Err(Failure::Stranger(
                    reply.unwrap_or_else(|| refusal(code, error.to_string())),
                ));
            }
        } else if matches!(error, CallError::Refused(_)) {
            self.accepted();
        }
        if let CallError::Refused(reply) = &error
            && code == Code::NotLeader
            && !reply.leader.is_empty()
            && reply.leader != address
        {
            self.hint = Some(reply.leader.clone());
        } else {
            self.at = (self.at + 1) % self.addresses.len();
        }
        Err(Failure::Again(address, error))
    }
}
