//! Snapshots on their way: made from a view of the store, streamed beside Raft, received into a file, installed.
//!
//! At most one that was made is kept, and one per sender that is arriving. A snapshot is believed only after its
//! whole checksum matched here and the importer has checked every record; a crash at any point leaves the state
//! that was there before, or the new one.

use crate::layout;
use crate::message::ToRaft;
use crate::shared::{Shared, State, lock};
use crate::store::{FjallStore, StoreOptions};
use bytes::Bytes;
use drystone_env::Rng;
use drystone_namespace::{ImportError, Importer, Namespace, Settings, StoreError, View, export};
use drystone_proto::cluster::{Empty, ErrorReply};
use drystone_proto::raft::SnapshotPart;
use drystone_proto::{Kind, Priority};
use drystone_raft::{Input, SnapshotMeta};
use drystone_rpc::{CallOptions, Payload, refusal};
use drystone_types::{Code, MAX_PAYLOAD_BYTES, NodeId, ShardId, Term};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A part that is not taken within this time ends the transfer; Raft asks again.
const PART_TIMEOUT: Duration = Duration::from_secs(30);
/// A lane of its own, so that bulk data does not stand before Raft's messages.
const LANE: u8 = 1;
/// Read and written at once when installing.
const STEP: usize = 1 << 20;

/// See the module.
#[derive(Default)]
pub(crate) struct Snapshots {
    made: Mutex<Option<(Bytes, PathBuf)>>,
    arriving: Mutex<BTreeMap<u64, Arriving>>,
}

struct Arriving {
    id: Bytes,
    path: PathBuf,
    file: File,
    offset: u64,
    checksum: u32,
    /// All of it has come: it stays until Raft has it installed or has no use for it.
    complete: bool,
}

/// Why a received snapshot was not installed; the old state is still there.
#[derive(Debug)]
pub(crate) enum NotInstalled {
    /// Its file is gone or no good: another one will come.
    Unusable(String),
    /// The store failed: this server must stop.
    Store(String),
}

impl NotInstalled {
    fn unusable(error: impl std::fmt::Display) -> Self {
        NotInstalled::Unusable(error.to_string())
    }

    fn store(error: impl std::fmt::Display) -> Self {
        NotInstalled::Store(error.to_string())
    }
}

impl From<ImportError> for NotInstalled {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Damaged { .. } | ImportError::Stranger => Self::unusable(error),
            ImportError::Store(_) | ImportError::NotEmpty => Self::store(error),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the store holds no batch yet")]
    Empty,
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn invalid(message: impl Into<String>) -> ErrorReply {
    refusal(Code::Invalid, message)
}

impl Snapshots {
    /// Exports `view` on a thread of its own and tells Raft.
    pub(crate) fn make(&self, shared: &Arc<Shared>, view: Box<dyn View>) {
        let shared_too = Arc::clone(shared);
        shared.thread("meta-snapshot", move || {
            let shared = shared_too;
            match shared.snapshots.export(&shared, &*view) {
                Ok((index, id)) => {
                    tracing::info!(node = %shared.identity.node, index, "snapshot made");
                    shared.to_raft(ToRaft::Input(Input::SnapshotMade {
                        index: index.into(),
                        id,
                    }));
                }
                Err(error) => {
                    tracing::warn!(node = %shared.identity.node, %error, "snapshot not made");
                    shared.to_raft(ToRaft::Input(Input::SnapshotNotMade));
                }
            }
        });
    }

    fn export(&self, shared: &Shared, view: &dyn View) -> Result<(u64, Bytes), MakeError> {
        let mut id = vec![0; 16];
        let now = shared.env.clock.now().0;
        shared
            .env
            .rng(&format!("snapshot {} {now}", shared.boot.random))
            .fill(&mut id);
        let id = Bytes::from(id);
        let path = layout::snapshot_file(&shared.config.data, &format!("out-{}", hex(&id)));
        let mut file = File::create(&path)?;
        let summary =
            export::<MakeError>(view, &mut |part| Ok(file.write_all(&part)?))?.ok_or(MakeError::Empty)?;
        let old = lock(&self.made).replace((id.clone(), path));
        if let Some((_, old)) = old {
            // Whoever still streams it has it open; the name is not needed any more.
            let _ = std::fs::remove_file(old);
        }
        Ok((summary.applied.0, id))
    }

