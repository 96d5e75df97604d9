//! One stretch of a stream on its way into a chunk: a synchronous state machine.
//!
//! A stretch becomes one sealed chunk if nothing fails, and several if replicas fail after bytes were released.
//! Inputs and time go in, outputs come out; no I/O, no clock, no randomness here.
//!
//! ```text
//! Idle -> Granting -> Writing -> (all receipts) -> sealed part -> Idle / Granting / done
//!                        | trouble
//!                        v
//!                     Probing (each member is asked before one is blamed)
//!                        | everything still buffered      | bytes were released
//!                        v                                v
//!                     Waiting -> Granting              Finishing at the survivors' shortest length
//!                     (rewrite elsewhere)                 -> Replacing -> Copying -> sealed part -> the rest
//! ```
//! `step` numbers the phases: answers that belong to an earlier phase are ignored.

use super::buffer::{Buffer, Frame};
use drystone_env::Monotonic;
use drystone_proto::command::{NewChunk, Receipt};
use drystone_proto::data::{AppendReply, ChunkStatus, ReplicaState};
use drystone_proto::record::{PolicyRecord, ReplicaRecord};
use drystone_types::Code;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Chunks that are begun for one stretch before it is given up: more than any cluster has failing at once.
const MAX_GRANTS: u32 = 16;
/// Replacements that are tried for one sealed part before its redundancy is taken as it is.
const MAX_REPLACEMENTS: u32 = 3;
/// Without new bytes for this long what was sent is made durable, so that a stalled source holds no budget.
const IDLE_FLUSH: Duration = Duration::from_millis(200);
/// Between attempts; doubled up to 1 s.
const RETRY_BASE: Duration = Duration::from_millis(20);

/// A member of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    pub(crate) replica: ReplicaRecord,
    pub(crate) node: u64,
    pub(crate) address: String,
}

/// A chunk to write to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub(crate) chunk: u64,
    pub(crate) token: bytes::Bytes,
    pub(crate) epoch: u64,
    pub(crate) capacity: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) policy: PolicyRecord,
}

/// Why a request failed, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trouble {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// A second `final`: the first one's receipt.
    pub(crate) receipt: Option<Box<Receipt>>,
}

impl Trouble {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            receipt: None,
        }
    }
}

/// What happens to a stretch.
#[derive(Debug)]
pub(crate) enum Input {
    /// More bytes.
    Frame(Frame),
    /// Make what there is durable: the budget is used up.
    Flush,
    /// No more bytes will come.
    End,
    Granted {
        step: u64,
        result: Result<Grant, Trouble>,
    },
    Appended {
        step: u64,
        position: u64,
        result: Result<AppendReply, Trouble>,
    },
    Status {
        probe: u64,
        member: usize,
        result: Result<ChunkStatus, Trouble>,
    },
    Finished {
        step: u64,
        member: usize,
        result: Result<Receipt, Trouble>,
    },
    Replacement {
        step: u64,
        result: Result<Grant, Trouble>,
    },
    Copied {
        step: u64,
        result: Result<Receipt, Trouble>,
    },
    Tick,
}

/// Bytes for the first member of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(crate) grant: Grant,
    /// Those of the grant's members that take part, in order.
    pub(crate) chain: Vec<usize>,
    /// In the chunk.
    pub(crate) offset: u64,
    pub(crate) frame: Frame,
    pub(crate) sync: bool,
    /// CRC32C of the whole chunk: it ends here.
    pub(crate) last: Option<u32>,
}

