//! What a stretch does about trouble: each member is asked before one is blamed, then everything is written again
//! elsewhere, or the survivors finish what was released.

use super::message::{ChainMember, ChunkOutput, Note, Trouble};
use super::state::{ChunkWrite, Probing, SentFrame, StretchPhase, Writing};
use drystone_env::Monotonic;
use drystone_proto::data::{ChunkStatus, ReplicaState};
use drystone_types::{Code, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between attempts; doubled up to 1 s.
const RETRY_BASE: Duration = Duration::from_millis(20);

impl ChunkWrite {
    /// A member of the chain, if it is known which, has said that it cannot go on.
    pub(super) fn on_member_trouble(
        &mut self,
        now: Monotonic,
        trouble: Trouble,
        member: Option<&ChainMember>,
        out: &mut Vec<ChunkOutput>,
    ) {
        if let Some(member) = member
            && trouble.code == Code::NoSpace
        {
            self.full.insert(member.replica.disk);
        }
        self.on_trouble(now, trouble, member.map(|member| member.node), out);
    }

    pub(super) fn on_trouble(
        &mut self,
        now: Monotonic,
        trouble: Trouble,
        node: Option<NodeId>,
        out: &mut Vec<ChunkOutput>,
    ) {
        self.trouble_since.get_or_insert(now);
        self.fresh = true;
        let expired = trouble.is_of_grant();
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
    pub(super) fn rewrite(&mut self, now: Monotonic, out: &mut Vec<ChunkOutput>) {
        out.push(ChunkOutput::Note(Note::Rewritten));
        let delay = if self.grants <= 1 {
            Duration::ZERO
        } else {
            RETRY_BASE * (1 << self.grants.min(6))
        };
        self.next_step(out);
        self.phase = StretchPhase::Waiting(now.plus(delay.min(Duration::from_secs(1))));
    }

    pub(super) fn probe(&mut self, slow: bool, out: &mut Vec<ChunkOutput>) {
        let StretchPhase::Writing(writing) = std::mem::replace(&mut self.phase, StretchPhase::Idle) else {
            return;
        };
        if !slow {
            self.next_step(out);
        }
        self.probe += 1;
        for &at in writing.chain.iter() {
            let (to, probe) = (writing.grant.members[at].clone(), self.probe);
            out.push(ChunkOutput::Status {
                probe,
                member: at,
                chunk: writing.grant.chunk,
                to,
            });
        }
        self.phase = StretchPhase::Probing(Probing {
            writing,
            slow,
            answers: BTreeMap::new(),
        });
    }

    pub(super) fn on_status(
        &mut self,
        now: Monotonic,
        member: usize,
        result: Result<ChunkStatus, Trouble>,
        out: &mut Vec<ChunkOutput>,
    ) {
        let StretchPhase::Probing(probing) = &mut self.phase else {
            return;
        };
        let refused = matches!(&result, Err(trouble) if trouble.code == Code::NotFound);
        let status = result.ok().or_else(|| refused.then(ChunkStatus::default));
        probing.answers.insert(member, status);
        if probing.answers.len() == probing.writing.chain.len() {
            let StretchPhase::Probing(probing) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
            else {
                return;
            };
            self.decide(now, probing, out);
        }
    }

    /// Everybody was asked: who failed, and how to go on.
    pub(super) fn decide(&mut self, now: Monotonic, probing: Probing, out: &mut Vec<ChunkOutput>) {
        let Probing {
            mut writing,
            slow,
            answers,
        } = probing;
        let silent: Vec<NodeId> = answers
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
                self.phase = StretchPhase::Writing(writing);
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

    pub(super) fn finish_survivors(
        &mut self,
        now: Monotonic,
        writing: Writing,
        answers: &BTreeMap<usize, Option<ChunkStatus>>,
        out: &mut Vec<ChunkOutput>,
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
            self.phase = StretchPhase::Writing(Writing {
                progress: now,
                in_flight: writing.in_flight,
                ..writing
            });
            self.stall(now, out);
            return;
        };
        let length = length.min(self.buffer.end() - self.buffer.base());
        survivors.retain(|&at| able(at).is_some_and(|(held, _)| held >= length));
        out.push(ChunkOutput::Note(Note::CutShort));
        self.finish(writing.grant, survivors, length, out);
    }

    /// Keeps the chain as lost, to be probed again when it is "slow" once more.
    pub(super) fn stall(&mut self, now: Monotonic, out: &mut Vec<ChunkOutput>) {
        self.next_step(out);
        let StretchPhase::Writing(writing) = &mut self.phase else {
            return;
        };
        if writing.in_flight.is_empty() {
            let position = writing.sent_to;
            writing.in_flight.push_back(SentFrame {
                position,
                end: position,
                sync: false,
            });
        }
        // No more is sent into a chain that is lost.
        writing.last_sent = true;
        writing.probed = u64::MAX;
        out.push(ChunkOutput::Wake(now.plus(self.slow)));
    }
}
