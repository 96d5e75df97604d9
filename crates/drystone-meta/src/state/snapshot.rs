//! Snapshots on their way: made from a view of the store, streamed beside Raft, received into a file, installed.
//!
//! At most one that was made is kept, and one per sender that is arriving. A snapshot is believed only after its
//! whole checksum matched here and the importer has checked every record; a crash at any point leaves the state
//! that was there before, or the new one.

use crate::layout;
use crate::message::ToRaft;
use crate::shared::{Shared, StateMachine, lock};
use crate::state::stores::StateStore;
use bytes::Bytes;
use drystone_env::{Disk, DiskFile, OpenOptions, Rng};
use drystone_namespace::{ImportError, Importer, Namespace, Settings, StoreError, View, export};
use drystone_proto::cluster::{Empty, ErrorReply};
use drystone_proto::raft::SnapshotPart;
use drystone_proto::{Kind, Priority};
use drystone_raft::{Input, SnapshotMeta};
use drystone_rpc::{CallOptions, Payload, refusal};
use drystone_types::{Code, MAX_PAYLOAD_BYTES, NodeId, ShardId, Term};
use std::collections::BTreeMap;
use std::io;
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
    made: Mutex<Option<(Bytes, String)>>,
    arriving: Mutex<BTreeMap<u64, Arriving>>,
}

struct Arriving {
    id: Bytes,
    path: String,
    file: Arc<dyn DiskFile>,
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
        shared.thread("meta-snapshot", async move {
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
        let path = layout::snapshot_file(&format!("out-{}", hex(&id)));
        let file = create(&*shared.disk, &path)?;
        let mut at = 0;
        let mut write = |part: Bytes| {
            file.write_at(&part, at)?;
            at += part.len() as u64;
            Ok(())
        };
        let summary = export::<MakeError>(view, &mut write)?.ok_or(MakeError::Empty)?;
        let old = lock(&self.made).replace((id.clone(), path));
        if let Some((_, old)) = old {
            // Whoever still streams it has it open; the name is not needed any more.
            let _ = shared.disk.unlink(&old);
        }
        Ok((summary.applied.0, id))
    }

    /// Streams the snapshot that `meta` names to `to`, and tells Raft how it went.
    pub(crate) fn send(&self, shared: &Arc<Shared>, to: NodeId, term: u64, meta: SnapshotMeta) {
        let file = lock(&self.made)
            .as_ref()
            .filter(|(id, _)| *id == meta.data)
            .map(|(_, path)| shared.disk.open(path, OpenOptions::default()));
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
            let path = layout::snapshot_file(&format!("in-{}", part.from));
            let file = create(&*shared.disk, &path).map_err(io)?;
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
        transfer.file.write_at(data, transfer.offset).map_err(io)?;
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
    pub(crate) fn ignored(&self, shared: &Shared, from: NodeId, meta: &SnapshotMeta) {
        let mut arriving = lock(&self.arriving);
        let of_no_use = |transfer: &Arriving| transfer.complete && transfer.id == meta.data;
        if arriving.get(&from.0).is_some_and(of_no_use)
            && let Some(transfer) = arriving.remove(&from.0)
        {
            let _ = shared.disk.unlink(&transfer.path);
        }
    }

    /// Imports the received snapshot into a fresh store and makes that the one that counts.
    ///
    /// # Errors
    /// [`NotInstalled`].
    pub(crate) fn install(&self, shared: &Shared, meta: &SnapshotMeta) -> Result<StateMachine, NotInstalled> {
        let path = self.take_received(shared, meta)?;
        let imported = import(shared, meta, &path);
        let _ = shared.disk.unlink(&path);
        imported?;
        let adopted = shared.states.adopt();
        let store = adopted.map_err(|failure| NotInstalled::Store(failure.reason))?;
        Namespace::open(Arc::new(StateStore(store)), settings(shared)).map_err(NotInstalled::store)
    }

    /// The file of a whole snapshot, which nobody replaces any more.
    fn take_received(&self, shared: &Shared, meta: &SnapshotMeta) -> Result<String, NotInstalled> {
        let mut arriving = lock(&self.arriving);
        let from = arriving
            .iter()
            .find(|(_, transfer)| transfer.complete && transfer.id == meta.data)
            .map(|(from, _)| *from);
        let transfer = from.and_then(|from| arriving.remove(&from));
        let transfer = transfer.ok_or_else(|| NotInstalled::unusable("the received snapshot is not here"))?;
        // A name of its own, before the next transfer may take the old one.
        let path = layout::snapshot_file("installing");
        (shared.disk)
            .rename(&transfer.path, &path)
            .map_err(NotInstalled::unusable)?;
        Ok(path)
    }
}

/// From the file into the store that does not count yet.
fn import(shared: &Shared, meta: &SnapshotMeta, path: &str) -> Result<(), NotInstalled> {
    let file = (shared.disk.open(path, OpenOptions::default())).map_err(NotInstalled::unusable)?;
    let begun = shared.states.begin();
    let store = begun.map_err(|failure| NotInstalled::Store(failure.reason))?;
    let mut importer = Importer::begin(Arc::new(StateStore(store)), settings(shared))?;
    let (mut buffer, mut at) = (vec![0; STEP], 0);
    loop {
        let read = read_part(&*file, at, &mut buffer).map_err(NotInstalled::unusable)?;
        if read == 0 {
            break;
        }
        at += read as u64;
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

async fn stream(
    shared: &Shared,
    to: NodeId,
    term: u64,
    meta: &SnapshotMeta,
    file: Arc<dyn DiskFile>,
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
    let read = |at| {
        let mut data = vec![0; MAX_PAYLOAD_BYTES];
        let read = read_part(&*file, at, &mut data).map_err(|error| error.to_string())?;
        data.truncate(read);
        Ok::<_, String>(Bytes::from(data))
    };
    let mut next = read(0)?;
    loop {
        let data = next;
        next = read(part.offset + data.len() as u64)?;
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

/// Fills `buffer` from `at` as far as the file goes; 0: its end.
fn read_part(file: &dyn DiskFile, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let left = file.len()?.saturating_sub(at);
    let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    file.read_at(buffer.get_mut(..length).unwrap_or_default(), at)?;
    Ok(length)
}

/// A new file in place of any other of this name.
fn create(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    match disk.unlink(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.open(
        name,
        OpenOptions {
            create: true,
            exclusive: true,
            direct: false,
        },
    )
}