/// What is to be done. Each request is answered by the input of its name with its `step`.
#[derive(Debug)]
pub(crate) enum Output {
    /// Requests that are under way have lost their meaning.
    Cancel,
    Grant {
        step: u64,
        avoid: Vec<u64>,
        fresh: bool,
    },
    Append {
        step: u64,
        position: u64,
        send: Box<Send>,
    },
    Status {
        probe: u64,
        member: usize,
        chunk: u64,
        to: Member,
    },
    Finish {
        step: u64,
        member: usize,
        grant: Grant,
        length: u64,
        to: Member,
    },
    Replace {
        step: u64,
        grant: Grant,
        have: Vec<ReplicaRecord>,
        avoid: Vec<u64>,
    },
    Copy {
        step: u64,
        grant: Grant,
        replacement: Grant,
        length: u64,
        from: Member,
        to: Member,
    },
    /// So many bytes are no longer held.
    Release(u64),
    /// This node failed us.
    Blamed(u64),
    Note(Note),
    Wake(Monotonic),
    /// Everything is sealed, in order.
    Done(Vec<Part>),
    Failed(Trouble),
}

/// For the counters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Note {
    Rewritten,
    CutShort,
    Replaced,
}

/// A sealed chunk of the stretch.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Part {
    pub(crate) length: u64,
    pub(crate) chunk: NewChunk,
}

/// What does not change during a stretch.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Frames in flight.
    pub(crate) window: usize,
    /// Durable progress is asked for after this many bytes.
    pub(crate) sync_every: u64,
    /// Trouble that lasts longer than this ends the write.
    pub(crate) patience: Duration,
}

struct Writing {
    grant: Grant,
    chain: Vec<usize>,
    sent_to: u64,
    unsynced: u64,
    in_flight: VecDeque<InFlight>,
    last_sent: bool,
    progress: Monotonic,
    // Sum of what members said to hold at the last probe.
    probed: u64,
}

struct InFlight {
    position: u64,
    end: u64,
    sync: bool,
}

struct Probing {
    writing: Writing,
    slow: bool,
    answers: BTreeMap<usize, Option<ChunkStatus>>,
}

struct Finishing {
    grant: Grant,
    waiting: BTreeSet<usize>,
    receipts: BTreeMap<usize, Receipt>,
}

/// A sealed part whose redundancy is being completed.
struct Settling {
    grant: Grant,
    length: u64,
    receipts: Vec<(Member, Receipt)>,
    tried: u32,
    replacement: Option<(Grant, Member)>,
}

enum Phase {
    Idle,
    Granting,
    Waiting(Monotonic),
    Writing(Writing),
    Probing(Probing),
    Finishing(Finishing),
    Settling(Settling),
    Over,
}

/// See the module.
pub(crate) struct ChunkWrite {
    limits: Limits,
    policy: PolicyRecord,
    slow: Duration,
    buffer: Buffer,
    ended: bool,
    flush: bool,
    newest_at: Monotonic,
    phase: Phase,
    step: u64,
    probe: u64,
    grants: u32,
    fresh: bool,
    avoid: BTreeSet<u64>,
    trouble_since: Option<Monotonic>,
    last_trouble: Trouble,
    parts: Vec<Part>,
}

impl ChunkWrite {
    /// A stretch under `policy`; nodes in `avoid` failed us lately.
    pub(crate) fn new(limits: Limits, policy: PolicyRecord, avoid: impl IntoIterator<Item = u64>) -> Self {
        Self {
            limits,
            policy,
            slow: Duration::from_secs(1),
            buffer: Buffer::default(),
            ended: false,
            flush: false,
            newest_at: Monotonic(0),
            phase: Phase::Idle,
            step: 0,
            probe: 0,
            grants: 0,
            fresh: false,
            avoid: avoid.into_iter().collect(),
            trouble_since: None,
            last_trouble: Trouble::new(Code::Unavailable, "nothing was tried"),
            parts: Vec::new(),
        }
    }

    /// A member that makes no progress for this long is slow.
    pub(crate) fn set_slow(&mut self, slow: Duration) {
        self.slow = slow;
    }

