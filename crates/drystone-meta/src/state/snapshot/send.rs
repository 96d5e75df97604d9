//! Streaming a snapshot to a member: several parts under way at once, and on from where the receiver stands after
//! a part was lost.

use super::Snapshots;
use super::files::{Made, read_part};
use bytes::Bytes;
use drystone_env::{Clock, DiskFile, Monotonic, OpenOptions};
use drystone_proto::cluster::Empty;
use drystone_proto::raft::SnapshotPart;
use drystone_proto::{Kind, Priority};
use drystone_raft::{Input, SnapshotMeta, SnapshotTransfer};
use drystone_rpc::{CallError, CallOptions, Channel, Payload};
use drystone_types::{Code, MAX_PAYLOAD_BYTES, NodeId};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use std::sync::Arc;
use std::time::Duration;

/// Parts that are under way at once: 8 MiB, beyond the bandwidth-delay product of 10 Gbit/s over 5 ms.
const PARTS_AHEAD: usize = 8;
/// How long one part has.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// A transfer of which no part was taken for so long is over; Raft asks again.
const STALLED: Duration = Duration::from_secs(30);
/// Before a part is tried again, and before a transfer that is over is told to Raft, which begins it again at once.
const AGAIN: Duration = Duration::from_millis(200);
/// A connection of its own, so that bulk data does not stand before Raft's messages.
const LANE: u8 = 1;

impl Snapshots {
    /// Streams the snapshot that `meta` names to `to`, and tells Raft how it went.
    pub(crate) fn send(self: &Arc<Self>, to: NodeId, term: u64, meta: SnapshotMeta) {
        let made = self.made.lock().clone().filter(|made| made.id == meta.data);
        let number = self.sending.begin(to);
        let inner = Arc::clone(self);
        self.parts.lifecycle.background("meta-send", async move {
            let parts = &inner.parts;
            let result = match made {
                Some(made) => stream(&inner, (to, number), term, meta, made).await,
                None => Ended::Unusable("it is not here any more".to_owned()),
            };
            let result = match result {
                Ended::Taken => SnapshotTransfer::Taken,
                Ended::Replaced => return,
                Ended::Broken(reason) => {
                    tracing::warn!(node = %parts.identity.node, %to, reason, "snapshot not sent");
                    parts.env.clock.sleep(AGAIN).await;
                    SnapshotTransfer::Broken
                }
                Ended::Unusable(reason) => {
                    tracing::warn!(node = %parts.identity.node, %to, reason, "snapshot of no use");
                    SnapshotTransfer::Unusable
                }
            };
            parts.raft.input(Input::SnapshotSent { to, result });
        });
    }
}

/// How a transfer ended.
enum Ended {
    Taken,
    /// A newer transfer to this member has begun, or this member does not lead any more: nobody waits for the result.
    Replaced,
    Broken(String),
    Unusable(String),
}

/// A part that is under way: where it ends, and what became of it.
type Answer = (u64, Result<(), CallError>);

struct Transfer {
    clock: Arc<dyn Clock>,
    channel: Channel,
    made: Made,
    file: Arc<dyn DiskFile>,
    head: SnapshotPart,
}

async fn stream(
    snapshots: &Snapshots,
    (to, number): (NodeId, u64),
    term: u64,
    meta: SnapshotMeta,
    made: Made,
) -> Ended {
    let parts = &snapshots.parts;
    let file = match parts.disk.open(&made.path, OpenOptions::default()) {
        Ok(file) => file,
        Err(error) => return Ended::Unusable(error.to_string()),
    };
    let Some(address) = parts.members.peers().address(to) else {
        return Ended::Broken("its address is not known".to_owned());
    };
    let transfer = Transfer {
        clock: Arc::clone(&parts.env.clock),
        channel: parts.channels.to_lane(&address, to, LANE),
        head: SnapshotPart {
            id: made.id.clone(),
            from: parts.identity.node.0,
            offset: 0,
            last: false,
            meta: Some(meta.into()),
            checksum: made.checksum,
            term,
        },
        made,
        file,
    };
    let replaced = || {
        let is_over = parts.lifecycle.is_stopped() || parts.raft.borrow_view().term != term;
        is_over || !snapshots.sending.counts(to, number)
    };
    transfer.run(replaced).await
}

impl Transfer {
    async fn run(&self, replaced: impl Fn() -> bool) -> Ended {
        let clock = &self.clock;
        let mut answers: FuturesOrdered<BoxFuture<'static, Answer>> = FuturesOrdered::new();
        // Where the next part begins, and how far the receiver is known to be.
        let (mut next, mut taken) = (0, 0);
        let mut progress = clock.now();
        loop {
            if replaced() {
                return Ended::Replaced;
            }
            while answers.len() < PARTS_AHEAD && next < self.made.bytes {
                let part = match self.part(next, clock.now().plus(PART_TIMEOUT)) {
                    Ok(part) => part,
                    Err(error) => return Ended::Unusable(format!("its file: {error}")),
                };
                next = part.0;
                answers.push_back(part.1);
            }
            let mut failure = match answers.next().await {
                Some((end, Ok(()))) => {
                    (taken, progress) = (end, clock.now());
                    None
                }
                Some((_, Err(error))) => Some(error),
                None => return Ended::Broken("nothing is under way".to_owned()),
            };
            if failure.is_some() {
                // What was sent behind it is refused, unless only the answer was lost.
                while let Some((end, answer)) = answers.next().await {
                    if answer.is_ok() && end > taken {
                        (taken, progress, failure) = (end, clock.now(), None);
                    }
                }
            }
            if taken == self.made.bytes {
                return Ended::Taken;
            }
            let Some(error) = failure else { continue };
            next = match &error {
                CallError::Refused(reply) if reply.code == Code::Corrupt.number() => {
                    return Ended::Unusable(error.to_string());
                }
                CallError::Refused(reply) if reply.code == Code::Conflict.number() => reply.expected,
                _ => taken,
            };
            if next > taken {
                (taken, progress) = (next, clock.now());
                continue;
            }
            if clock.now().since(progress) >= STALLED {
                return Ended::Broken(error.to_string());
            }
            taken = next;
            clock.sleep(AGAIN).await;
        }
    }

    /// Sends the part at `offset`; where it ends.
    fn part(&self, offset: u64, deadline: Monotonic) -> std::io::Result<(u64, BoxFuture<'static, Answer>)> {
        let mut data = vec![0; MAX_PAYLOAD_BYTES];
        let read = read_part(&*self.file, offset, &mut data)?;
        data.truncate(read);
        let end = offset + read as u64;
        if read == 0 || end > self.made.bytes {
            return Err(std::io::Error::other(
                "it has another length than it was made with",
            ));
        }
        let part = SnapshotPart {
            offset,
            last: end == self.made.bytes,
            ..self.head.clone()
        };
        let options = CallOptions::until(deadline).priority(Priority::Control);
        let payload = Payload::new(Bytes::from(data));
        let call = (self.channel).call::<SnapshotPart, Empty>(Kind::Snapshot, &part, Some(payload), options);
        let answer = async move { (end, call.await.map(|_| ())) };
        Ok((end, Box::pin(answer)))
    }
}
