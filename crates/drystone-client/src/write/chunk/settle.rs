//! How a stretch ends a chunk after trouble: the survivors' receipts, a replacement by copy, the sealed part.

use super::message::{ChainMember, ChunkOutput, GrantedChunk, Note, SealedPart, Trouble};
use super::state::{ChunkWrite, Finishing, Settling, StretchPhase, minimum};
use drystone_env::Monotonic;
use drystone_proto::command::{NewChunk, Receipt};
use drystone_types::{Code, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Copies that are tried for one sealed part before its redundancy is taken as it is.
const MAX_REPLACEMENTS: u32 = 3;

impl ChunkWrite {
    pub(super) fn finish(
        &mut self,
        grant: Arc<GrantedChunk>,
        members: Vec<usize>,
        length: u64,
        out: &mut Vec<ChunkOutput>,
    ) {
        let step = self.next_step(out);
        for &member in &members {
            let to = grant.members[member].clone();
            out.push(ChunkOutput::Finish {
                step,
                member,
                grant: grant.clone(),
                length,
                to,
            });
        }
        let waiting = members.into_iter().collect();
        self.phase = StretchPhase::Finishing(Finishing {
            grant,
            waiting,
            receipts: BTreeMap::new(),
        });
    }

    pub(super) fn on_finished(
        &mut self,
        now: Monotonic,
        member: usize,
        result: Result<Receipt, Trouble>,
        out: &mut Vec<ChunkOutput>,
    ) {
        let StretchPhase::Finishing(finishing) = &mut self.phase else {
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
                if !self.last_trouble.is_of_grant() {
                    self.blame(to.node, out);
                }
            }
        }
        if done {
            let StretchPhase::Finishing(finishing) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
            else {
                return;
            };
            self.take_receipts(now, finishing, out);
        }
    }

    /// Takes equal receipts only; the odd replica is dropped.
    pub(super) fn take_receipts(&mut self, now: Monotonic, finishing: Finishing, out: &mut Vec<ChunkOutput>) {
        let mut groups: BTreeMap<u64, Vec<(ChainMember, Receipt)>> = BTreeMap::new();
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
                self.settle(Settling::new(finishing.grant, length, receipts), out);
            }
            _ if self.buffer.whole() => self.rewrite(now, out),
            _ => {
                let trouble = self.last_trouble.clone();
                self.fail(trouble, out);
            }
        }
    }

    /// A sealed part with some receipts: complete them, or take what the policy allows.
    pub(super) fn settle(&mut self, settling: Settling, out: &mut Vec<ChunkOutput>) {
        // A grant with fewer members is the leader's word that there are no more domains.
        let wanted = (settling.grant.policy.replicas as usize).min(settling.grant.members.len());
        let enough = settling.receipts.len() >= wanted;
        match enough || settling.tried >= MAX_REPLACEMENTS {
            true => self.seal(settling, None, out),
            false => self.replace(settling, out),
        }
    }

    pub(super) fn on_replacement(
        &mut self,
        now: Monotonic,
        result: Result<GrantedChunk, Trouble>,
        out: &mut Vec<ChunkOutput>,
    ) {
        let StretchPhase::Settling(settling) = &self.phase else {
            return;
        };
        let have = |member: &ChainMember| {
            let mut receipts = settling.receipts.iter();
            receipts.any(|(of, _)| of.replica.disk == member.replica.disk)
        };
        let found = result.and_then(|grant| {
            let member = grant.members.iter().find(|member| !have(member)).cloned();
            let none = || Trouble::new(Code::NotEnoughDomains, "no replacement was granted");
            member.map(|member| (Arc::new(grant), member)).ok_or_else(none)
        });
        let minimum = settling.receipts.len() >= minimum(&self.policy);
        match found {
            Ok(found) if minimum && self.avoid.contains(&found.1.node) => self.ask(now, found, out),
            found => {
                let StretchPhase::Settling(settling) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
                else {
                    return;
                };
                match found {
                    Ok((replacement, to)) => self.copy(settling, replacement, to, out),
                    Err(trouble) => self.seal(settling, Some(trouble), out),
                }
            }
        }
    }

    /// One of those that have the part sends it to a new member.
    pub(super) fn copy(
        &mut self,
        mut settling: Settling,
        replacement: Arc<GrantedChunk>,
        to: ChainMember,
        out: &mut Vec<ChunkOutput>,
    ) {
        let from = settling.receipts[settling.tried as usize % settling.receipts.len()]
            .0
            .clone();
        settling.tried += 1;
        settling.replacement = Some((replacement.clone(), to.clone()));
        // Without it the part would do, too.
        let brief = self.avoid.contains(&to.node) && settling.receipts.len() >= minimum(&self.policy);
        let step = self.next_step(out);
        out.push(ChunkOutput::Copy {
            step,
            grant: settling.grant.clone(),
            replacement,
            length: settling.length,
            from,
            to,
            brief,
        });
        self.phase = StretchPhase::Settling(settling);
    }

    pub(super) fn on_copied(
        &mut self,
        _now: Monotonic,
        result: Result<Receipt, Trouble>,
        out: &mut Vec<ChunkOutput>,
    ) {
        let StretchPhase::Settling(mut settling) = std::mem::replace(&mut self.phase, StretchPhase::Idle)
        else {
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
                out.push(ChunkOutput::Note(Note::Replaced));
                if self.avoid.remove(&to.node) {
                    out.push(ChunkOutput::Trusted(to.node));
                }
                settling.receipts.push((to, receipt));
            }
            Ok(_) => self.spoiled(to.node, out),
            Err(trouble) => {
                self.last_trouble = trouble;
                if !self.last_trouble.is_of_grant() {
                    self.spoiled(to.node, out);
                }
            }
        }
        self.settle(settling, out);
    }

    /// It did not take a copy.
    pub(super) fn spoiled(&mut self, node: NodeId, out: &mut Vec<ChunkOutput>) {
        match self.avoid.contains(&node) {
            true => out.push(ChunkOutput::Spoiled(node)),
            false => self.blame(node, out),
        }
    }

    /// The part is as redundant as it gets now.
    pub(super) fn seal(&mut self, settling: Settling, trouble: Option<Trouble>, out: &mut Vec<ChunkOutput>) {
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
        let (members, receipts) = settling.receipts.into_iter().unzip();
        assert!(settling.length > 0, "a sealed part holds bytes");
        assert!(
            self.buffer.base() + settling.length >= self.buffer.released(),
            "what is no longer held is in the sealed part"
        );
        let stage_at = settling.grant.stage_at();
        let chunk = NewChunk {
            chunk: settling.grant.chunk,
            receipts,
            policy: Some(settling.grant.policy),
        };
        out.push(ChunkOutput::Sealed(SealedPart {
            length: settling.length,
            chunk,
            members,
            stage_at,
        }));
        let freed = self.buffer.rebase(self.buffer.base() + settling.length);
        if freed > 0 {
            out.push(ChunkOutput::Release(freed));
        }
        self.next_step(out);
        self.trouble_since = None;
        self.grants = 0;
        self.phase = StretchPhase::Idle;
    }
}
