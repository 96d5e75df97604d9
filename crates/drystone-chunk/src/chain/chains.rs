//! The chunks that are being written on this server: one [`Chain`] for each disk and chunk.

use super::core::Chain;
use crate::grants::{Admission, Permit};
use crate::locks;
use crate::signatures::Signatures;
use drystone_env::Monotonic;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::data::{Append, Hop};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::{Channel, Channels, refusal};
use drystone_types::Code;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Chains that are remembered. One is some hundred bytes; a writer has ten at a time.
const MOST_CHAINS: usize = 16_384;
/// A chain without a frame on its way is forgotten after this long; nothing is lost with it but a look at the
/// grant's signature.
const IDLE: Duration = Duration::from_secs(60);

/// The chunks that are being written, by (disk, chunk).
pub(crate) struct Chains {
    channels: Channels,
    signatures: Arc<Signatures>,
    written: Mutex<Written>,
}

type Written = BTreeMap<(u64, u64), Arc<WrittenChunk>>;

/// One chunk that is being written.
pub(crate) struct WrittenChunk {
    pub(crate) name: (u64, u64),
    pub(crate) me: ReplicaRecord,
    pub(crate) permit: Arc<Permit>,
    pub(crate) hops: Vec<Hop>,
    pub(crate) next: Option<Channel>,
    chain: Mutex<Chain>,
    used: AtomicU64,
}

impl WrittenChunk {
    pub(crate) fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock()
    }

    /// True if it broke and nothing of it is on its way: a writer that comes again begins anew.
    fn is_spent(&self) -> bool {
        let chain = self.chain();
        chain.is_broken() && chain.is_idle()
    }
}

impl Chains {
    pub(crate) fn new(channels: Channels, signatures: Arc<Signatures>) -> Self {
        Self {
            channels,
            signatures,
            written: Mutex::new(locks::CHAINS, Written::new()),
        }
    }

    /// Forgets chains on which nothing happens.
    pub(crate) fn sweep(&self, now: Monotonic) {
        let idle_since = now.0.saturating_sub(IDLE.as_micros() as u64);
        self.written
            .lock()
            .retain(|_, entry| entry.used.load(Relaxed) >= idle_since || !entry.chain().is_idle());
    }

    pub(crate) fn remove(&self, entry: &Arc<WrittenChunk>) {
        let mut entries = self.written.lock();
        if entries
            .get(&entry.name)
            .is_some_and(|there| Arc::ptr_eq(there, entry))
        {
            entries.remove(&entry.name);
        }
    }

    /// The chain of this append: the one that is there if it has the same permission and members and is not
    /// broken and done with. True if it was begun now.
    pub(crate) fn enter(
        &self,
        append: &Append,
        me: ReplicaRecord,
        now: Monotonic,
        admission: Admission,
    ) -> Result<(Arc<WrittenChunk>, bool), ErrorReply> {
        let name = (me.disk, append.chunk);
        let found = self.written.lock().get(&name).cloned();
        let known = found.as_ref().filter(|entry| entry.permit.token == append.grant);
        let verified;
        let permit = match known {
            Some(entry) => &entry.permit,
            None => {
                verified = Arc::new(self.signatures.permit(&append.grant)?);
                &verified
            }
        };
        permit.admit(admission, (append.chunk, append.epoch), &me, &append.chain)?;
        if let Some(entry) = known
            && entry.me == me
            && entry.hops == append.chain
            && !entry.is_spent()
        {
            entry.used.store(now.0, Relaxed);
            return Ok((Arc::clone(entry), false));
        }
        let permit = Arc::clone(permit);
        if self.written.lock().len() >= MOST_CHAINS {
            self.sweep(now);
        }
        let below = append.chain.iter().filter_map(|hop| hop.replica).collect();
        let entry = Arc::new(WrittenChunk {
            name,
            me,
            permit,
            hops: append.chain.clone(),
            next: append.chain.first().map(|hop| self.channels.to(&hop.address)),
            chain: Mutex::new(locks::CHAIN, Chain::new(me, below)),
            used: AtomicU64::new(now.0),
        });
        let mut entries = self.written.lock();
        if entries.len() >= MOST_CHAINS && !entries.contains_key(&name) {
            return Err(refusal(Code::Busy, "too many chunks are being written here"));
        }
        entries.insert(name, Arc::clone(&entry));
        Ok((entry, true))
    }
}
