//! Chunk servers that failed a write of this process a moment ago: when another chunk may count on one of them.
//!
//! A chunk has fewer replicas than its policy names only if nobody is left who can take one, and one slow moment of a
//! server does not prove that for long. But a write outlives the loss of a server within seconds, so not every chunk
//! can find out for itself, at the cost of a timeout. Hence, of a suspect server that the leader still names because
//! it knows no other:
//!
//! - No stream goes through it as long as the policy's least redundancy is reached without it. When the rest of the
//!   chunk is sealed, it is asked for a sign of life, and if it gives one, it gets a copy.
//! - In the first [`GRACE`] chunks wait for that sign. What was one slow moment costs time and no redundancy.
//! - After that it is away, and chunks are sealed without it at once: nobody waits for a server that is dead. Beside
//!   them one question at a time is under way, which finds it again soon after it is back.
//! - A copy that it takes makes it trusted again, for all writers. A copy that fails although it gave a sign (a disk hangs, its
//!   server does not) leaves it alone for a time that doubles.
//!
//! A synchronous core: whoever uses it brings the time and does the asking. It never decides that a chunk is degraded.

use crate::locks;
use drystone_env::Monotonic;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_types::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Suspect ends by itself this long after the last failure: about what the cluster needs to suspect a server.
const AVOID_FOR: Duration = Duration::from_secs(10);
/// From the first failure on chunks wait so long for the server: a short stall passes, and a writer's pause stays
/// within seconds.
const GRACE: Duration = Duration::from_secs(2);
/// Between questions to a server that is away.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// A server that spoiled a copy is left alone for this long, then twice as long, up to 8 times.
const ALONE: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 3;

/// See the module. As many entries as a cluster has servers.
#[derive(Debug)]
pub(crate) struct Suspects(Mutex<BTreeMap<NodeId, Suspect>>);

impl Default for Suspects {
    fn default() -> Self {
        Self(Mutex::new(locks::WRITE_SUSPECTS, BTreeMap::new()))
    }
}

#[derive(Debug)]
struct Suspect {
    since: Monotonic,
    until: Monotonic,
    // It gave a sign after the last failure.
    answered: bool,
    asking: bool,
    next_ask: Monotonic,
    spoiled: u32,
    alone_until: Monotonic,
}