    /// True once `Done` or `Failed` has been said.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Takes an input; what is to be done is appended to `out`.
    pub(crate) fn on(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        match input {
            Input::Frame(frame) => {
                assert!(!self.ended, "no bytes after the end");
                self.buffer.push(frame);
                self.newest_at = now;
                self.flush = false;
            }
            Input::Flush => self.flush = true,
            Input::End => self.ended = true,
            Input::Granted { step, result } if step == self.step => self.on_granted(now, result, out),
            Input::Appended {
                step,
                position,
                result,
            } if step == self.step => {
                self.on_appended(now, position, result, out);
            }
            Input::Status {
                probe,
                member,
                result,
            } if probe == self.probe => {
                self.on_status(now, member, result, out);
            }
            Input::Finished { step, member, result } if step == self.step => {
                self.on_finished(now, member, result, out);
            }
            Input::Replacement { step, result } if step == self.step => self.on_replacement(now, result, out),
            Input::Copied { step, result } if step == self.step => self.on_copied(now, result, out),
            Input::Tick => {}
            // An answer to a phase that is over.
            _ => return,
        }
        self.advance(now, out);
    }

    fn next_step(&mut self, out: &mut Vec<Output>) -> u64 {
        self.step += 1;
        out.push(Output::Cancel);
        self.step
    }

    fn fail(&mut self, trouble: Trouble, out: &mut Vec<Output>) {
        self.phase = Phase::Over;
        out.push(Output::Failed(trouble));
    }

    fn blame(&mut self, node: u64, out: &mut Vec<Output>) {
        if self.avoid.insert(node) {
            out.push(Output::Blamed(node));
        }
    }

    /// Whatever time and buffers allow.
    fn advance(&mut self, now: Monotonic, out: &mut Vec<Output>) {
        if let Some(since) = self.trouble_since
            && now.since(since) >= self.limits.patience
        {
            let trouble = self.last_trouble.clone();
            return self.fail(trouble, out);
        }
        match &self.phase {
            Phase::Idle if self.buffer.end() > self.buffer.base() => self.ask_grant(out),
            Phase::Idle if self.ended => {
                self.phase = Phase::Over;
                out.push(Output::Done(std::mem::take(&mut self.parts)));
            }
            Phase::Waiting(until) if *until <= now => self.ask_grant(out),
            Phase::Waiting(until) => out.push(Output::Wake(*until)),
            Phase::Writing(_) => self.send(now, out),
            _ => {}
        }
        if let Some(since) = self.trouble_since {
            out.push(Output::Wake(since.plus(self.limits.patience)));
        }
    }

    fn ask_grant(&mut self, out: &mut Vec<Output>) {
        if self.grants >= MAX_GRANTS {
            let trouble = self.last_trouble.clone();
            return self.fail(trouble, out);
        }
        self.grants += 1;
        self.phase = Phase::Granting;
        let step = self.next_step(out);
        out.push(Output::Grant {
            step,
            avoid: self.avoid.iter().copied().collect(),
            fresh: self.fresh,
        });
    }

    fn on_granted(&mut self, now: Monotonic, result: Result<Grant, Trouble>, out: &mut Vec<Output>) {
        let grant = match result {
            Ok(grant) if !grant.members.is_empty() => grant,
            Ok(_) => {
                return self.fail(
                    Trouble::new(Code::NotEnoughDomains, "a grant without replicas"),
                    out,
                );
            }
            Err(trouble) => return self.fail(trouble, out),
        };
        let willing: Vec<usize> = (0..grant.members.len())
            .filter(|&at| !self.avoid.contains(&grant.members[at].node))
            .collect();
        // Better fewer replicas than one that just failed, as long as the policy allows it.
        let chain = if willing.len() >= minimum(&self.policy) {
            willing
        } else {
            (0..grant.members.len()).collect()
        };
        self.phase = Phase::Writing(Writing {
            grant,
            chain,
            sent_to: self.buffer.base(),
            unsynced: 0,
            in_flight: VecDeque::new(),
            last_sent: false,
            progress: now,
            probed: 0,
        });
    }

