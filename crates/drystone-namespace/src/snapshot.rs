//! Snapshots: the whole state at the applied index of a batch, as a stream of bytes.
//!
//! [`export`] reads a [`View`] of a store, so it needs no lock on the namespace and runs while it goes on; what
//! it exports is the state at the last batch before the view was made (flush first for a newer one).
//! [`import`] fills an empty store; until it is finished the store does not open as a namespace.
//!
//! ```text
//! header   magic "DRYSNAP1" | body
//! block*   length u32 | crc32c u32 | records: (key length u32, value length u32, key, value)*
//! trailer  length 0xffffffff | crc32c u32 | records u64 | digest u64
//! ```
//! Integers are little-endian; a block is at most about 1 MiB and holds whole records; the first record is the
//! state, the others follow in ascending order of their keys. The digest runs over all keys and values. Limits: a
//! snapshot is taken whole, it is not resumed.

use crate::chain::{Digest, INSTALLING, STATE};
use crate::key::{local, table};
use crate::namespace::{Namespace, Settings, halves};
use crate::records::{StateRecord, decode_slice, encode};
use crate::store::{Batch, Insert, Order, OrderedStore, StoreError, View};
use bytes::{Buf, Bytes, BytesMut};
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::Outcome;
use drystone_types::{HistoryId, LogIndex};
use std::ops::ControlFlow;

const MAGIC: &[u8; 8] = b"DRYSNAP1";
/// A block ends with the record that reaches this.
const BLOCK_BYTES: usize = 1 << 20;
/// No block is longer: a record has at most a few hundred KiB.
const MAX_BLOCK_BYTES: usize = 8 << 20;
const TRAILER: u32 = u32::MAX;
/// What a new history leaves out of log indexes and ids: more than any log held that could have been lost, and
/// tens of thousands of times less than there are.
const HISTORY_GAP: u64 = 1 << 32;

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// Applied index of the state.
    pub applied: LogIndex,
    /// Log time of the state, microseconds since 1970.
    pub time: u64,
    /// Records, the state's included.
    pub records: u64,
    /// Digest over all of them.
    pub digest: u64,
}

/// Why a snapshot was not installed. The store is to be wiped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream is not a snapshot, or damaged, or ended early.
    #[error("snapshot damaged at byte {at}: {detail}")]
    Damaged {
        /// Where in the stream.
        at: u64,
        /// What was wrong.
        detail: String,
    },
    /// The snapshot is of another history or shard.
    #[error("the snapshot is of another history or shard")]
    Stranger,
    /// The store holds something.
    #[error("the store is not empty")]
    NotEmpty,
}