/// What to do about a server that the leader names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SuspectStanding {
    /// Ask it for a sign of life.
    Ask,
    /// Do without it; if `probe`, ask it all the same, beside the chunk, and say what was [`Suspects::heard`].
    Away { probe: bool },
}

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Suspect>> {
        self.0.lock()
    }

    /// The suspect servers.
    pub(crate) fn nodes(&self, now: Monotonic) -> Vec<NodeId> {
        let mut suspects = self.lock();
        suspects.retain(|_, suspect| suspect.until > now);
        suspects.keys().copied().collect()
    }

    /// It failed a chunk.
    pub(crate) fn blamed(&self, node: NodeId, now: Monotonic) {
        let mut suspects = self.lock();
        suspects.retain(|_, suspect| suspect.until > now);
        let suspect = suspects.entry(node).or_insert(Suspect {
            since: now,
            until: now,
            answered: false,
            asking: false,
            next_ask: now,
            spoiled: 0,
            alone_until: now,
        });
        suspect.answered = false;
        suspect.until = now.plus(AVOID_FOR);
    }

    /// It gave a sign of life and failed the copy after it.
    pub(crate) fn spoiled(&self, node: NodeId, now: Monotonic) {
        self.blamed(node, now);
        if let Some(suspect) = self.lock().get_mut(&node)
            // Copies under way at the same time fail together, and count as one.
            && suspect.alone_until <= now
        {
            suspect.alone_until = now.plus(ALONE * (1 << suspect.spoiled.min(MOST_DOUBLINGS)));
            suspect.spoiled += 1;
        }
    }

    /// It took a copy: it is suspect no more.
    pub(crate) fn trusted(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    /// What is to be done about it for a chunk that nobody else can complete.
    pub(crate) fn standing(&self, node: NodeId, now: Monotonic) -> SuspectStanding {
        let mut suspects = self.lock();
        let Some(suspect) = suspects.get_mut(&node).filter(|suspect| suspect.until > now) else {
            return SuspectStanding::Ask;
        };
        if now < suspect.alone_until {
            return SuspectStanding::Away { probe: false };
        }
        if suspect.answered || now < suspect.since.plus(GRACE) {
            return SuspectStanding::Ask;
        }
        let probe = !suspect.asking && suspect.next_ask <= now;
        suspect.asking |= probe;
        SuspectStanding::Away { probe }
    }

    /// It was asked for a sign, and gave one or did not.
    pub(crate) fn heard(&self, node: NodeId, now: Monotonic, sign: bool) {
        if let Some(suspect) = self.lock().get_mut(&node) {
            (suspect.answered, suspect.asking) = (sign, false);
            suspect.next_ask = now.plus(ASK_EVERY);
            if !sign {
                suspect.until = now.plus(AVOID_FOR);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: SuspectStanding = SuspectStanding::Away { probe: false };
    const PROBE: SuspectStanding = SuspectStanding::Away { probe: true };

    fn at(millis: u64) -> Monotonic {
        Monotonic(0).plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_server_is_waited_for_once_and_then_asked_by_one_at_a_time() {
        let suspects = Suspects::default();
        assert_eq!(suspects.standing(NodeId(7), at(0)), SuspectStanding::Ask);
        suspects.blamed(NodeId(7), at(0));
        suspects.heard(NodeId(7), at(1_000), false);
        assert_eq!(suspects.standing(NodeId(7), at(1_999)), SuspectStanding::Ask);
        // Another failure does not begin another wait.
        suspects.blamed(NodeId(7), at(1_999));
        assert_eq!(suspects.standing(NodeId(7), at(2_000)), PROBE);
        assert_eq!(suspects.standing(NodeId(7), at(2_900)), AWAY);
        suspects.heard(NodeId(7), at(3_000), false);
        assert_eq!(suspects.standing(NodeId(7), at(3_499)), AWAY);
        assert_eq!(suspects.standing(NodeId(7), at(3_500)), PROBE);
        suspects.heard(NodeId(7), at(3_501), true);
        assert_eq!(suspects.standing(NodeId(7), at(3_502)), SuspectStanding::Ask);
        assert_eq!(suspects.nodes(at(3_503)), [NodeId(7)]);
        suspects.trusted(NodeId(7));
        assert_eq!(suspects.nodes(at(3_504)), []);
    }

    #[test]
    fn a_server_that_spoils_copies_is_left_alone_longer_and_longer() {
        let (suspects, mut now) = (Suspects::default(), 0);
        suspects.blamed(NodeId(7), at(now));
        for alone in [1_000, 2_000, 4_000, 8_000, 8_000] {
            suspects.heard(NodeId(7), at(now), true);
            assert_eq!(suspects.standing(NodeId(7), at(now)), SuspectStanding::Ask);
            // Ten copies at once are one failure.
            (0..10).for_each(|late| suspects.spoiled(NodeId(7), at(now + late)));
            assert_eq!(suspects.standing(NodeId(7), at(now + alone - 1)), AWAY);
            now += alone;
            assert_ne!(suspects.standing(NodeId(7), at(now)), AWAY);
        }
    }

    #[test]
    fn suspicion_ends_by_itself() {
        let suspects = Suspects::default();
        suspects.blamed(NodeId(7), at(0));
        suspects.blamed(NodeId(8), at(5_000));
        assert_eq!(suspects.nodes(at(9_999)), [NodeId(7), NodeId(8)]);
        assert_eq!(suspects.nodes(at(10_000)), [NodeId(8)]);
        assert_eq!(suspects.standing(NodeId(7), at(10_000)), SuspectStanding::Ask);
    }
}
