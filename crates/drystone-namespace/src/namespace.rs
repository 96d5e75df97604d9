//! Open, apply and flush.
//!
//! Owns the order of things: one entry after the other, all of a command or nothing of it, one batch on its way
//! to the store at a time. What a command does is in the file of its noun.

use crate::entry::{ApplyError, UnknownEntry};
use crate::key::{local, numbers, table};
use crate::read::Caller;
use crate::records::{ChainRecord, RangeRecord, StateRecord, decode, decode_slice};
use crate::refusal::ReadError;
use crate::store::{Batch, Order, OrderedStore, ReadOnly, StoreError};
use crate::tables::{Layer, LayerMerge, MergedLayers, OldLayers, Tables};
use crate::{chain, nodes::Nodes};
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{Entry, Op, Origin, Outcome};
use drystone_proto::grant::ClusterKey;
use drystone_proto::record::RECORD_VERSION;
use drystone_types::{ChunkId, Code, HistoryId, LogIndex, ShardId, Since};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a namespace is of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shard whose ids it hands out.
    pub shard: ShardId,
    /// Checks receipts.
    pub key: ClusterKey,
    /// Must be that of the store.
    pub history: HistoryId,
}

/// Why a store cannot be opened as a namespace. But for `Store`, the voter wipes it and takes a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed or a record is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A batch is missing between others, or the state is not that of the last one.
    #[error("the store has a hole at batch {batch}: {detail}")]
    Hole {
        /// Where.
        batch: u64,
        /// How it shows.
        detail: String,
    },
    /// A snapshot was being installed when the process stopped.
    #[error("a snapshot was not installed completely")]
    Unfinished,
    /// Another version of the software wrote it. Nothing is changed; it is no damage.
    #[error(
        "the state was written in format {found}, and this version reads format {RECORD_VERSION}: start the version that \
         wrote it, copy the files out and into a new cluster"
    )]
    Format {
        /// First byte of its records.
        found: u8,
    },
    /// The store is of another history or shard.
    #[error("the store is of history {history}, shard {shard}")]
    Stranger {
        /// Its history.
        history: HistoryId,
        /// Its shard.
        shard: u32,
    },
}

/// The namespace's state machine; see the crate's page for how it is driven.
pub struct Namespace<S> {
    pub(crate) tables: Tables<S>,
    pub(crate) settings: Settings,
    pub(crate) state: StateRecord,
    pub(crate) nodes: Arc<Nodes>,
    /// Ranges of chunk ids that are not wholly below the floor, by first id.
    pub(crate) ranges: Arc<BTreeMap<u64, RangeRecord>>,
    chain: ChainRecord,
    in_flight: Option<u64>,
}

/// What all parts of one command share.
pub(crate) struct Context {
    pub(crate) index: u64,
    pub(crate) since: u64,
    /// Log time: what expires expires by it.
    pub(crate) now: u64,
    /// Wall time: for the times of files, and nothing that is decided.
    pub(crate) wall: u64,
    pub(crate) caller: Caller,
}