    /// Sends what the window allows. The newest frame is held back until it is known whether it is the last.
    fn send(&mut self, now: Monotonic, out: &mut Vec<Output>) {
        let Phase::Writing(writing) = &mut self.phase else {
            return;
        };
        let idle = now.since(self.newest_at) >= IDLE_FLUSH;
        while writing.in_flight.len() < self.limits.window && !writing.last_sent {
            let Some(frame) = self.buffer.frame_at(writing.sent_to) else {
                break;
            };
            let newest = self.buffer.newest() == Some(writing.sent_to);
            if newest && !self.ended && !self.flush && !idle {
                break;
            }
            if writing.in_flight.is_empty() {
                writing.progress = now;
            }
            let (position, end) = (writing.sent_to, writing.sent_to + frame.len());
            let last =
                (newest && self.ended).then(|| self.buffer.sum_to(end).expect("the newest sum is kept"));
            let sync = newest || last.is_some() || writing.unsynced + frame.len() >= self.limits.sync_every;
            writing.unsynced = if sync { 0 } else { writing.unsynced + frame.len() };
            writing.sent_to = end;
            writing.last_sent = last.is_some();
            writing.in_flight.push_back(InFlight { position, end, sync });
            let send = Send {
                grant: writing.grant.clone(),
                chain: writing.chain.clone(),
                offset: position - self.buffer.base(),
                frame: frame.clone(),
                sync,
                last,
            };
            out.push(Output::Append {
                step: self.step,
                position,
                send: Box::new(send),
            });
        }
        if !writing.in_flight.is_empty() {
            let slow_at = writing.progress.plus(self.slow);
            if slow_at <= now {
                return self.probe(true, out);
            }
            out.push(Output::Wake(slow_at));
        } else if self.ended && !writing.last_sent && writing.sent_to == self.buffer.end() {
            // Everything was sent before the end was known: each member is asked to finish.
            let (grant, chain) = (writing.grant.clone(), writing.chain.clone());
            let length = self.buffer.end() - self.buffer.base();
            return self.finish(grant, chain, length, out);
        }
        if let Phase::Writing(writing) = &self.phase
            && !writing.last_sent
            && self.buffer.frame_at(writing.sent_to).is_some()
            && writing.in_flight.len() < self.limits.window
        {
            out.push(Output::Wake(self.newest_at.plus(IDLE_FLUSH)));
        }
    }

    fn on_appended(
        &mut self,
        now: Monotonic,
        position: u64,
        result: Result<AppendReply, Trouble>,
        out: &mut Vec<Output>,
    ) {
        if matches!(&self.phase, Phase::Probing(probing) if probing.slow) {
            // The answer came after all, while members were being asked what keeps them.
            let Phase::Probing(probing) = std::mem::replace(&mut self.phase, Phase::Idle) else {
                return;
            };
            self.phase = Phase::Writing(probing.writing);
        }
        let Phase::Writing(writing) = &mut self.phase else {
            return;
        };
        let reply = match result {
            Ok(reply) => reply,
            Err(trouble) => {
                // What the first member says of itself needs no second opinion.
                let own = matches!(trouble.code, Code::NoSpace | Code::Corrupt);
                let node = writing
                    .chain
                    .first()
                    .filter(|_| own)
                    .map(|&at| writing.grant.members[at].node);
                return self.on_trouble(now, trouble, node, out);
            }
        };
        if let Some(hop) = reply.hops.iter().find(|hop| hop.code != 0) {
            let code = Code::from_number(hop.code).unwrap_or(Code::Unavailable);
            let node = writing
                .grant
                .members
                .iter()
                .find(|member| Some(member.replica) == hop.replica);
            let trouble = Trouble::new(code, format!("chunk {}: {}", writing.grant.chunk, hop.message));
            let node = node.map(|member| member.node);
            return self.on_trouble(now, trouble, node, out);
        }
        let Some(at) = writing
            .in_flight
            .iter()
            .position(|frame| frame.position == position)
        else {
            return;
        };
        let (end, sync) = (writing.in_flight[at].end, writing.in_flight[at].sync);
        // Answers come in order of appends; one that overtakes says as much of those before it.
        writing
            .in_flight
            .retain(|frame| frame.position > position || frame.sync && frame.position < position);
        writing.progress = now;
        writing.probed = 0;
        let length = end - self.buffer.base();
        if writing.last_sent && end == writing.sent_to {
            return self.on_last(now, &reply, out);
        }
        let durable =
            reply.hops.len() >= writing.chain.len() && reply.hops.iter().all(|hop| hop.durable >= length);
        if sync && !durable {
            let trouble = Trouble::new(
                Code::Unavailable,
                "a synced append that is not durable on the whole chain",
            );
            return self.on_trouble(now, trouble, None, out);
        }
        if sync {
            self.trouble_since = None;
            let freed = self.buffer.release(end);
            if freed > 0 {
                out.push(Output::Release(freed));
            }
        }
    }

