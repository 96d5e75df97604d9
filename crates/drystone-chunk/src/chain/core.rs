//! One stream chunk's chain at one hop: a synchronous, deterministic core.
//!
//! *Frame*: one append. *Own*: this hop's store. *Below*: the chain after this hop; its first member is *next*.
//! Each frame goes to the own store and to the next hop at the same time, in the order in which it came, and is
//! answered when the own store and everything below has answered, or when somebody has to be blamed. A data frame
//! asks for no more than to be received, so all of that comes at once; a sync or last frame for durability. That
//! data frames wait for those below too bounds memory: what the last hop has not taken, the writer has not got
//! acknowledged, and the frame counts at every hop before it.
//!
//! Who is blamed: deadlines shrink by a margin at each hop, so the hop in front of a silent one runs out of
//! patience before the hop in front of itself does, and its answer still arrives in time. A hop that answers is
//! not blamed for one below it that does not. The first fault below is final for this chain: later frames are
//! stored here but not forwarded, and every later answer names the same one. `waited_us` of the next hop is how
//! long this hop has waited for it, in which its own wait for the one after it is contained: a hop's own share is
//! the difference. What is too slow is for the writer to judge.
//!
//! Owns no payload, connection, timer or store: they are named by the frame's id. A refusal of the own store is an
//! error for the frame, at once and whatever becomes of it below, and breaks the chain here.

use drystone_env::Monotonic;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::Receipt;
use drystone_proto::data::HopState;
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::refusal;
use drystone_types::Code;
use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A hop keeps an eighth of the time that is left for the answer's way back: after seven hops the last one still
/// has two fifths of the writer's patience.
const MARGIN_SHARE: u32 = 8;
/// Less than this does not cover a busy scheduler.
const MARGIN_LEAST: Duration = Duration::from_millis(20);
/// More than this no answer needs for its way back.
const MARGIN_MOST: Duration = Duration::from_secs(1);

/// Names a frame at this hop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FrameId(pub u64);

/// When a frame is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// When it is received in order, here and below.
    Received,
    /// When everything up to it is durable, here and below.
    Durable,
}

/// An append as the chain sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its name.
    pub id: FrameId,
    /// The chunk's length with it.
    pub end: u64,
    /// When to answer.
    pub ask: Ask,
    /// Until then the sender waits.
    pub deadline: Monotonic,
}

/// What the own store has of the chunk.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Held {
    /// Bytes in order.
    pub received: u64,
    /// Bytes durable.
    pub durable: u64,
    /// After the last frame.
    pub receipt: Option<Receipt>,
}

/// What happens to the chain.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A frame came.
    Frame(Frame),
    /// The own store has answered.
    Stored(FrameId, Result<Held, ErrorReply>),
    /// The next hop has answered, or it is known that it will not.
    Below(FrameId, Result<Vec<HopState>, ErrorReply>),
    /// Nobody waits for this frame any more.
    Dropped(FrameId),
    /// The time has come that [`Output::Wake`] named for this frame.
    Tick(FrameId),
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Give the frame to the own store.
    Store(FrameId),
    /// Send it to the next hop, with this deadline.
    Forward(FrameId, Monotonic),
    /// Answer it.
    Reply(FrameId, Result<Vec<HopState>, ErrorReply>),
    /// Come back with [`Input::Tick`] for this frame at this time, unless it is answered before.
    Wake(FrameId, Monotonic),
}

/// The time by which a hop answers, and the deadline that it gives to the next.
pub fn plan_deadlines(now: Monotonic, deadline: Monotonic) -> (Monotonic, Monotonic) {
    let left = deadline.since(now);
    let margin = (left / MARGIN_SHARE)
        .clamp(MARGIN_LEAST, MARGIN_MOST)
        .min(left / 2);
    let before = |span: Duration| Monotonic(deadline.0.saturating_sub(span.as_micros() as u64));
    (before(margin / 2), before(margin))
}

