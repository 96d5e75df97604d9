//! The last member of a chunk that is sealed but for it, when the leader knows nobody but servers that failed lately.
//!
//! Each of them is asked before the chunk does without it ([`super::super::suspects`] says what is asked and for how
//! long). The asking goes in rounds: the leader names whoever was not asked yet, until it names one again. It never
//! fails a chunk that has the policy's least redundancy.

use super::message::{ChainMember, ChunkOutput, GrantedChunk, Sign};
use super::state::{ChunkWrite, Settling, StretchPhase};
use drystone_env::Monotonic;
use std::sync::Arc;
use std::time::Duration;

/// Between two rounds: a question to each of them and to the leader is cheap beside a missing replica.
const PAUSE: Duration = Duration::from_millis(200);
/// More than fit into the time for which a server is waited for.
const MAX_ROUNDS: u32 = 32;

impl ChunkWrite {
    /// Asks the leader for a server that neither failed lately nor was asked in this round.
    pub(super) fn replace(&mut self, settling: Settling, out: &mut Vec<ChunkOutput>) {
        let step = self.next_step(out);
        let avoid = match settling.asked.is_empty() {
            true => self.avoid.iter().copied().collect(),
            false => settling.asked.keys().copied().collect(),
        };
        let have = settling.receipts.iter().map(|(member, _)| member.replica);
        out.push(ChunkOutput::Replace {
            step,
            grant: settling.grant.clone(),
            have: have.collect(),
            avoid,
        });
        self.phase = StretchPhase::Settling(settling);
    }

    /// The leader names a suspect server.
    pub(super) fn ask(
        &mut self,
        now: Monotonic,
        found: (Arc<GrantedChunk>, ChainMember),
        out: &mut Vec<ChunkOutput>,
    ) {
        let StretchPhase::Settling(mut settling) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
        else {
            return;
        };
        let to = found.1.clone();
        if settling.asked.contains_key(&to.node) {
            return self.nobody_else(now, settling, out);
        }
        let chunk = settling.grant.chunk;
        settling.replacement = Some(found);
        let step = self.next_step(out);
        out.push(ChunkOutput::Ask { step, chunk, to });
        self.phase = StretchPhase::Settling(settling);
    }

    pub(super) fn on_asked(&mut self, now: Monotonic, sign: Sign, out: &mut Vec<ChunkOutput>) {
        let StretchPhase::Settling(mut settling) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
        else {
            return;
        };
        let Some((replacement, to)) = settling.replacement.take() else {
            self.phase = StretchPhase::Settling(settling);
            return;
        };
        if sign == Sign::Here {
            return self.copy(settling, replacement, to, out);
        }
        settling.asked.insert(to.node, sign);
        // A leader that knew somebody else would not have named one of these.
        match self.avoid.iter().all(|node| settling.asked.contains_key(node)) {
            true => self.nobody_else(now, settling, out),
            false => self.replace(settling, out),
        }
    }

    /// All were asked in vain: wait a little, or do without.
    pub(super) fn nobody_else(&mut self, now: Monotonic, mut settling: Settling, out: &mut Vec<ChunkOutput>) {
        let began = *settling.waits_since.get_or_insert(now);
        let silent = settling.asked.values().any(|sign| *sign == Sign::Silent);
        let patient = now.since(began) < self.limits.patience / 4 && settling.rounds < MAX_ROUNDS;
        if !silent || !patient {
            return self.seal(settling, None, out);
        }
        settling.rounds += 1;
        settling.asked.clear();
        settling.pause = Some(now.plus(PAUSE));
        self.phase = StretchPhase::Settling(settling);
    }

    /// The next round begins when its time has come.
    pub(super) fn resume(&mut self, now: Monotonic, out: &mut Vec<ChunkOutput>) {
        let StretchPhase::Settling(settling) = &mut self.phase else {
            return;
        };
        match settling.pause {
            Some(at) if at > now => out.push(ChunkOutput::Wake(at)),
            None => {}
            Some(_) => {
                settling.pause = None;
                let StretchPhase::Settling(settling) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
                else {
                    return;
                };
                self.replace(settling, out);
            }
        }
    }
}
