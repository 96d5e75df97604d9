//! Sends frames down the chain, and takes their answers up to the receipts of the last one.

use super::message::{ChainFrame, ChainMember, ChunkOutput, Trouble};
use super::state::{ChunkWrite, SentFrame, Settling, StretchPhase};
use drystone_env::Monotonic;
use drystone_proto::command::Receipt;
use drystone_proto::data::AppendReply;
use drystone_types::Code;
use std::time::Duration;

/// Without new bytes for this long what was sent is made durable, so that a stalled source holds no budget.
const IDLE_FLUSH: Duration = Duration::from_millis(200);

impl ChunkWrite {
    /// Sends what the window allows. The newest frame is held back until it is known whether it is the last. A chunk
    /// whose grant has aged takes one more frame, its last.
    pub(super) fn send(&mut self, now: Monotonic, out: &mut Vec<ChunkOutput>) {
        let StretchPhase::Writing(writing) = &mut self.phase else {
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
            let offset = position - self.buffer.base();
            assert!(
                offset + frame.len() <= writing.grant.capacity && !writing.chain.is_empty(),
                "a frame fits into the chunk that was granted, and goes to somebody"
            );
            writing.unsynced = if sync { 0 } else { writing.unsynced + frame.len() };
            writing.sent_to = end;
            writing.last_sent = last.is_some();
            writing.in_flight.push_back(SentFrame { position, end, sync });
            let send = ChainFrame {
                grant: writing.grant.clone(),
                chain: writing.chain.clone(),
                offset,
                frame: frame.clone(),
                sync,
                last,
            };
            out.push(ChunkOutput::Append {
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
            out.push(ChunkOutput::Wake(slow_at));
        } else if (self.ended || aged)
            && !writing.last_sent
            && writing.sent_to == self.buffer.end()
            && writing.sent_to > self.buffer.base()
        {
            // Everything was sent before the end was known: each member is asked to finish.
            let (grant, chain) = (writing.grant.clone(), writing.chain.clone());
            let length = self.buffer.end() - self.buffer.base();
            return self.finish(grant, chain.to_vec(), length, out);
        }
        if let StretchPhase::Writing(writing) = &self.phase
            && !writing.last_sent
            && !aged
        {
            out.push(ChunkOutput::Wake(writing.grant.end_at()));
        }
        if let StretchPhase::Writing(writing) = &self.phase
            && !writing.last_sent
            && self.buffer.frame_at(writing.sent_to).is_some()
            && writing.in_flight.len() < self.limits.window
        {
            out.push(ChunkOutput::Wake(self.newest_at.plus(IDLE_FLUSH)));
        }
    }

    pub(super) fn on_appended(
        &mut self,
        now: Monotonic,
        position: u64,
        result: Result<AppendReply, Trouble>,
        out: &mut Vec<ChunkOutput>,
    ) {
        if matches!(&self.phase, StretchPhase::Probing(probing) if probing.slow) {
            // The answer came after all, while members were being asked what keeps them.
            let StretchPhase::Probing(probing) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
            else {
                return;
            };
            self.phase = StretchPhase::Writing(probing.writing);
        }
        let StretchPhase::Writing(writing) = &mut self.phase else {
            return;
        };
        let reply = match result {
            Ok(reply) => reply,
            Err(trouble) => {
                // What the first member says of itself needs no second opinion.
                let own = matches!(trouble.code, Code::NoSpace | Code::Corrupt);
                let first = writing.chain.first().filter(|_| own);
                let first = first.map(|&at| writing.grant.members[at].clone());
                return self.on_member_trouble(now, trouble, first.as_ref(), out);
            }
        };
        if let Some(hop) = reply.hops.iter().find(|hop| hop.code != 0) {
            let code = Code::from_number(hop.code).unwrap_or(Code::Unavailable);
            let member = writing
                .grant
                .members
                .iter()
                .find(|member| Some(member.replica) == hop.replica);
            let trouble = Trouble::new(code, format!("chunk {}: {}", writing.grant.chunk, hop.message));
            let member = member.cloned();
            return self.on_member_trouble(now, trouble, member.as_ref(), out);
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
                out.push(ChunkOutput::Release(freed));
            }
        }
    }

    pub(super) fn on_last(&mut self, now: Monotonic, reply: &AppendReply, out: &mut Vec<ChunkOutput>) {
        let StretchPhase::Writing(writing) = &mut self.phase else {
            return;
        };
        let (grant, chain) = (writing.grant.clone(), writing.chain.clone());
        let end = writing.sent_to;
        let length = end - self.buffer.base();
        let receipts: Vec<(ChainMember, Receipt)> = reply
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