/// A frame on its way.
#[derive(Debug)]
struct Pending {
    frame: Frame,
    since: Monotonic,
    answer_by: Monotonic,
    own: Option<Held>,
    /// Sent to the next hop and not answered yet.
    waits_below: bool,
}

/// The state of one chunk's chain at this hop.
#[derive(Debug)]
pub struct Chain {
    me: ReplicaRecord,
    below: Vec<ReplicaRecord>,
    pending: BTreeMap<FrameId, Pending>,
    /// The last good state of each hop below.
    reported: Vec<HopState>,
    /// The first state with a fault below.
    blamed: Option<Vec<HopState>>,
    /// The own store's first refusal.
    refused: Option<ErrorReply>,
}

impl Chain {
    /// The chain at the hop `me`, in front of `below`.
    pub fn new(me: ReplicaRecord, below: Vec<ReplicaRecord>) -> Self {
        Self {
            me,
            below,
            pending: BTreeMap::new(),
            reported: Vec::new(),
            blamed: None,
            refused: None,
        }
    }

    /// The members after this one.
    pub fn below(&self) -> &[ReplicaRecord] {
        &self.below
    }

    /// True if no frame is on its way.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// True once somebody has been blamed or the own store has refused.
    pub fn is_broken(&self) -> bool {
        self.blamed.is_some() || self.refused.is_some()
    }

    /// How long it has been waiting now, and for whom: the own store (`me`) and the next hop, at most once each.
    pub fn waits(&self, now: Monotonic) -> Vec<(ReplicaRecord, Duration)> {
        let longest = |waiting: fn(&Pending) -> bool| {
            self.pending
                .values()
                .filter(|p| waiting(p))
                .map(|p| now.since(p.since))
                .max()
        };
        let own = longest(|p| p.own.is_none()).map(|wait| (self.me, wait));
        let next = longest(|p| p.waits_below)
            .zip(self.below.first())
            .map(|(wait, next)| (*next, wait));
        own.into_iter().chain(next).collect()
    }