impl<S: OrderedStore> Namespace<S> {
    /// Opens the store: an empty one begins at index 0; otherwise the batch chain is checked.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(store: Arc<S>, settings: Settings) -> Result<Self, OpenError> {
        if store.get(local(chain::INSTALLING).as_slice())?.is_some() {
            return Err(OpenError::Unfinished);
        }
        let (high, low) = halves(settings.history);
        let shard = u32::from(settings.shard.0);
        let base = settings.shard.base();
        let key = local(chain::STATE);
        let state: StateRecord = match store.get(key.as_slice())? {
            Some(value) if value.first().is_some_and(|version| *version != RECORD_VERSION) => {
                return Err(OpenError::Format { found: value[0] });
            }
            Some(value) => decode(key.as_slice(), &value)?,
            None => StateRecord {
                history_high: high,
                history_low: low,
                shard,
                next_inode: base + 1,
                next_chunk: base + 1,
                grant_floor: base,
                ..StateRecord::default()
            },
        };
        if (state.history_high, state.history_low, state.shard) != (high, low, shard) {
            let history = (u128::from(state.history_high) << 64) | u128::from(state.history_low);
            return Err(OpenError::Stranger {
                history: HistoryId(history.to_be_bytes()),
                shard: state.shard,
            });
        }
        let chain = chain::check(&*store, &state)?;
        let nodes = Arc::new(Nodes::load(&*store)?);
        let ranges = Arc::new(load_ranges(&*store)?);
        Ok(Self {
            tables: Tables::new(store),
            settings,
            state,
            nodes,
            ranges,
            chain,
            in_flight: None,
        })
    }

    /// Applies one entry and answers it; a refusal is an outcome with a code and changes nothing but the
    /// session. Deterministic. Entries come in log order; an index that was applied already is a bug.
    ///
    /// # Errors
    /// [`ApplyError`]: the entry is not applied, and this voter must stop.
    pub fn apply(&mut self, index: LogIndex, entry: &Entry) -> Result<Outcome, ApplyError> {
        assert!(
            index.0 > self.state.applied,
            "{index} is applied already (at {})",
            self.state.applied
        );
        let op = entry.command.as_ref().and_then(|command| command.op.as_ref());
        let op = op.ok_or_else(|| UnknownEntry("it names no command that this version knows".to_owned()))?;
        let before = self.state;
        self.state.time = self.state.time.max(entry.time);
        let context = Context {
            index: index.0,
            since: Since::new(index, 0).0,
            now: self.state.time,
            wall: if entry.wall == 0 {
                self.state.time
            } else {
                entry.wall
                    + if planted(Bug::ApplyLooksAround) {
                        self.tables.overlay_len() as u64
                    } else {
                        0
                    }
            },
            caller: Caller::of(entry.origin.as_ref()),
        };
        match self.run(&context, entry.origin.as_ref(), op) {
            Ok(outcome) => {
                self.tables.commit();
                self.state.applied = index.0;
                check_step(&before, &self.state);
                check_answer(&outcome);
                Ok(outcome)
            }
            Err(error) => {
                self.tables.rollback();
                self.state = before;
                Err(error.into())
            }
        }
    }

    /// Passes an entry that holds no command (a membership change, a leader's first entry).
    pub fn skip(&mut self, index: LogIndex) {
        assert!(
            index.0 > self.state.applied,
            "{index} is applied already (at {})",
            self.state.applied
        );
        self.state.applied = index.0;
    }

    /// The session's part, the idempotency key's part, then the command itself.
    fn run(&mut self, cx: &Context, origin: Option<&Origin>, op: &Op) -> Result<Outcome, StoreError> {
        let Some(origin) = origin else {
            return self.attempt(|ns| ns.perform(cx, op));
        };
        match op {
            Op::OpenSession(open) => return self.attempt(|ns| ns.open_session(cx, origin, open)),
            Op::CloseSession(_) => return self.attempt(|ns| ns.close_session(cx, origin)),
            _ => {}
        }
        let session = match self.enter_session(cx, origin) {
            Ok(crate::session::Entered::Repeated(outcome)) => return Ok(outcome),
            Ok(crate::session::Entered::Fresh(session)) => session,
            Err(ReadError::Refused(refusal)) => return Ok(refusal.outcome()),
            Err(ReadError::Store(error)) => return Err(error),
        };
        self.tables.commit();
        let outcome = self.attempt(|ns| ns.with_idempotency_key(cx, origin, |ns| ns.perform(cx, op)))?;
        self.leave_session(cx, origin, session, &outcome);
        Ok(outcome)
    }

    /// Runs `command`; a refusal takes back everything it changed.
    fn attempt(
        &mut self,
        command: impl FnOnce(&mut Self) -> Result<Outcome, ReadError>,
    ) -> Result<Outcome, StoreError> {
        let before = self.state;
        match command(self) {
            Ok(outcome) => {
                self.tables.commit();
                Ok(outcome)
            }
            Err(ReadError::Refused(refusal)) => {
                self.tables.rollback();
                self.state = before;
                Ok(refusal.outcome())
            }
            Err(ReadError::Store(error)) => Err(error),
        }
    }

    fn perform(&mut self, cx: &Context, op: &Op) -> Result<Outcome, ReadError> {
        match op {
            Op::Publish(command) => self.publish(cx, command),
            Op::MakeDirectory(command) => self.make_directory(cx, command),
            Op::MakeSymbolicLink(command) => self.make_symbolic_link(cx, command),
            Op::Rename(command) => self.rename(cx, command),
            Op::Delete(command) => self.delete(cx, command),
            Op::SetAttributes(command) => self.set_attributes(cx, command),
            Op::Stage(command) => self.stage(cx, command),
            Op::StageExtend(command) => self.stage_extend(cx, command),
            Op::StageAbandon(command) => self.stage_abandon(cx, command),
            Op::ConvertInline(command) => self.convert_inline(cx, command),
            Op::OpenSession(_) | Op::CloseSession(_) => {
                crate::refusal::refuse(Code::Invalid, "a session command needs an origin")
            }
            op if op.is_internal() && !cx.caller.is_superuser() => crate::refusal::refuse(
                Code::Denied,
                "only the cluster itself and the superuser may do this",
            ),
            Op::Initialize(command) => self.initialize(cx, command),
            Op::AllocateRange(command) => self.allocate_range(cx, command),
            Op::RaiseGrantFloor(command) => self.raise_grant_floor(command),
            Op::Housekeep(command) => self.housekeep(cx, command),
            Op::ForgetReplicas(command) => self.forget_replicas(cx, command),
            Op::RegisterNode(command) => self.register_node(cx, command),
            Op::UpdateNode(command) => self.update_node(cx, command),
            Op::ReleaseDeletion(_) => Ok(self.release_deletion()),
            Op::AbandonChunks(command) => self.abandon_chunks(cx, command),
        }
    }

    /// Highest index applied; 0 = none.
    pub fn applied(&self) -> LogIndex {
        LogIndex(self.state.applied)
    }

    /// Log time of the last entry, microseconds since 1970. A leader proposes nothing below it.
    pub fn log_time(&self) -> u64 {
        self.state.time
    }

    /// Commits with chunk ids below it are refused.
    pub fn grant_floor(&self) -> ChunkId {
        ChunkId(self.state.grant_floor)
    }

    /// The id after the last one allocated: the highest that the floor can be raised to.
    pub fn next_chunk(&self) -> ChunkId {
        ChunkId(self.state.next_chunk)
    }

    /// True after the first `Initialize`.
    pub fn initialized(&self) -> bool {
        self.state.since != 0
    }

    /// The store below.
    pub fn store(&self) -> &Arc<S> {
        self.tables.store()
    }

    /// Estimated memory of changes that no batch has taken yet: the caller flushes, and stops applying while a
    /// batch is on its way and this is above its bound.
    pub fn overlay_bytes(&self) -> usize {
        self.tables.overlay_bytes()
    }

    /// Number of changed records that no batch has taken yet.
    pub fn overlay_len(&self) -> usize {
        self.tables.overlay_len()
    }

    /// The namespace as it is now, for reads that take long or wait for the disk: they need no lock on this one, which
    /// goes on. Costs little: what was applied since the last view or batch is shared with it, not copied. Each view that
    /// is made after a command adds a layer to look through until the next batch, so whoever makes views also merges layers
    /// ([`Namespace::begin_merge`]).
    ///
    /// # Errors
    /// The store failed.
    pub fn view(&mut self) -> Result<NamespaceView, StoreError> {
        let store = ReadOnly::new(self.tables.store().view()?);
        Ok(NamespaceView(Namespace {
            tables: Tables::over(Arc::new(store), self.tables.seal()),
            settings: self.settings.clone(),
            state: self.state,
            nodes: Arc::clone(&self.nodes),
            ranges: Arc::clone(&self.ranges),
            chain: self.chain,
            in_flight: None,
        }))
    }

    /// Layers that views have left and that are to be merged, if there are any and no others are being merged. Merge them
    /// without a lock on this namespace ([`LayerMerge::run`]), then give them back.
    pub fn begin_merge(&mut self) -> Option<LayerMerge> {
        self.tables.begin_merge()
    }

    /// What [`Namespace::begin_merge`] gave is merged. What is given back is dropped without a lock on this namespace.
    pub fn end_merge(&mut self, merged: MergedLayers) -> OldLayers {
        self.tables.end_merge(merged)
    }

    /// Moves the overlay into a batch for the store, in O(1); readers see it all the while. `None` while
    /// another batch is on its way, or if nothing was applied since the last.
    pub fn freeze(&mut self) -> Option<FlushBatch> {
        if self.in_flight.is_some() || self.state.applied == self.chain.applied {
            return None;
        }
        let layers = self.tables.freeze()?;
        let number = self.chain.number + 1;
        let state = StateRecord {
            batch: number,
            ..self.state
        };
        self.in_flight = Some(number);
        Some(FlushBatch {
            layers,
            state,
            previous: self.chain,
        })
    }

    /// The batch is written and synced. What is given back is dropped without a lock on this namespace.
    pub fn flushed(&mut self, flushed: Flushed) -> OldLayers {
        assert_eq!(
            self.in_flight,
            Some(flushed.link.number),
            "the batch that is on its way"
        );
        assert_eq!(
            flushed.link.number,
            self.chain.number + 1,
            "batches are written one after the other"
        );
        assert!(
            self.chain.applied <= flushed.link.applied && flushed.link.applied <= self.state.applied,
            "a batch carries what was applied and no store had yet"
        );
        self.in_flight = None;
        self.chain = flushed.link;
        self.tables.thaw(flushed.layer)
    }

    /// Everything up to this index is in the store, synced: the log below it (and it) may be purged.
    pub fn synced_index(&self) -> LogIndex {
        LogIndex(self.chain.applied)
    }

    /// Number of the last batch in the store.
    pub fn batch(&self) -> u64 {
        self.chain.number
    }

    /// A hash over the whole replicated state: equal on replicas that applied the same log, whatever they
    /// flushed. Reads every record, so it is for tests and checks by hand.
    ///
    /// # Errors
    /// The store failed.
    pub fn state_hash(&self) -> Result<u64, StoreError> {
        let state = StateRecord {
            batch: 0,
            ..self.state
        };
        let mut hash = chain::Digest::new(0);
        hash.add(&prost::Message::encode_to_vec(&state));
        self.tables
            .scan(&[table::INODE], &[table::END], Order::Up, &mut |key, value| {
                hash.add(key);
                hash.add(value);
                ControlFlow::Continue(())
            })?;
        Ok(hash.finish())
    }
}