    /// Streams the snapshot that `meta` names to `to`, and tells Raft how it went.
    pub(crate) fn send(&self, shared: &Arc<Shared>, to: NodeId, term: u64, meta: SnapshotMeta) {
        let file = lock(&self.made)
            .as_ref()
            .filter(|(id, _)| *id == meta.data)
            .map(|(_, path)| File::open(path));
        let inner = Arc::clone(shared);
        shared.spawn("meta-snapshot-send", async move {
            let result = match file {
                Some(Ok(file)) => stream(&inner, to, term, &meta, file).await,
                Some(Err(error)) => Err(error.to_string()),
                None => Err("it is not here any more".to_owned()),
            };
            if let Err(reason) = &result {
                tracing::warn!(node = %inner.identity.node, %to, reason, "snapshot not sent");
            }
            inner.to_raft(ToRaft::Input(Input::SnapshotSent {
                to,
                ok: result.is_ok(),
            }));
        });
    }

    /// Takes a part. The sender has been checked to be a member.
    ///
    /// # Errors
    /// What the sender is told; it begins again from the first part.
    pub(crate) fn receive(
        &self,
        shared: &Shared,
        part: SnapshotPart,
        data: &[u8],
    ) -> Result<Empty, ErrorReply> {
        let mut arriving = lock(&self.arriving);
        let io = |error: std::io::Error| refusal(Code::NoSpace, format!("snapshot file: {error}"));
        if part.offset == 0 {
            if part.id.is_empty() || part.id.len() > 64 {
                return Err(invalid("a snapshot id has 1 to 64 bytes"));
            }
            // A whole one must not be replaced under Raft, which decides what becomes of it.
            if arriving.get(&part.from).is_some_and(|transfer| transfer.complete) {
                return Err(refusal(Code::Busy, "a snapshot is being installed"));
            }
            let path = layout::snapshot_file(&shared.config.data, &format!("in-{}", part.from));
            let file = File::create(&path).map_err(io)?;
            let id = part.id.clone();
            arriving.insert(
                part.from,
                Arriving {
                    id,
                    path,
                    file,
                    offset: 0,
                    checksum: 0,
                    complete: false,
                },
            );
        }
        let Some(transfer) = arriving
            .get_mut(&part.from)
            .filter(|transfer| transfer.id == part.id)
        else {
            return Err(refusal(Code::Conflict, "no such transfer: begin again"));
        };
        if transfer.offset != part.offset || transfer.complete {
            let mut error = refusal(Code::Conflict, "a part is missing: begin again");
            error.expected = transfer.offset;
            return Err(error);
        }
        transfer.file.write_all(data).map_err(io)?;
        transfer.offset += data.len() as u64;
        transfer.checksum = crc32c::crc32c_append(transfer.checksum, data);
        if !part.last {
            return Ok(Empty {});
        }
        if transfer.checksum != part.checksum {
            arriving.remove(&part.from);
            return Err(refusal(Code::Corrupt, "the snapshot's checksum does not match"));
        }
        let meta = part
            .meta
            .ok_or_else(|| invalid("the last part says what it is a part of"))?;
        let meta = SnapshotMeta::try_from(meta).map_err(invalid)?;
        transfer.complete = true;
        drop(arriving);
        shared.to_raft(ToRaft::Input(Input::SnapshotReceived {
            from: NodeId(part.from),
            term: Term(part.term),
            meta,
        }));
        Ok(Empty {})
    }

    /// Raft has no use for this one: its sender may send another at once.
    pub(crate) fn ignored(&self, from: NodeId, meta: &SnapshotMeta) {
        let mut arriving = lock(&self.arriving);
        let of_no_use = |transfer: &Arriving| transfer.complete && transfer.id == meta.data;
        if arriving.get(&from.0).is_some_and(of_no_use)
            && let Some(transfer) = arriving.remove(&from.0)
        {
            let _ = std::fs::remove_file(transfer.path);
        }
    }

    /// Imports the received snapshot into a fresh store and makes that the one that counts.
    ///
    /// # Errors
    /// [`NotInstalled`].
    pub(crate) fn install(&self, shared: &Shared, meta: &SnapshotMeta) -> Result<State, NotInstalled> {
        let path = self.take_received(shared, meta)?;
        let imported = import(shared, meta, &path);
        let _ = std::fs::remove_file(path);
        imported?;
        let directory = layout::adopt_new_state(&shared.config.data).map_err(NotInstalled::store)?;
        let options = store_options(shared.config.store_cache.0);
        let store = FjallStore::open(&directory, options).map_err(NotInstalled::store)?;
        Namespace::open(Arc::new(store), settings(shared)).map_err(NotInstalled::store)
    }