    /// Takes one input.
    pub fn on(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Frame(frame) => self.on_frame(now, frame, out),
            Input::Stored(id, Ok(held)) => {
                if let Some(pending) = self.pending.get_mut(&id) {
                    assert_held(pending.frame, &held);
                    pending.own = Some(held);
                    self.settle(now, id, out);
                }
            }
            Input::Stored(id, Err(error)) => {
                let error = self.refused.get_or_insert(error).clone();
                if self.pending.remove(&id).is_some() {
                    out.push(Output::Reply(id, Err(error)));
                }
            }
            Input::Below(id, result) => self.on_below(now, id, result, out),
            Input::Dropped(id) => {
                self.pending.remove(&id);
            }
            Input::Tick(id) => self.on_tick(now, id, out),
        }
    }

    fn on_frame(&mut self, now: Monotonic, frame: Frame, out: &mut Vec<Output>) {
        let id = frame.id;
        assert!(!self.pending.contains_key(&id), "{id:?} is already on its way");
        if let Some(error) = &self.refused {
            out.push(Output::Reply(id, Err(error.clone())));
            return;
        }
        if frame.deadline <= now {
            let error = refusal(
                Code::Unavailable,
                "the deadline had passed before the append was begun",
            );
            out.push(Output::Reply(id, Err(error)));
            return;
        }
        let (answer_by, forward_by) = plan_deadlines(now, frame.deadline);
        assert!(
            forward_by <= answer_by && answer_by <= frame.deadline,
            "{id:?}: the next hop has until {forward_by:?}, this one until {answer_by:?}, the sender {:?}",
            frame.deadline
        );
        let waits_below = !self.below.is_empty() && self.blamed.is_none();
        out.push(Output::Store(id));
        if waits_below {
            out.push(Output::Forward(id, forward_by));
        }
        out.push(Output::Wake(id, answer_by));
        let pending = Pending {
            frame,
            since: now,
            answer_by,
            own: None,
            waits_below,
        };
        self.pending.insert(id, pending);
    }

    fn on_below(
        &mut self,
        now: Monotonic,
        id: FrameId,
        result: Result<Vec<HopState>, ErrorReply>,
        out: &mut Vec<Output>,
    ) {
        let Some(pending) = self.pending.get_mut(&id).filter(|pending| pending.waits_below) else {
            return;
        };
        pending.waits_below = false;
        let waited = now.since(pending.since);
        let frame = pending.frame;
        match result.and_then(|hops| self.check_below(frame, hops)) {
            Ok(mut hops) => {
                set_waited(&mut hops, waited);
                let faulty = hops.iter().any(|hop| hop.code != 0);
                if faulty {
                    self.blamed.get_or_insert(hops);
                } else {
                    self.note_hops(hops);
                }
            }
            Err(error) => self.blame_next(waited, error),
        }
        self.settle(now, id, out);
    }

    /// What came from below, completed by a blame for who is missing or does not hold what it was asked for.
    fn check_below(&self, frame: Frame, mut hops: Vec<HopState>) -> Result<Vec<HopState>, ErrorReply> {
        hops.truncate(self.below.len());
        let strange = hops
            .iter()
            .zip(&self.below)
            .any(|(hop, below)| hop.replica != Some(*below));
        if strange || hops.is_empty() {
            return Err(refusal(
                Code::Invalid,
                "it answered for other replicas than it was asked for",
            ));
        }
        if frame.ask == Ask::Received || hops.iter().any(|hop| hop.code != 0) {
            return Ok(hops);
        }
        if let Some(hop) = hops.iter_mut().find(|hop| hop.durable < frame.end) {
            hop.message = format!(
                "it answered with {} bytes durable, {} were asked for",
                hop.durable, frame.end
            );
            hop.code = Code::Conflict.number();
        } else if let Some(&missing) = self.below.get(hops.len()) {
            hops.push(HopState {
                replica: Some(missing),
                code: Code::Unknown.number(),
                message: "the hop before it did not say anything about it".into(),
                ..HopState::default()
            });
        }
        Ok(hops)
    }

    /// Answers may come out of order; what a hop holds only grows.
    fn note_hops(&mut self, hops: Vec<HopState>) {
        for (at, hop) in hops.into_iter().enumerate() {
            match self.reported.get_mut(at) {
                Some(known) => {
                    known.received = known.received.max(hop.received);
                    known.durable = known.durable.max(hop.durable);
                    known.receipt = hop.receipt.or(known.receipt.take());
                    known.waited_us = hop.waited_us;
                }
                None => self.reported.push(hop),
            }
        }
    }

    fn blame_next(&mut self, waited: Duration, error: ErrorReply) {
        if self.blamed.is_none()
            && let Some(&next) = self.below.first()
        {
            let reported = self.reported.first();
            self.blamed = Some(vec![HopState {
                replica: Some(next),
                received: reported.map_or(0, |hop| hop.received),
                durable: reported.map_or(0, |hop| hop.durable),
                receipt: None,
                code: error.code,
                message: error.message,
                waited_us: waited.as_micros() as u64,
            }]);
        }
    }

    /// Answers the frame if it can be answered.
    fn settle(&mut self, now: Monotonic, id: FrameId, out: &mut Vec<Output>) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let complete = pending.own.is_some() && !pending.waits_below;
        if complete {
            let frame = pending.frame;
            let own = own_state(self.me, pending.own.as_ref(), now.since(pending.since));
            let waited = now.since(pending.since);
            self.pending.remove(&id);
            if self.blamed.is_none() {
                self.check_receipts(&own, waited);
            }
            let hops = self.with_below(own);
            if self.blamed.is_none() {
                self.assert_acknowledged(frame, &hops);
            }
            out.push(Output::Reply(id, Ok(hops)));
        }
    }

    /// Blames the first hop below whose receipt is not about the bytes that are sealed here.
    fn check_receipts(&mut self, own: &HopState, waited: Duration) {
        let Some(mine) = &own.receipt else { return };
        let what = |receipt: &Receipt| (receipt.chunk, receipt.epoch, receipt.length, receipt.checksum);
        let differs =
            |hop: &HopState| (hop.receipt.as_ref()).is_some_and(|receipt| what(receipt) != what(mine));
        let Some(at) = self.reported.iter().position(differs) else {
            return;
        };
        let mut hops = self.reported.clone();
        hops.truncate(at + 1);
        hops[at].code = Code::Conflict.number();
        hops[at].message = format!(
            "its receipt {:?} is not about the {} bytes with checksum {:08x} that the hop before it sealed",
            hops[at].receipt.as_ref().map(what),
            mine.length,
            mine.checksum
        );
        set_waited(&mut hops, waited);
        self.blamed = Some(hops);
    }

    /// What an answer without a blame promises: this hop and every one below has done what the frame asked for.
    fn assert_acknowledged(&self, frame: Frame, hops: &[HopState]) {
        if frame.ask == Ask::Received {
            return;
        }
        assert_eq!(
            hops.len(),
            1 + self.below.len(),
            "{:?}: a hop has not answered",
            frame.id
        );
        let members = std::iter::once(&self.me).chain(&self.below);
        for (hop, member) in hops.iter().zip(members) {
            assert_eq!(
                hop.replica.as_ref(),
                Some(member),
                "{:?}: the order of hops",
                frame.id
            );
            assert!(
                hop.code == 0 && hop.durable >= frame.end,
                "{:?}: {} of {} bytes are durable at {member:?}",
                frame.id,
                hop.durable,
                frame.end
            );
        }
    }

    fn on_tick(&mut self, now: Monotonic, id: FrameId, out: &mut Vec<Output>) {
        let Some(pending) = self.pending.get(&id) else {
            return;
        };
        if pending.answer_by > now {
            out.push(Output::Wake(id, pending.answer_by));
            return;
        }
        let waited = now.since(pending.since);
        let own = own_state(self.me, pending.own.as_ref(), waited);
        // A disk that is silent says nothing about the hop below; one that has answered makes that hop the one
        // we wait for.
        let blame_below = pending.own.is_some() && pending.waits_below;
        self.pending.remove(&id);
        if blame_below {
            self.blame_next(waited, refusal(Code::Unknown, "it has not answered in time"));
        }
        out.push(Output::Reply(id, Ok(self.with_below(own))));
    }

    fn with_below(&self, own: HopState) -> Vec<HopState> {
        let below = self.blamed.as_ref().unwrap_or(&self.reported);
        std::iter::once(own).chain(below.iter().cloned()).collect()
    }
}

/// What the own store has of the chunk once it has taken a frame.
fn assert_held(frame: Frame, held: &Held) {
    assert!(
        held.received >= frame.end && held.durable <= held.received,
        "{:?}: the own store took it up to {}, and holds {} bytes, {} of them durable",
        frame.id,
        frame.end,
        held.received,
        held.durable
    );
    if let Some(receipt) = &held.receipt {
        assert_eq!(
            receipt.length, held.durable,
            "{:?}: a receipt is about what is durable",
            frame.id
        );
    }
}

fn own_state(me: ReplicaRecord, held: Option<&Held>, waited: Duration) -> HopState {
    let mut state = HopState {
        replica: Some(me),
        waited_us: waited.as_micros() as u64,
        ..HopState::default()
    };
    match held {
        Some(held) => {
            state.received = held.received;
            state.durable = held.durable;
            state.receipt = held.receipt.clone();
        }
        None => {
            state.code = Code::Unknown.number();
            state.message = "its disk has not answered in time".into();
        }
    }
    state
}

fn set_waited(hops: &mut [HopState], waited: Duration) {
    if let Some(next) = hops.first_mut() {
        next.waited_us = waited.as_micros() as u64;
    }
}