/// A namespace as it was at some index, to be read; see [`Namespace::view`].
pub struct NamespaceView(Namespace<ReadOnly>);

impl std::ops::Deref for NamespaceView {
    type Target = Namespace<ReadOnly>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A numbered batch on its way to the store; see [`Namespace::freeze`].
pub struct FlushBatch {
    layers: Vec<Arc<Layer>>,
    state: StateRecord,
    previous: ChainRecord,
}

/// Word of a batch that is in the store.
#[derive(Debug)]
#[must_use = "tell the namespace"]
pub struct Flushed {
    link: ChainRecord,
    layer: Arc<Layer>,
}

impl FlushBatch {
    /// Its number; they grow by one.
    pub fn number(&self) -> u64 {
        self.state.batch
    }

    /// The state after this index.
    pub fn applied(&self) -> LogIndex {
        LogIndex(self.state.applied)
    }

    /// Number of records it changes; one that was changed on both sides of a view counts twice.
    pub fn len(&self) -> usize {
        self.layers.iter().map(|layer| layer.len()).sum()
    }

    /// True if it only carries the applied index.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes and syncs the batch. Blocks; call it without a lock on the namespace.
    ///
    /// # Errors
    /// The store failed: this voter must stop.
    pub fn write_to<S: OrderedStore + ?Sized>(self, store: &S) -> Result<Flushed, StoreError> {
        let mut batch = Batch::of_layers(self.layers);
        let layer = Arc::clone(batch.layer());
        if planted(Bug::AppliedApart) {
            store.write(&std::mem::take(&mut batch))?;
        }
        let link = chain::finish(&mut batch, &self.state, &self.previous);
        store.write(&batch)?;
        store.sync()?;
        Ok(Flushed { link, layer })
    }
}

/// What no command does, whichever it was: these numbers only grow, and no counter passes another that bounds it.
fn check_step(before: &StateRecord, after: &StateRecord) {
    assert!(after.time >= before.time, "log time never falls");
    assert!(
        after.grant_floor >= before.grant_floor,
        "the grant floor never falls"
    );
    assert!(
        after.session_floor >= before.session_floor,
        "the session floor never falls"
    );
    assert!(
        after.session_floor <= after.applied,
        "sessions are opened by what was applied"
    );
    assert!(
        after.next_inode >= before.next_inode && after.next_chunk >= before.next_chunk,
        "ids are never given twice"
    );
    assert!(
        after.grant_floor <= after.next_chunk,
        "the floor ends where ids end"
    );
    assert!(
        after.applied > before.applied,
        "an entry is applied once, in its order"
    );
    assert!(
        after.inline_bytes <= after.bytes,
        "inline bytes are bytes of files"
    );
    let counters = [
        after.files,
        after.directories,
        after.links,
        after.bytes,
        after.inline_bytes,
        after.chunks,
        after.chunk_bytes,
        after.doomed,
        after.sessions,
        after.closed_sessions,
        after.abandoned,
        after.staged,
    ];
    assert!(
        counters.iter().all(|counter| *counter < 1 << 63),
        "no counter falls below nothing: {counters:?}"
    );
    assert_eq!(
        (after.history_high, after.history_low, after.shard),
        (before.history_high, before.history_low, before.shard),
        "no command changes what the state is of"
    );
}

/// A refusal says why, and names nothing that was made or changed.
fn check_answer(outcome: &Outcome) {
    if outcome.code == 0 {
        return;
    }
    let refusal = Outcome {
        code: outcome.code,
        message: outcome.message.clone(),
        ..Outcome::default()
    };
    assert_eq!(*outcome, refusal, "a refused command has done nothing");
}

/// A history id as two numbers.
pub(crate) fn halves(history: HistoryId) -> (u64, u64) {
    let number = u128::from_be_bytes(history.0);
    ((number >> 64) as u64, number as u64)
}

fn load_ranges<S: OrderedStore>(store: &S) -> Result<BTreeMap<u64, RangeRecord>, StoreError> {
    let mut ranges = BTreeMap::new();
    let mut fault = None;
    store.scan(
        &[table::RANGE],
        &[table::RANGE + 1],
        Order::Up,
        &mut |key, value| match (crate::key::number_at(key, 1), decode_slice(key, value)) {
            (Some(first), Ok(range)) => {
                ranges.insert(first, range);
                ControlFlow::Continue(())
            }
            (None, _) => {
                fault = Some(crate::records::corrupt(key, "a first chunk id", "a shorter key"));
                ControlFlow::Break(())
            }
            (_, Err(error)) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    fault.map_or(Ok(ranges), Err)
}

/// The key of an inode.
pub(crate) fn inode_key(id: u64) -> crate::key::Key {
    numbers(table::INODE, [id])
}
