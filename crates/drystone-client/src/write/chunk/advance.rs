//! Takes inputs, and does what time and buffers allow; asks for a grant and begins a chunk with it.

use super::message::{ChunkInput, ChunkOutput, GrantedChunk, Trouble};
use super::state::{ChunkWrite, StretchPhase, Writing, minimum};
use drystone_env::Monotonic;
use drystone_types::Code;
use std::collections::VecDeque;
use std::sync::Arc;

/// Chunks that are begun for one stretch before it is given up: more than any cluster has failing at once.
const MAX_GRANTS: u32 = 16;

impl ChunkWrite {
    /// Takes an input; what is to be done is appended to `out`.
    pub(crate) fn on(&mut self, now: Monotonic, input: ChunkInput, out: &mut Vec<ChunkOutput>) {
        if self.is_over() {
            return;
        }
        match input {
            ChunkInput::Frame(frame) => {
                assert!(!self.ended, "no bytes after the end");
                self.buffer.push(frame);
                self.newest_at = now;
                self.flush = false;
            }
            ChunkInput::Flush => self.flush = true,
            ChunkInput::End => self.ended = true,
            ChunkInput::Granted { step, result } if step == self.step => self.on_granted(now, result, out),
            ChunkInput::Appended {
                step,
                position,
                result,
            } if step == self.step => {
                self.on_appended(now, position, result, out);
            }
            ChunkInput::Status {
                probe,
                member,
                result,
            } if probe == self.probe => {
                self.on_status(now, member, result, out);
            }
            ChunkInput::Finished { step, member, result } if step == self.step => {
                self.on_finished(now, member, result, out);
            }
            ChunkInput::Replacement { step, result } if step == self.step => {
                self.on_replacement(now, result, out)
            }
            ChunkInput::Asked { step, sign } if step == self.step => self.on_asked(now, sign, out),
            ChunkInput::Copied { step, result } if step == self.step => self.on_copied(now, result, out),
            ChunkInput::Tick => {}
            // An answer to a phase that is over.
            _ => return,
        }
        self.advance(now, out);
    }

    /// Whatever time and buffers allow.
    pub(super) fn advance(&mut self, now: Monotonic, out: &mut Vec<ChunkOutput>) {
        if let Some(since) = self.trouble_since
            && now.since(since) >= self.limits.patience
        {
            let trouble = self.last_trouble.clone();
            return self.fail(trouble, out);
        }
        match &self.phase {
            StretchPhase::Idle if self.buffer.end() > self.buffer.base() => self.ask_grant(out),
            StretchPhase::Idle if self.ended => {
                self.phase = StretchPhase::Over;
                out.push(ChunkOutput::Done);
            }
            StretchPhase::Waiting(until) if *until <= now => self.ask_grant(out),
            StretchPhase::Waiting(until) => out.push(ChunkOutput::Wake(*until)),
            StretchPhase::Writing(_) => self.send(now, out),
            StretchPhase::Settling(_) => self.resume(now, out),
            _ => {}
        }
        if let Some(since) = self.trouble_since {
            out.push(ChunkOutput::Wake(since.plus(self.limits.patience)));
        }
    }

    pub(super) fn ask_grant(&mut self, out: &mut Vec<ChunkOutput>) {
        if self.grants >= MAX_GRANTS {
            let trouble = self.last_trouble.clone();
            return self.fail(trouble, out);
        }
        self.grants += 1;
        self.phase = StretchPhase::Granting;
        let step = self.next_step(out);
        out.push(ChunkOutput::Grant {
            step,
            avoid: self.avoid.iter().copied().collect(),
            fresh: self.fresh,
        });
    }

    pub(super) fn on_granted(
        &mut self,
        now: Monotonic,
        result: Result<GrantedChunk, Trouble>,
        out: &mut Vec<ChunkOutput>,
    ) {
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
        let room = grant
            .members
            .iter()
            .filter(|member| !self.full.contains(&member.replica.disk))
            .count();
        if room < grant.members.len() && room < minimum(&self.policy) {
            // The leader learns of it with the next reports; asking it again until then changes nothing.
            return self.fail(
                Trouble::new(Code::NoSpace, "every disk that is left is full"),
                out,
            );
        }
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
        self.phase = StretchPhase::Writing(Writing {
            grant: Arc::new(grant),
            chain: chain.into(),
            sent_to: self.buffer.base(),
            unsynced: 0,
            in_flight: VecDeque::new(),
            last_sent: false,
            progress: now,
            probed: 0,
        });
    }
}