    /// The file of a whole snapshot, which nobody replaces any more.
    fn take_received(&self, shared: &Shared, meta: &SnapshotMeta) -> Result<PathBuf, NotInstalled> {
        let mut arriving = lock(&self.arriving);
        let from = arriving
            .iter()
            .find(|(_, transfer)| transfer.complete && transfer.id == meta.data)
            .map(|(from, _)| *from);
        let transfer = from.and_then(|from| arriving.remove(&from));
        let transfer = transfer.ok_or_else(|| NotInstalled::unusable("the received snapshot is not here"))?;
        // A name of its own, before the next transfer may take the old one.
        let path = layout::snapshot_file(&shared.config.data, "installing");
        std::fs::rename(transfer.path, &path).map_err(NotInstalled::unusable)?;
        Ok(path)
    }
}

/// From the file into the store that does not count yet.
fn import(shared: &Shared, meta: &SnapshotMeta, path: &Path) -> Result<(), NotInstalled> {
    let mut file = File::open(path).map_err(NotInstalled::unusable)?;
    let directory = layout::new_state(&shared.config.data).map_err(NotInstalled::store)?;
    let options = store_options(shared.config.store_cache.0);
    let store = FjallStore::open(&directory, options).map_err(NotInstalled::store)?;
    let mut importer = Importer::begin(Arc::new(store), settings(shared))?;
    let mut buffer = vec![0; STEP];
    loop {
        let read = file.read(&mut buffer).map_err(NotInstalled::unusable)?;
        if read == 0 {
            break;
        }
        importer.add(buffer.get(..read).unwrap_or_default())?;
    }
    let summary = importer.finish()?;
    if summary.applied != meta.index {
        let (found, expected) = (summary.applied, meta.index);
        return Err(NotInstalled::Unusable(format!(
            "the snapshot is of index {found}, not of {expected}"
        )));
    }
    Ok(())
}

/// How the namespace is opened.
pub(crate) fn settings(shared: &Shared) -> Settings {
    settings_of(&shared.identity)
}

pub(crate) fn settings_of(identity: &drystone_identity::Identity) -> Settings {
    Settings {
        shard: ShardId(0),
        key: identity.key.clone(),
        history: identity.history,
    }
}

/// How stores are opened.
pub(crate) fn store_options(cache_bytes: u64) -> StoreOptions {
    StoreOptions {
        cache_bytes,
        ..StoreOptions::default()
    }
}

async fn stream(
    shared: &Shared,
    to: NodeId,
    term: u64,
    meta: &SnapshotMeta,
    mut file: File,
) -> Result<(), String> {
    let address = shared.peers.address(to).ok_or("its address is not known")?;
    let channel = shared.channels.to_lane(&address, to, LANE);
    let mut part = SnapshotPart {
        id: meta.data.clone(),
        from: shared.identity.node.0,
        offset: 0,
        last: false,
        meta: Some(meta.clone().into()),
        checksum: 0,
        term,
    };
    let mut next = read_part(&mut file)?;
    loop {
        let data = next;
        next = read_part(&mut file)?;
        part.last = next.is_empty();
        part.checksum = crc32c::crc32c_append(part.checksum, &data);
        let length = data.len() as u64;
        let deadline = shared.env.clock.now().plus(PART_TIMEOUT);
        let options = CallOptions::until(deadline).priority(Priority::Control);
        let call =
            channel.call::<SnapshotPart, Empty>(Kind::Snapshot, &part, Some(Payload::new(data)), options);
        call.await.map_err(|error| error.to_string())?;
        if part.last {
            return Ok(());
        }
        part.offset += length;
    }
}

fn read_part(file: &mut File) -> Result<Bytes, String> {
    let mut data = Vec::with_capacity(MAX_PAYLOAD_BYTES);
    let limit = MAX_PAYLOAD_BYTES as u64;
    file.take(limit)
        .read_to_end(&mut data)
        .map_err(|error| error.to_string())?;
    Ok(data.into())
}