/// Writes the state in `view` to `sink`, part by part of about 1 MiB. `None` if the view holds no batch yet. An
/// error of the sink ends it.
///
/// # Errors
/// The store failed, or what the sink said.
pub fn export<E: From<StoreError>>(
    view: &dyn View,
    sink: &mut dyn FnMut(Bytes) -> Result<(), E>,
) -> Result<Option<SnapshotSummary>, E> {
    let key = local(STATE);
    let Some(value) = view.get(key.as_slice())? else {
        return Ok(None);
    };
    let state: StateRecord = decode_slice(key.as_slice(), &value)?;
    sink(Bytes::from_static(MAGIC))?;
    let mut writer = Writer {
        block: BytesMut::new(),
        digest: Digest::new(0),
        records: 0,
    };
    writer.add(key.as_slice(), &value);
    let mut fault = None;
    view.scan(&[table::INODE], &[table::END], Order::Up, &mut |key, value| {
        if planted(Bug::SnapshotWithoutSessions) && key.first() == Some(&table::SESSION) {
            return ControlFlow::Continue(());
        }
        writer.add(key, value);
        if writer.block.len() < BLOCK_BYTES {
            return ControlFlow::Continue(());
        }
        match sink(writer.take()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    if !writer.block.is_empty() {
        sink(writer.take())?;
    }
    let summary = SnapshotSummary {
        applied: LogIndex(state.applied),
        time: state.time,
        records: writer.records,
        digest: writer.digest.finish(),
    };
    let mut body = Vec::with_capacity(16);
    body.extend_from_slice(&summary.records.to_le_bytes());
    body.extend_from_slice(&summary.digest.to_le_bytes());
    sink(framed(TRAILER, &body))?;
    Ok(Some(summary))
}

impl<S: OrderedStore> Namespace<S> {
    /// Makes this state, which may lack the end of its history, the beginning of another one. Log indexes and ids
    /// go on behind everything that the lost end can have used, so that none is used twice: a chunk server may
    /// hold replicas of chunks that this state never heard of, and orders are told apart by log index. Nothing is
    /// deleted from here on until an operator releases it. The next batch carries all of it.
    pub fn begin_history(&mut self, history: HistoryId) {
        (self.state.history_high, self.state.history_low) = halves(history);
        self.settings.history = history;
        self.state.applied += HISTORY_GAP;
        self.state.next_inode += HISTORY_GAP;
        self.state.next_chunk += HISTORY_GAP;
        self.state.deletion_held = true;
    }

    pub(crate) fn release_deletion(&mut self) -> Outcome {
        self.state.deletion_held = false;
        Outcome::default()
    }

    /// True after a restore, until an operator has looked: no replica may be ordered away.
    pub fn deletion_held(&self) -> bool {
        self.state.deletion_held
    }
}

fn framed(length: u32, body: &[u8]) -> Bytes {
    let mut part = Vec::with_capacity(8 + body.len());
    part.extend_from_slice(&length.to_le_bytes());
    part.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    part.extend_from_slice(body);
    part.into()
}

struct Writer {
    block: BytesMut,
    digest: Digest,
    records: u64,
}

impl Writer {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.block.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.block.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.digest.add(key);
        self.digest.add(value);
        self.records += 1;
    }

    fn take(&mut self) -> Bytes {
        let body = self.block.split();
        framed(body.len() as u32, &body)
    }
}

/// Takes the next bytes of a stream.
pub type Feed<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), ImportError>;

/// Installs a snapshot into an empty store: `feed` is called once, and hands the stream on in parts of any size, in
/// order. The store opens as a namespace only if all of the stream came and is whole; durable when this returns.
///
/// # Errors
/// [`ImportError`], or what `feed` said; the store is to be wiped then.
pub fn import<S: OrderedStore + ?Sized, E: From<ImportError>>(
    store: &S,
    settings: &Settings,
    feed: impl FnOnce(Feed<'_>) -> Result<(), E>,
) -> Result<SnapshotSummary, E> {
    begin(store)?;
    let mut reader = Reader::new(settings);
    let mut feed = Some(feed);
    let mut ended = Err(reader.damaged("the store asked for nothing").into());
    let loaded = store.load(&mut |insert| {
        if let Some(feed) = feed.take() {
            let fed = feed(&mut |part| reader.add(part, insert));
            ended = fed.and_then(|()| reader.ended().map_err(E::from));
        }
        let gave_up = |_: &E| StoreError::Io {
            what: "loading a snapshot",
            reason: "it was given up".to_owned(),
        };
        ended.as_ref().map(|_| ()).map_err(gave_up)
    });
    let (summary, state) = ended?;
    loaded.map_err(ImportError::Store)?;
    finish(store, state)?;
    Ok(summary)
}

/// Marks the empty store as one that does not open.
fn begin<S: OrderedStore + ?Sized>(store: &S) -> Result<(), ImportError> {
    let mut empty = true;
    store.scan(&[table::LOCAL], &[table::END], Order::Up, &mut |_, _| {
        empty = false;
        ControlFlow::Break(())
    })?;
    if !empty {
        return Err(ImportError::NotEmpty);
    }
    let mut batch = Batch::default();
    batch.push(local(INSTALLING).as_slice(), Some(Bytes::from_static(&[1])));
    store.write(&batch)?;
    store.sync()?;
    Ok(())
}

/// Makes the filled store one that opens.
fn finish<S: OrderedStore + ?Sized>(store: &S, state: StateRecord) -> Result<(), ImportError> {
    store.sync()?;
    let mut batch = Batch::default();
    let state = StateRecord { batch: 1, ..state };
    batch.push(local(STATE).as_slice(), Some(encode(&state)));
    let link = crate::chain::finish(&mut batch, &state, &crate::records::ChainRecord::default());
    assert_eq!(link.number, 1, "the chain begins anew");
    batch.push(local(INSTALLING).as_slice(), None);
    store.write(&batch)?;
    store.sync()?;
    Ok(())
}

/// Reads the stream and checks all of it.
struct Reader<'a> {
    settings: &'a Settings,
    buffer: BytesMut,
    /// Bytes of the stream that were consumed.
    at: u64,
    begun: bool,
    state: Option<StateRecord>,
    /// The key before, to see that they ascend.
    last: BytesMut,
    digest: Digest,
    records: u64,
    finished: Option<SnapshotSummary>,
}

impl<'a> Reader<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            buffer: BytesMut::new(),
            at: 0,
            begun: false,
            state: None,
            last: BytesMut::new(),
            digest: Digest::new(0),
            records: 0,
            finished: None,
        }
    }

    fn add(&mut self, part: &[u8], insert: Insert<'_>) -> Result<(), ImportError> {
        if self.finished.is_some() && !part.is_empty() {
            return Err(self.damaged("bytes after the trailer"));
        }
        self.buffer.extend_from_slice(part);
        if !self.begun && self.buffer.len() >= MAGIC.len() {
            if !self.buffer.starts_with(MAGIC) {
                return Err(self.damaged("not a snapshot"));
            }
            self.consume(MAGIC.len());
            self.begun = true;
        }
        while self.begun && self.finished.is_none() && self.buffer.len() >= 8 {
            let mut head = &self.buffer[..8];
            let (length, sum) = (head.get_u32_le(), head.get_u32_le());
            let body = if length == TRAILER { 16 } else { length as usize };
            if body > MAX_BLOCK_BYTES || body == 0 {
                return Err(self.damaged(format!("a block of {body} bytes")));
            }
            if self.buffer.len() < 8 + body {
                break;
            }
            self.consume(8);
            if crc32c::crc32c(&self.buffer[..body]) != sum {
                return Err(self.damaged("the checksum of a block does not match"));
            }
            let block = self.buffer.split_to(body).freeze();
            if length == TRAILER {
                self.trailer(block)?
            } else {
                self.block(&block, insert)?
            }
            self.at += body as u64;
        }
        if self.finished.is_some() && !self.buffer.is_empty() {
            return Err(self.damaged("bytes after the trailer"));
        }
        Ok(())
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.at += bytes as u64;
    }

    fn damaged(&self, detail: impl Into<String>) -> ImportError {
        ImportError::Damaged {
            at: self.at,
            detail: detail.into(),
        }
    }

    fn block(&mut self, block: &[u8], insert: Insert<'_>) -> Result<(), ImportError> {
        let mut rest = block;
        while !rest.is_empty() {
            let torn = || self.damaged("a torn record");
            let (mut head, body) = rest.split_at_checked(8).ok_or_else(torn)?;
            let (key_len, value_len) = (head.get_u32_le() as usize, head.get_u32_le() as usize);
            let (key, body) = body.split_at_checked(key_len).ok_or_else(torn)?;
            let (value, body) = body.split_at_checked(value_len).ok_or_else(torn)?;
            rest = body;
            self.digest.add(key);
            self.digest.add(value);
            self.records += 1;
            if self.state.is_none() {
                if key != local(STATE).as_slice() {
                    return Err(self.damaged("the first record is not the state"));
                }
                let state = decode_slice(key, value).map_err(|error| self.damaged(error.to_string()))?;
                self.state = Some(self.check_state(state)?);
                continue;
            }
            if !key
                .first()
                .is_some_and(|byte| (table::INODE..table::END).contains(byte))
            {
                return Err(self.damaged("a record of no table"));
            }
            if key <= &self.last[..] {
                return Err(self.damaged("a key that is not above the one before"));
            }
            self.last.clear();
            self.last.extend_from_slice(key);
            insert(key, value)?;
        }
        Ok(())
    }

    fn check_state(&self, state: StateRecord) -> Result<StateRecord, ImportError> {
        let (high, low) = halves(self.settings.history);
        let ours = (high, low, u32::from(self.settings.shard.0));
        if (state.history_high, state.history_low, state.shard) != ours {
            return Err(ImportError::Stranger);
        }
        Ok(state)
    }

    fn trailer(&mut self, mut body: Bytes) -> Result<(), ImportError> {
        let Some(state) = self.state else {
            return Err(self.damaged("there is no state in it"));
        };
        let (records, digest) = (body.get_u64_le(), body.get_u64_le());
        if (records, digest) != (self.records, self.digest.finish()) {
            return Err(self.damaged(format!(
                "{records} records expected, {} found, or others",
                self.records
            )));
        }
        self.finished = Some(SnapshotSummary {
            applied: LogIndex(state.applied),
            time: state.time,
            records,
            digest,
        });
        Ok(())
    }

    /// What it was of, if all of it came.
    fn ended(&self) -> Result<(SnapshotSummary, StateRecord), ImportError> {
        match (self.finished, self.state) {
            (Some(summary), Some(state)) => Ok((summary, state)),
            _ => Err(self.damaged("the stream ended early")),
        }
    }
}
