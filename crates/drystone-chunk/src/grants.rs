//! Who may write what: checks of the leader's signed permissions. Pure.

use bytes::Bytes;
use drystone_env::WallTime;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::data::Hop;
use drystone_proto::grant::{ClusterKey, WriteGrant, verify_grant};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::refusal;
use drystone_types::{Code, HistoryId, MAX_CHUNK_BYTES};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Members of a chain; a policy asks for 8 replicas at most.
pub(crate) const MOST_HOPS: usize = 8;

/// A verified grant as it is used.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Permit {
    /// As it came, to recognise it again and to send it on.
    pub(crate) token: Bytes,
    pub(crate) grant: WriteGrant,
}

/// The grant floor as the cluster last told it; it never falls.
#[derive(Default)]
pub(crate) struct GrantFloor {
    floor: AtomicU64,
    known: AtomicBool,
}

impl GrantFloor {
    /// The cluster has told it.
    pub(crate) fn learn(&self, floor: u64) {
        self.floor.fetch_max(floor, Relaxed);
        self.known.store(true, Relaxed);
    }

    /// What decides about a grant at this time.
    pub(crate) fn admission(&self, now: WallTime) -> Admission {
        let known = self.known.load(Relaxed);
        Admission {
            floor: known.then(|| self.floor.load(Relaxed)),
            now,
        }
    }
}

/// What the server knows when it is asked to let a write in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Admission {
    /// Chunk ids below it are refused; `None` until the cluster has told it.
    pub(crate) floor: Option<u64>,
    pub(crate) now: WallTime,
}

impl Permit {
    /// The permission in `token`, if it is the cluster's.
    pub(crate) fn verify(key: &ClusterKey, history: HistoryId, token: &Bytes) -> Result<Self, ErrorReply> {
        let grant = verify_grant(key, history, token).ok_or_else(|| {
            refusal(
                Code::Denied,
                "the grant was not signed by this cluster in this history",
            )
        })?;
        if !(1..=MAX_CHUNK_BYTES).contains(&grant.max_bytes) {
            let message = format!(
                "the grant is for {} bytes, a chunk holds 1 to {MAX_CHUNK_BYTES}",
                grant.max_bytes
            );
            return Err(refusal(Code::Invalid, message));
        }
        Ok(Self {
            token: token.clone(),
            grant,
        })
    }

    /// True if it lets `replica` be written.
    fn lists(&self, replica: &ReplicaRecord) -> bool {
        self.grant.replicas.contains(replica)
    }

    /// Lets `chunk` in `epoch` be written to `replica` and sent on to `chain`, now.
    pub(crate) fn admit(
        &self,
        admission: Admission,
        (chunk, epoch): (u64, u64),
        replica: &ReplicaRecord,
        chain: &[Hop],
    ) -> Result<(), ErrorReply> {
        let grant = &self.grant;
        if grant.chunk != chunk || grant.epoch != epoch {
            let message = format!("the grant is for chunk {} in epoch {}", grant.chunk, grant.epoch);
            return Err(refusal(Code::Denied, message));
        }
        if chain.len() >= MOST_HOPS {
            return Err(refusal(
                Code::Invalid,
                format!("a chain has at most {MOST_HOPS} members"),
            ));
        }
        let mut members = std::iter::once(Some(replica)).chain(chain.iter().map(|hop| hop.replica.as_ref()));
        if !members.all(|member| member.is_some_and(|member| self.lists(member))) {
            return Err(refusal(
                Code::Denied,
                "the grant does not list every member of the chain",
            ));
        }
        if grant.expires != 0 && grant.expires < admission.now.0 {
            return Err(refusal(Code::GrantExpired, "the grant's time is over"));
        }
        match admission.floor {
            None => Err(refusal(
                Code::Unavailable,
                "this server has not heard from the cluster yet",
            )),
            Some(floor) if chunk < floor && !grant.replacement => Err(refusal(
                Code::GrantExpired,
                format!("chunk {chunk} is below the grant floor {floor}"),
            )),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::grant::sign_grant;

    const KEY: ClusterKey = ClusterKey([1; 32]);
    const HISTORY: HistoryId = HistoryId([2; 16]);
    const MINE: ReplicaRecord = ReplicaRecord {
        disk: 1,
        incarnation: 2,
        placement: 3,
    };
    const NEXT: ReplicaRecord = ReplicaRecord {
        disk: 4,
        incarnation: 5,
        placement: 3,
    };
    const NOW: Admission = Admission {
        floor: Some(50),
        now: WallTime(1_000),
    };

    fn check(
        change: impl FnOnce(&mut WriteGrant),
        admission: Admission,
        chain: &[Hop],
        expected: Option<Code>,
    ) {
        let mut grant = WriteGrant {
            chunk: 70,
            epoch: 1,
            replicas: vec![MINE, NEXT],
            max_bytes: MAX_CHUNK_BYTES,
            ..WriteGrant::default()
        };
        change(&mut grant);
        let token = sign_grant(&KEY, HISTORY, grant);
        let result = Permit::verify(&KEY, HISTORY, &token)
            .and_then(|permit| permit.admit(admission, (70, 1), &MINE, chain));
        assert_eq!(result.err().map(|error| error.code), expected.map(Code::number));
    }

    #[test]
    fn only_what_the_grant_says_is_let_in() {
        let hop = |replica| Hop {
            address: "a:1".into(),
            replica,
        };
        check(|_| (), NOW, &[], None);
        check(|_| (), NOW, &[hop(Some(NEXT))], None);
        check(|_| (), NOW, &[hop(None)], Some(Code::Denied));
        check(
            |_| (),
            NOW,
            &[hop(Some(ReplicaRecord { placement: 4, ..NEXT }))],
            Some(Code::Denied),
        );
        check(|_| (), NOW, &vec![hop(Some(NEXT)); 8], Some(Code::Invalid));
        check(|grant| grant.chunk = 71, NOW, &[], Some(Code::Denied));
        check(|grant| grant.epoch = 2, NOW, &[], Some(Code::Denied));
        check(
            |grant| grant.replicas[0].incarnation = 9,
            NOW,
            &[],
            Some(Code::Denied),
        );
        check(
            |grant| grant.max_bytes = MAX_CHUNK_BYTES + 1,
            NOW,
            &[],
            Some(Code::Invalid),
        );
        check(|grant| grant.expires = 999, NOW, &[], Some(Code::GrantExpired));
        check(|grant| grant.expires = 1_001, NOW, &[], None);
    }

    #[test]
    fn below_the_floor_only_replacements_are_written() {
        let admission = |floor| Admission { floor, ..NOW };
        check(|_| (), admission(None), &[], Some(Code::Unavailable));
        check(|_| (), admission(Some(70)), &[], None);
        check(|_| (), admission(Some(71)), &[], Some(Code::GrantExpired));
        check(|grant| grant.replacement = true, admission(Some(71)), &[], None);
    }

    #[test]
    fn a_forged_or_foreign_token_is_denied() {
        let token = sign_grant(&ClusterKey([9; 32]), HISTORY, WriteGrant::default());
        let foreign = sign_grant(&KEY, HistoryId([9; 16]), WriteGrant::default());
        for token in [token, foreign, Bytes::from_static(b"nonsense")] {
            let error = Permit::verify(&KEY, HISTORY, &token).unwrap_err();
            assert_eq!(error.code, Code::Denied.number());
        }
    }
}
