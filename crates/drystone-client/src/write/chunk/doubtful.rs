//! The last member of a chunk that is sealed but for it, when the leader knows nobody but servers that failed lately.
//!
//! Each of them is asked before the chunk does without it ([`super::super::doubts`] says what is asked and for how
//! long). The asking goes in rounds: the leader names whoever was not asked yet, until it names one again. It never
//! fails a chunk that has the policy's least redundancy.

use super::{ChunkWrite, Grant, Member, Monotonic, Output, Phase, Settling};
use std::time::Duration;

/// Between two rounds: a question to each of them and to the leader is cheap beside a missing replica.
const PAUSE: Duration = Duration::from_millis(200);
/// More than fit into the time for which a server is waited for.
const MAX_ROUNDS: u32 = 32;

/// What came of asking a server in doubt for a sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sign {
    /// It answers.
    Here,
    /// It does not, and may do so in a moment.
    Silent,
    /// It has been silent for too long to wait for it.
    Away,
}

impl ChunkWrite {
    /// Asks the leader for a server that neither failed lately nor was asked in this round.
    pub(super) fn replace(&mut self, settling: Settling, out: &mut Vec<Output>) {
        let step = self.next_step(out);
        let avoid = match settling.asked.is_empty() {
            true => self.avoid.iter().copied().collect(),
            false => settling.asked.keys().copied().collect(),
        };
        let have = settling.receipts.iter().map(|(member, _)| member.replica);
        out.push(Output::Replace {
            step,
            grant: settling.grant.clone(),
            have: have.collect(),
            avoid,
        });
        self.phase = Phase::Settling(settling);
    }

    /// The leader names a server in doubt.
    pub(super) fn ask(&mut self, now: Monotonic, found: (Grant, Member), out: &mut Vec<Output>) {
        let Phase::Settling(mut settling) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let to = found.1.clone();
        if settling.asked.contains_key(&to.node) {
            return self.nobody_else(now, settling, out);
        }
        let chunk = settling.grant.chunk;
        settling.replacement = Some(found);
        let step = self.next_step(out);
        out.push(Output::Ask { step, chunk, to });
        self.phase = Phase::Settling(settling);
    }

    pub(super) fn on_asked(&mut self, now: Monotonic, sign: Sign, out: &mut Vec<Output>) {
        let Phase::Settling(mut settling) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let Some((replacement, to)) = settling.replacement.take() else {
            self.phase = Phase::Settling(settling);
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
    fn nobody_else(&mut self, now: Monotonic, mut settling: Settling, out: &mut Vec<Output>) {
        let began = *settling.waits_since.get_or_insert(now);
        let silent = settling.asked.values().any(|sign| *sign == Sign::Silent);
        let patient = now.since(began) < self.limits.patience / 4 && settling.rounds < MAX_ROUNDS;
        if !silent || !patient {
            return self.seal(settling, None, out);
        }
        settling.rounds += 1;
        settling.asked.clear();
        settling.pause = Some(now.plus(PAUSE));
        self.phase = Phase::Settling(settling);
    }

    /// The next round begins when its time has come.
    pub(super) fn resume(&mut self, now: Monotonic, out: &mut Vec<Output>) {
        let Phase::Settling(settling) = &mut self.phase else {
            return;
        };
        match settling.pause {
            Some(at) if at > now => out.push(Output::Wake(at)),
            None => {}
            Some(_) => {
                settling.pause = None;
                let Phase::Settling(settling) = std::mem::replace(&mut self.phase, Phase::Idle) else {
                    return;
                };
                self.replace(settling, out);
            }
        }
    }
}