    fn on_last(&mut self, now: Monotonic, reply: &AppendReply, out: &mut Vec<Output>) {
        let Phase::Writing(writing) = &mut self.phase else {
            return;
        };
        let (grant, chain) = (writing.grant.clone(), writing.chain.clone());
        let length = self.buffer.end() - self.buffer.base();
        let receipts: Vec<(Member, Receipt)> = reply
            .hops
            .iter()
            .filter_map(|hop| {
                let receipt = hop.receipt.clone()?;
                let member = chain.iter().map(|&at| &grant.members[at]).find(|member| {
                    receipt.replica == Some(member.replica)
                        && receipt.chunk == grant.chunk
                        && receipt.length == length
                })?;
                (self.buffer.sum_to(self.buffer.end()) == Some(receipt.checksum))
                    .then(|| (member.clone(), receipt))
            })
            .collect();
        if receipts.len() < chain.len() {
            let trouble = Trouble::new(Code::Unavailable, "fewer receipts than replicas in the chain");
            return self.on_trouble(now, trouble, None, out);
        }
        self.settle(
            Settling {
                grant,
                length,
                receipts,
                tried: 0,
                replacement: None,
            },
            out,
        );
    }

    fn on_trouble(&mut self, now: Monotonic, trouble: Trouble, node: Option<u64>, out: &mut Vec<Output>) {
        self.trouble_since.get_or_insert(now);
        self.fresh = true;
        let expired = matches!(trouble.code, Code::GrantExpired | Code::Fenced);
        self.last_trouble = trouble;
        if let Some(node) = node
            && !expired
        {
            self.blame(node, out);
        }
        if self.buffer.whole() && (node.is_some() || expired) {
            return self.rewrite(now, out);
        }
        self.probe(false, out);
    }

    /// Sends everything again to a new chunk; the old one was never visible and is reclaimed.
    fn rewrite(&mut self, now: Monotonic, out: &mut Vec<Output>) {
        out.push(Output::Note(Note::Rewritten));
        let delay = if self.grants <= 1 {
            Duration::ZERO
        } else {
            RETRY_BASE * (1 << self.grants.min(6))
        };
        self.next_step(out);
        self.phase = Phase::Waiting(now.plus(delay.min(Duration::from_secs(1))));
    }

    fn probe(&mut self, slow: bool, out: &mut Vec<Output>) {
        let Phase::Writing(writing) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        if !slow {
            self.next_step(out);
        }
        self.probe += 1;
        for &at in &writing.chain {
            let (to, probe) = (writing.grant.members[at].clone(), self.probe);
            out.push(Output::Status {
                probe,
                member: at,
                chunk: writing.grant.chunk,
                to,
            });
        }
        self.phase = Phase::Probing(Probing {
            writing,
            slow,
            answers: BTreeMap::new(),
        });
    }

    fn on_status(
        &mut self,
        now: Monotonic,
        member: usize,
        result: Result<ChunkStatus, Trouble>,
        out: &mut Vec<Output>,
    ) {
        let Phase::Probing(probing) = &mut self.phase else {
            return;
        };
        let refused = matches!(&result, Err(trouble) if trouble.code == Code::NotFound);
        let status = result.ok().or_else(|| refused.then(ChunkStatus::default));
        probing.answers.insert(member, status);
        if probing.answers.len() == probing.writing.chain.len() {
            let Phase::Probing(probing) = std::mem::replace(&mut self.phase, Phase::Idle) else {
                return;
            };
            self.decide(now, probing, out);
        }
    }

