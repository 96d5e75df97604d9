//! One stretch of a stream on its way into a chunk: a synchronous state machine.
//!
//! A stretch becomes one sealed chunk if nothing fails, and several if replicas fail after bytes were released or if
//! its bytes come so slowly that the chunk would outlive its grant.
//! Inputs and time go in, outputs come out; no I/O, no clock, no randomness here.
//!
//! ```text
//! Idle -> Granting -> Writing -> (all receipts, or a third of the grant's life) -> sealed part -> Idle / Granting / done
//!                        | trouble
//!                        v
//!                     Probing (each member is asked before one is blamed)
//!                        | everything still buffered      | bytes were released
//!                        v                                v
//!                     Waiting -> Granting              Finishing at the survivors' shortest length
//!                     (rewrite elsewhere)                 -> Replacing -> Copying -> sealed part -> the rest
//! ```
//! Receipts that are missing at the end are completed the same way (Replacing, Copying) before the part is sealed; a
//! server that failed lately is asked first, if there is no other.
//! Here is the straight way; `recover`, `settle` and `doubtful` hold the rest. `step` numbers the phases: answers that belong
//! to an earlier phase are ignored.

mod doubtful;
mod recover;
mod settle;

pub(crate) use doubtful::Sign;

use super::buffer::{Buffer, Frame};
use drystone_env::Monotonic;
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{NewChunk, Receipt};
use drystone_proto::data::{AppendReply, ChunkStatus, ReplicaState};
use drystone_proto::record::{PolicyRecord, ReplicaRecord};
use drystone_types::Code;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Chunks that are begun for one stretch before it is given up: more than any cluster has failing at once.
const MAX_GRANTS: u32 = 16;
/// Copies that are tried for one sealed part before its redundancy is taken as it is.
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
    /// When it was asked for: the leader gave it later than this.
    pub(crate) asked_at: Monotonic,
    /// It can be written under and committed for so long from then.
    pub(crate) life: Duration,
}

impl Grant {
    /// A chunk that has bytes is ended from here on: what is left of its life is for the seal and the commit.
    fn end_at(&self) -> Monotonic {
        self.asked_at.plus(self.life / 3)
    }

    /// A sealed chunk that was not committed until here is staged.
    fn stage_at(&self) -> Monotonic {
        self.asked_at.plus(self.life / 2)
    }
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

    /// The grant is of no use any more, which is no fault of who says so.
    fn is_of_grant(&self) -> bool {
        matches!(self.code, Code::GrantExpired | Code::Fenced)
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
    Asked {
        step: u64,
        sign: Sign,
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
    /// Does this server, which failed lately, give a sign of life?
    Ask {
        step: u64,
        chunk: u64,
        to: Member,
    },
    Copy {
        step: u64,
        grant: Grant,
        replacement: Grant,
        length: u64,
        from: Member,
        to: Member,
        /// It is not worth a long wait.
        brief: bool,
    },
    /// So many bytes are no longer held.
    Release(u64),
    /// This node failed us.
    Blamed(u64),
    /// It failed us lately, and took a copy now.
    Trusted(u64),
    /// It failed us lately, gave a sign of life, and failed a copy.
    Spoiled(u64),
    Note(Note),
    Wake(Monotonic),
    /// The next chunk of the stretch is sealed.
    Sealed(Part),
    /// Everything is sealed.
    Done,
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
    /// It must be committed or staged soon after this, while its grant lives.
    pub(crate) stage_at: Monotonic,
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
    // Copies.
    tried: u32,
    replacement: Option<(Grant, Member)>,
    // Servers in doubt that did not answer in this round.
    asked: BTreeMap<u64, Sign>,
    rounds: u32,
    waits_since: Option<Monotonic>,
    pause: Option<Monotonic>,
}

impl Settling {
    fn new(grant: Grant, length: u64, receipts: Vec<(Member, Receipt)>) -> Self {
        Self {
            grant,
            length,
            receipts,
            tried: 0,
            replacement: None,
            asked: BTreeMap::new(),
            rounds: 0,
            waits_since: None,
            pause: None,
        }
    }
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
        }
    }

    /// Bytes that are in sealed parts.
    pub(crate) fn sealed(&self) -> u64 {
        self.buffer.base()
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
            Input::Asked { step, sign } if step == self.step => self.on_asked(now, sign, out),
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
                out.push(Output::Done);
            }
            Phase::Waiting(until) if *until <= now => self.ask_grant(out),
            Phase::Waiting(until) => out.push(Output::Wake(*until)),
            Phase::Writing(_) => self.send(now, out),
            Phase::Settling(_) => self.resume(now, out),
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
        // The leader knows no others. A stream does not wait for one that just failed, as long as the policy allows
        // it; the sealed part is completed there by a copy.
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

    /// Sends what the window allows. The newest frame is held back until it is known whether it is the last. A chunk
    /// whose grant has aged takes one more frame, its last.
    fn send(&mut self, now: Monotonic, out: &mut Vec<Output>) {
        let Phase::Writing(writing) = &mut self.phase else {
            return;
        };
        let idle = now.since(self.newest_at) >= IDLE_FLUSH;
        let aged = now >= writing.grant.end_at();
        while writing.in_flight.len() < self.limits.window && !writing.last_sent {
            let Some(frame) = self.buffer.frame_at(writing.sent_to) else {
                break;
            };
            let newest = self.buffer.newest() == Some(writing.sent_to);
            if newest && !self.ended && !self.flush && !idle && !aged {
                break;
            }
            if writing.in_flight.is_empty() {
                writing.progress = now;
            }
            let (position, end) = (writing.sent_to, writing.sent_to + frame.len());
            let last = (newest && self.ended || aged)
                .then(|| self.buffer.sum_to(end).expect("the sums of a chunk are kept"));
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
        } else if (self.ended || aged)
            && !writing.last_sent
            && writing.sent_to == self.buffer.end()
            && writing.sent_to > self.buffer.base()
        {
            // Everything was sent before the end was known: each member is asked to finish.
            let (grant, chain) = (writing.grant.clone(), writing.chain.clone());
            let length = self.buffer.end() - self.buffer.base();
            return self.finish(grant, chain, length, out);
        }
        if let Phase::Writing(writing) = &self.phase
            && !writing.last_sent
            && !aged
        {
            out.push(Output::Wake(writing.grant.end_at()));
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
        let end = writing.sent_to;
        let length = end - self.buffer.base();
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
                (self.buffer.sum_to(end) == Some(receipt.checksum)).then(|| (member.clone(), receipt))
            })
            .collect();
        if receipts.len() < chain.len() {
            let trouble = Trouble::new(Code::Unavailable, "fewer receipts than replicas in the chain");
            return self.on_trouble(now, trouble, None, out);
        }
        self.settle(Settling::new(grant, length, receipts), out);
    }
}

/// Fewest receipts with which a chunk may be committed.
fn minimum(policy: &PolicyRecord) -> usize {
    if planted(Bug::FewerReceipts) {
        return 1;
    }
    let policy = crate::attributes::policy_of(policy);
    policy.minimum().min(policy.ack.required(policy.replicas)).max(1) as usize
}

#[cfg(test)]
mod tests;