    /// Everybody was asked: who failed, and how to go on.
    fn decide(&mut self, now: Monotonic, probing: Probing, out: &mut Vec<Output>) {
        let Probing {
            mut writing,
            slow,
            answers,
        } = probing;
        let silent: Vec<u64> = answers
            .iter()
            .filter(|(_, status)| status.is_none())
            .map(|(&at, _)| writing.grant.members[at].node)
            .collect();
        if slow && silent.is_empty() {
            let held: u64 = answers
                .values()
                .flatten()
                .map(|status| status.received + status.durable)
                .sum();
            if held > writing.probed {
                (writing.probed, writing.progress) = (held, now);
                self.phase = Phase::Writing(writing);
                return;
            }
            self.trouble_since.get_or_insert(now);
            self.last_trouble = Trouble::new(
                Code::Unavailable,
                format!("chunk {} makes no progress", writing.grant.chunk),
            );
            // The first member with least is where bytes stop.
            let least = answers.iter().filter_map(|(&at, status)| {
                let status = status.as_ref()?;
                let place = writing.chain.iter().position(|&of| of == at)?;
                Some((status.received, status.durable, place, at))
            });
            if let Some((.., at)) = least.min() {
                let node = writing.grant.members[at].node;
                self.blame(node, out);
            }
        }
        self.trouble_since.get_or_insert(now);
        self.fresh = true;
        for node in silent {
            self.blame(node, out);
        }
        if self.buffer.whole() {
            return self.rewrite(now, out);
        }
        self.finish_survivors(now, writing, &answers, out);
    }

    fn finish_survivors(
        &mut self,
        now: Monotonic,
        writing: Writing,
        answers: &BTreeMap<usize, Option<ChunkStatus>>,
        out: &mut Vec<Output>,
    ) {
        let least = self.buffer.released() - self.buffer.base();
        let able = |at: usize| {
            let status = answers.get(&at)?.as_ref()?;
            let sealed = status.state == ReplicaState::Sealed as i32;
            let length = if sealed { status.durable } else { status.received };
            (status.state != ReplicaState::Absent as i32 && length >= least).then_some((length, sealed))
        };
        let mut survivors: Vec<usize> = writing
            .chain
            .iter()
            .copied()
            .filter(|&at| able(at).is_some())
            .collect();
        let trusted = |at: &usize| !self.avoid.contains(&writing.grant.members[*at].node);
        if survivors.iter().any(trusted) {
            survivors.retain(trusted);
        }
        let lengths = survivors.iter().filter_map(|&at| able(at));
        let sealed = lengths
            .clone()
            .filter(|&(_, sealed)| sealed)
            .map(|(length, _)| length)
            .min();
        let Some(length) = sealed.or_else(|| lengths.map(|(length, _)| length).min()) else {
            // Nobody who has what we no longer hold answers now: ask again until patience ends.
            self.trouble_since.get_or_insert(now);
            self.phase = Phase::Writing(Writing {
                progress: now,
                in_flight: writing.in_flight,
                ..writing
            });
            self.stall(now, out);
            return;
        };
        let length = length.min(self.buffer.end() - self.buffer.base());
        survivors.retain(|&at| able(at).is_some_and(|(held, _)| held >= length));
        out.push(Output::Note(Note::CutShort));
        self.finish(writing.grant, survivors, length, out);
    }

    /// Keeps the chain as lost, to be probed again when it is "slow" once more.
    fn stall(&mut self, now: Monotonic, out: &mut Vec<Output>) {
        self.next_step(out);
        let Phase::Writing(writing) = &mut self.phase else {
            return;
        };
        if writing.in_flight.is_empty() {
            let position = writing.sent_to;
            writing.in_flight.push_back(InFlight {
                position,
                end: position,
                sync: false,
            });
        }
        // No more is sent into a chain that is lost.
        writing.last_sent = true;
        writing.probed = u64::MAX;
        out.push(Output::Wake(now.plus(self.slow)));
    }

    fn finish(&mut self, grant: Grant, members: Vec<usize>, length: u64, out: &mut Vec<Output>) {
        let step = self.next_step(out);
        for &member in &members {
            let to = grant.members[member].clone();
            out.push(Output::Finish {
                step,
                member,
                grant: grant.clone(),
                length,
                to,
            });
        }
        let waiting = members.into_iter().collect();
        self.phase = Phase::Finishing(Finishing {
            grant,
            waiting,
            receipts: BTreeMap::new(),
        });
    }

    fn on_finished(
        &mut self,
        now: Monotonic,
        member: usize,
        result: Result<Receipt, Trouble>,
        out: &mut Vec<Output>,
    ) {
        let Phase::Finishing(finishing) = &mut self.phase else {
            return;
        };
        if !finishing.waiting.remove(&member) {
            return;
        }
        let to = finishing.grant.members[member].clone();
        let (receipt, trouble) = match result {
            Ok(receipt) => (Some(receipt), None),
            Err(mut trouble) => (trouble.receipt.take().map(|receipt| *receipt), Some(trouble)),
        };
        let base = self.buffer.base();
        let good = receipt.filter(|receipt| {
            let position = base.saturating_add(receipt.length);
            receipt.chunk == finishing.grant.chunk
                && receipt.replica == Some(to.replica)
                && position >= self.buffer.released()
                && self.buffer.sum_to(position) == Some(receipt.checksum)
        });
        let done = finishing.waiting.is_empty();
        match good {
            Some(receipt) => {
                finishing.receipts.insert(member, receipt);
            }
            None => {
                self.trouble_since.get_or_insert(now);
                self.last_trouble =
                    trouble.unwrap_or_else(|| Trouble::new(Code::Corrupt, "a receipt that does not fit"));
                self.blame(to.node, out);
            }
        }
        if done {
            let Phase::Finishing(finishing) = std::mem::replace(&mut self.phase, Phase::Idle) else {
                return;
            };
            self.take_receipts(now, finishing, out);
        }
    }

    /// Takes equal receipts only; the odd replica is dropped.
    fn take_receipts(&mut self, now: Monotonic, finishing: Finishing, out: &mut Vec<Output>) {
        let mut groups: BTreeMap<u64, Vec<(Member, Receipt)>> = BTreeMap::new();
        for (at, receipt) in finishing.receipts {
            groups
                .entry(receipt.length)
                .or_default()
                .push((finishing.grant.members[at].clone(), receipt));
        }
        let best = groups
            .into_iter()
            .max_by_key(|(length, group)| (group.len(), *length));
        match best {
            Some((length, receipts)) if length > 0 => {
                let settling = Settling {
                    grant: finishing.grant,
                    length,
                    receipts,
                    tried: 0,
                    replacement: None,
                };
                self.settle(settling, out);
            }
            _ if self.buffer.whole() => self.rewrite(now, out),
            _ => {
                let trouble = self.last_trouble.clone();
                self.fail(trouble, out);
            }
        }
    }

    /// A sealed part with some receipts: complete them, or take what the policy allows.
    fn settle(&mut self, settling: Settling, out: &mut Vec<Output>) {
        // A grant with fewer members is the leader's word that there are no more domains.
        let wanted = (settling.grant.policy.replicas as usize).min(settling.grant.members.len());
        let enough = settling.receipts.len() >= wanted;
        if enough || settling.tried >= MAX_REPLACEMENTS {
            return self.seal(settling, None, out);
        }
        let step = self.next_step(out);
        out.push(Output::Replace {
            step,
            grant: settling.grant.clone(),
            have: settling
                .receipts
                .iter()
                .map(|(member, _)| member.replica)
                .collect(),
            avoid: self.avoid.iter().copied().collect(),
        });
        self.phase = Phase::Settling(Settling {
            tried: settling.tried + 1,
            replacement: None,
            ..settling
        });
    }

    fn on_replacement(&mut self, _now: Monotonic, result: Result<Grant, Trouble>, out: &mut Vec<Output>) {
        let Phase::Settling(settling) = &mut self.phase else {
            return;
        };
        let minimum = settling.receipts.len() >= minimum(&self.policy);
        let found = result.and_then(|grant| {
            let have = |member: &Member| {
                settling
                    .receipts
                    .iter()
                    .any(|(of, _)| of.replica.disk == member.replica.disk)
            };
            let member = grant.members.iter().find(|member| !have(member)).cloned();
            let member = member.filter(|member| !(minimum && self.avoid.contains(&member.node)));
            let none = || Trouble::new(Code::NotEnoughDomains, "no replacement that did not just fail");
            member.map(|member| (grant, member)).ok_or_else(none)
        });
        match found {
            Ok((replacement, to)) => {
                let from = settling.receipts[settling.tried as usize % settling.receipts.len()]
                    .0
                    .clone();
                settling.replacement = Some((replacement.clone(), to.clone()));
                let (grant, length) = (settling.grant.clone(), settling.length);
                out.push(Output::Copy {
                    step: self.step,
                    grant,
                    replacement,
                    length,
                    from,
                    to,
                });
            }
            Err(trouble) => {
                let Phase::Settling(settling) = std::mem::replace(&mut self.phase, Phase::Idle) else {
                    return;
                };
                self.seal(settling, Some(trouble), out);
            }
        }
    }

    fn on_copied(&mut self, _now: Monotonic, result: Result<Receipt, Trouble>, out: &mut Vec<Output>) {
        let Phase::Settling(mut settling) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let Some((_, to)) = settling.replacement.take() else {
            return;
        };
        let equal = |receipt: &Receipt| {
            let first = settling.receipts.first().map(|(_, first)| first);
            receipt.chunk == settling.grant.chunk
                && receipt.length == settling.length
                && first.is_some_and(|first| first.checksum == receipt.checksum)
                && receipt
                    .replica
                    .is_some_and(|replica| replica.disk == to.replica.disk)
        };
        match result {
            Ok(receipt) if equal(&receipt) => {
                out.push(Output::Note(Note::Replaced));
                settling.receipts.push((to, receipt));
            }
            Ok(_) => self.blame(to.node, out),
            Err(trouble) => {
                self.last_trouble = trouble;
                self.blame(to.node, out);
            }
        }
        self.settle(settling, out);
    }

    /// The part is as redundant as it gets now.
    fn seal(&mut self, settling: Settling, trouble: Option<Trouble>, out: &mut Vec<Output>) {
        if settling.receipts.len() < minimum(&self.policy) {
            let message = format!(
                "chunk {} reached {} replicas",
                settling.grant.chunk,
                settling.receipts.len()
            );
            return self.fail(
                trouble.unwrap_or_else(|| Trouble::new(Code::NotEnoughDomains, message)),
                out,
            );
        }
        let receipts = settling
            .receipts
            .into_iter()
            .map(|(_, receipt)| receipt)
            .collect();
        let chunk = NewChunk {
            chunk: settling.grant.chunk,
            receipts,
            policy: Some(settling.grant.policy),
        };
        self.parts.push(Part {
            length: settling.length,
            chunk,
        });
        let freed = self.buffer.rebase(self.buffer.base() + settling.length);
        if freed > 0 {
            out.push(Output::Release(freed));
        }
        self.next_step(out);
        self.trouble_since = None;
        self.grants = 0;
        self.phase = Phase::Idle;
    }
}

/// Fewest receipts with which a chunk may be committed.
fn minimum(policy: &PolicyRecord) -> usize {
    let policy = crate::attributes::policy_of(policy);
    policy.minimum().min(policy.ack.required(policy.replicas)).max(1) as usize
}

#[cfg(test)]
mod tests;
