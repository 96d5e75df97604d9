//! Opening: the newest checkpoint, then the journal behind it.
//!
//! A new store is made in this order: directories, both checkpoints (generation 1), journal, both checkpoints
//! (generation 2), first slot files. So a journal without a checkpoint, or a new journal under a later checkpoint,
//! is a loss and refused.

use crate::checkpoint::Checkpoint;
use crate::format::{BLOCK, CHECKPOINT_FILES, JOURNAL_DIRECTORY, SLOT_DIRECTORY};
use crate::index::{Entry, State};
use crate::live::{Buffer, Live};
use crate::record::Record;
use crate::slots::Slots;
use crate::snapshot::{self, Encoder, Snapshot};
use crate::{OpenError, RecoveryReport, Store, StoreConfig};
use bytes::Bytes;
use drystone_env::{BufferPool, Disk, DiskFile, IoOp, OpenOptions};
use drystone_proto::checksum;
use drystone_types::{ChunkId, DiskRef, SizeClass};
use drystone_wal::{Lsn, Wal, WalConfig};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A checkpoint file longer than this is damaged: 50 million chunks.
const MOST_CHECKPOINT_BYTES: u64 = 4 << 30;

fn during(doing: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let doing = doing.into();
    move |source| OpenError::Io { doing, source }
}

fn damaged(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> OpenError {
    OpenError::Damaged {
        place: place.into(),
        expected: expected.into(),
        found: found.into(),
    }
}

/// What replay knows of a chunk that is not (wholly) in its slot.
#[derive(Default)]
struct Part {
    sums: Vec<u32>,
    /// Begins at `start`, without gaps.
    data: Vec<Bytes>,
    start: u64,
    end: u64,
    from: Option<Lsn>,
}

impl Part {
    /// Takes bytes at `offset`; what is here already stays.
    fn add(&mut self, offset: u64, data: &Bytes, slot_len: u64, lsn: Option<Lsn>) {
        let end = offset + data.len() as u64;
        if self.data.is_empty() {
            // Earlier bytes than those in the slot are not needed; whole blocks are kept.
            let start = offset.max((slot_len / BLOCK * BLOCK).min(end));
            (self.start, self.end) = (start, start);
        }
        if offset <= self.end && end > self.end {
            // A pooled buffer of a whole batch must not live as long as the chunk is open.
            self.data
                .push(Bytes::copy_from_slice(&data[(self.end - offset) as usize..]));
            self.end = end;
            self.from = self.from.or(lsn);
        }
    }
}

struct Replay {
    entries: BTreeMap<ChunkId, Entry>,
    parts: BTreeMap<ChunkId, Part>,
    floor: ChunkId,
    from: Lsn,
    records: u64,
}

impl Replay {
    fn new(snapshot: Snapshot) -> Self {
        let mut parts = BTreeMap::new();
        for (chunk, open) in snapshot.open {
            let slot_len = snapshot.entries.get(&chunk).map_or(0, |e| e.slot_len);
            let mut part = Part {
                sums: open.sums,
                start: slot_len,
                end: slot_len,
                ..Part::default()
            };
            if !open.data.is_empty() {
                part.add(slot_len, &open.data, slot_len, None);
            }
            parts.insert(chunk, part);
        }
        Self {
            entries: snapshot.entries,
            parts,
            floor: snapshot.floor,
            from: snapshot.replay_from,
            records: 0,
        }
    }

    fn visit(&mut self, lsn: Lsn, bytes: &Bytes) -> Result<(), String> {
        if lsn < self.from {
            return Ok(());
        }
        self.records += 1;
        match Record::decode(bytes).ok_or("it is no journal record")? {
            Record::Floor { floor } => self.floor = self.floor.max(floor),
            Record::Delete { chunk, placement } => {
                if self.entries.get(&chunk).is_some_and(|e| e.placement <= placement) {
                    self.entries.remove(&chunk);
                    self.parts.remove(&chunk);
                }
            }
            Record::Replica {
                chunk,
                entry,
                first,
                sums,
                offset,
                data,
            } => {
                self.replica(lsn, chunk, entry, first, &sums, offset, &data)?;
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn replica(
        &mut self,
        lsn: Lsn,
        chunk: ChunkId,
        mut entry: Entry,
        first: u32,
        sums: &[u32],
        offset: u64,
        data: &[Bytes],
    ) -> Result<(), String> {
        match self.entries.get(&chunk) {
            // A record from before what the checkpoint knows: the chunk was deleted and placed again.
            Some(old) if old.placement > entry.placement => return Ok(()),
            Some(old) if old.placement == entry.placement => {
                entry.slot_len = entry.slot_len.max(old.slot_len.min(entry.length));
                entry.epoch = entry.epoch.max(old.epoch);
                // The checkpoint may be newer than this record; no record takes a seal back.
                if old.state == State::Sealed && entry.state != State::Sealed {
                    let kept = Entry {
                        epoch: entry.epoch,
                        ..*old
                    };
                    self.harvest(lsn, chunk, offset, data, kept.slot_len);
                    self.entries.insert(chunk, kept);
                    return Ok(());
                }
            }
            _ => {
                self.parts.remove(&chunk);
            }
        }
        let part = self.parts.entry(chunk).or_default();
        // Checksums before these can be missing only if the checkpoint knew that the chunk was deleted, which the
        // journal is about to say; otherwise `adopt` finds too few.
        if first as usize <= part.sums.len() {
            for (i, sum) in sums.iter().enumerate() {
                match part.sums.get_mut(first as usize + i) {
                    Some(place) => *place = *sum,
                    None => part.sums.push(*sum),
                }
            }
        }
        self.harvest(lsn, chunk, offset, data, entry.slot_len);
        self.entries.insert(chunk, entry);
        Ok(())
    }

    fn harvest(&mut self, lsn: Lsn, chunk: ChunkId, offset: u64, data: &[Bytes], slot_len: u64) {
        let part = self.parts.entry(chunk).or_default();
        for piece in data {
            // Everything until here is in the slot: what was gathered before it is not needed.
            if offset > part.end && offset <= slot_len {
                part.data.clear();
            }
            part.add(offset, piece, slot_len, Some(lsn));
        }
    }
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    config: StoreConfig,
    me: DiskRef,
    pool: BufferPool,
) -> Result<(Store, RecoveryReport), OpenError> {
    let mut report = RecoveryReport::default();
    let (found, newest) = read_checkpoints(&disk, &mut report);
    if let Some(snapshot) = found.as_ref().filter(|s| s.me != me) {
        return Err(OpenError::OtherDisk {
            expected: me,
            found: snapshot.me,
        });
    }
    let snapshot = match found {
        Some(snapshot) => snapshot,
        None => first_checkpoint(&disk, me, report.checkpoint_damage.take())?,
    };
    let mut generation = snapshot.generation;
    let replay_from = snapshot.replay_from;
    let wal_config = WalConfig {
        directory: JOURNAL_DIRECTORY.into(),
        identity: me.incarnation.0 ^ me.disk.0.rotate_left(32),
        segment_bytes: config.segment_bytes,
        batch_bytes: config.batch_bytes,
        direct: config.direct,
        ..WalConfig::default()
    };
    let mut replay = Replay::new(snapshot);
    let (wal, recovered) = Wal::open(Arc::clone(&disk), wal_config, pool.clone(), &mut |lsn, bytes| {
        replay.visit(lsn, &bytes)
    })?;
    if recovered.fresh && generation > 1 {
        return Err(damaged(
            JOURNAL_DIRECTORY,
            "the journal of this store",
            "a new one",
        ));
    }
    if recovered.first > replay_from || recovered.last.next() < replay_from {
        let found = format!("records {} to {}", recovered.first, recovered.last);
        return Err(damaged(
            JOURNAL_DIRECTORY,
            format!("records from {replay_from} on"),
            found,
        ));
    }
    if generation == 1 {
        generation = 2;
        let bytes = Encoder::new(0).finish(generation, me, Lsn(1), ChunkId(0));
        write_checkpoints(&disk, &bytes)?;
        first_slots(&disk, &config, &pool)?;
        report.fresh = recovered.fresh;
    }
    disk.create_dir(SLOT_DIRECTORY)
        .map_err(during("making the slot directory"))?;
    let slots = Slots::open(&disk, &config).map_err(during("opening slot files"))?;
    let mut files = checkpoint_files(&disk)?;
    if newest == 0 {
        // The other copy may be torn: it is overwritten first.
        files.reverse();
    }
    report.checkpoint = generation;
    report.records = replay.records;
    report.torn = recovered
        .torn
        .map(|t| format!("{} at {}: {}", t.file, t.offset, t.reason));
    let checkpoint = Checkpoint::new(files, generation);
    let mut store = Store::new((disk, config, me, pool), wal, slots, checkpoint, replay.floor);
    let Replay {
        entries, mut parts, ..
    } = replay;
    for (chunk, entry) in entries {
        adopt(&mut store, chunk, entry, parts.remove(&chunk).unwrap_or_default())?;
    }
    report.chunks = store.index.values().filter(|e| e.state != State::Marker).count() as u64;
    report.open_chunks = store.open_chunks;
    report.slots = store.slots.count();
    Ok((store, report))
}

/// Enters a chunk that replay ended with.
fn adopt(store: &mut Store, chunk: ChunkId, entry: Entry, part: Part) -> Result<(), OpenError> {
    store.set_entry(chunk, Some(entry));
    let Some(slot) = entry.slot else { return Ok(()) };
    if !store.slots.claim(slot) {
        if store.slots.exists(slot) {
            let place = format!("chunk {chunk} in {slot:?}");
            return Err(damaged(place, "a slot of its own", "another chunk's slot"));
        }
        // The file is gone: these chunks are lost, not the disk.
        store.slots.avoid(slot);
        tracing::error!(disk = %store.me, %chunk, ?slot, "slot file is missing or cut off");
    }
    if entry.state == State::Sealed && entry.slot_len == entry.length {
        return Ok(());
    }
    let id = store.next_live;
    store.next_live += 1;
    let mut live = Live::new(id, entry.placement, entry.epoch, slot.class);
    live.slot = Some(slot);
    live.recorded = true;
    live.durable = entry.length;
    live.received = entry.length;
    live.journal_from = part.from;
    let start = if entry.state == State::Sealed {
        0
    } else {
        entry.slot_len / BLOCK * BLOCK
    };
    live.slot_synced = start;
    live.buffer = Buffer::starting_at(start);
    let mut at = part.start;
    for piece in part.data {
        let end = at + piece.len() as u64;
        let (low, high) = (at.max(start), end.min(entry.length));
        if low < high && low == live.buffer.end() {
            live.buffer
                .push(piece.slice((low - at) as usize..(high - at) as usize));
        }
        at = end;
    }
    if live.buffer.end() != entry.length {
        let found = format!("{} to {}", part.start, part.end);
        return Err(damaged(
            format!("journal, chunk {chunk}"),
            format!("bytes {start} to {}", entry.length),
            found,
        ));
    }
    live.durable_tail = live.copy_tail(entry.length);
    complete_sums(&mut live, part.sums, start);
    live.sums_logged = live.sums.len();
    if (live.sums.len() as u64) < entry.length / BLOCK {
        let found = format!("{} checksums", live.sums.len());
        return Err(damaged(
            format!("journal, chunk {chunk}"),
            format!("{} bytes", entry.length),
            found,
        ));
    }
    live.fenced = entry.state == State::Fenced;
    live.stopped = entry.state != State::Open;
    if entry.state == State::Sealed {
        live.sealed = entry.sealed();
        let found = checksum::combine(&live.all_sums(), entry.length);
        if found != entry.checksum {
            let place = format!("journal, chunk {chunk}");
            return Err(damaged(
                place,
                format!("checksum {:#010x}", entry.checksum),
                format!("{found:#010x}"),
            ));
        }
        store.must_move(chunk, entry.length);
    } else if entry.length / BLOCK * BLOCK > live.slot_synced {
        store.must_move(chunk, entry.length - live.slot_synced);
    }
    store.add_live(chunk, live);
    Ok(())
}

/// The checksums of whole blocks: those known of the slot's part, computed of what is in memory.
fn complete_sums(live: &mut Live, known: Vec<u32>, start: u64) {
    live.sums = known;
    live.sums.truncate((start / BLOCK) as usize);
    if live.sums.len() as u64 == start / BLOCK {
        let end = live.received / BLOCK * BLOCK;
        let bytes = live.buffer.slice(start, end).concat();
        live.sums
            .extend(bytes.chunks_exact(BLOCK as usize).map(crc32c::crc32c));
    }
}

/// The newest checkpoint that is whole, and which copy it is.
fn read_checkpoints(disk: &Arc<dyn Disk>, report: &mut RecoveryReport) -> (Option<Snapshot>, usize) {
    let mut best: (Option<Snapshot>, usize) = (None, 0);
    for (copy, name) in CHECKPOINT_FILES.into_iter().enumerate() {
        match read_checkpoint(disk, name) {
            Ok(snapshot) if best.0.as_ref().is_none_or(|b| b.generation < snapshot.generation) => {
                best = (Some(snapshot), copy);
            }
            Ok(_) => {}
            Err(fault) => report.checkpoint_damage = Some(format!("{name}: {fault}")),
        }
    }
    best
}

fn read_checkpoint(disk: &Arc<dyn Disk>, name: &str) -> Result<Snapshot, String> {
    let words = |e: io::Error| e.to_string();
    let file = disk.open(name, OpenOptions::default()).map_err(words)?;
    let length = file.len().map_err(words)?;
    if length > MOST_CHECKPOINT_BYTES {
        return Err(format!("{length} bytes long"));
    }
    let mut bytes = vec![0; length as usize];
    file.read_at(&mut bytes, 0).map_err(words)?;
    snapshot::decode(&bytes).map_err(str::to_owned)
}

/// Makes the checkpoints of a new store, if nothing says that there was one.
fn first_checkpoint(
    disk: &Arc<dyn Disk>,
    me: DiskRef,
    damage: Option<String>,
) -> Result<Snapshot, OpenError> {
    for directory in [JOURNAL_DIRECTORY, SLOT_DIRECTORY] {
        let files = match disk.list(directory) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(during(format!("listing {directory}"))(error)),
        };
        if let Some(file) = files.first() {
            let found = format!(
                "none that is whole ({}), but {directory}/{file}",
                damage.unwrap_or_default()
            );
            return Err(damaged("checkpoints", "one", found));
        }
    }
    let bytes = Encoder::new(0).finish(1, me, Lsn(1), ChunkId(0));
    write_checkpoints(disk, &bytes)?;
    snapshot::decode(&bytes).map_err(|fault| damaged("checkpoint", "what was written", fault))
}

fn checkpoint_files(disk: &Arc<dyn Disk>) -> Result<[Arc<dyn DiskFile>; 2], OpenError> {
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let open = |name: &str| {
        disk.open(name, options)
            .map_err(during(format!("opening {name}")))
    };
    let files = [open(CHECKPOINT_FILES[0])?, open(CHECKPOINT_FILES[1])?];
    disk.sync_dir("").map_err(during("syncing the data directory"))?;
    Ok(files)
}

fn write_checkpoints(disk: &Arc<dyn Disk>, bytes: &[u8]) -> Result<(), OpenError> {
    for file in checkpoint_files(disk)? {
        file.write_at(bytes, 0)
            .and_then(|()| file.sync_data())
            .map_err(during("writing a checkpoint"))?;
    }
    Ok(())
}

/// The spare slots of a new store, so that the first chunks need not wait.
fn first_slots(disk: &Arc<dyn Disk>, config: &StoreConfig, pool: &BufferPool) -> Result<(), OpenError> {
    disk.create_dir(SLOT_DIRECTORY)
        .and_then(|()| disk.sync_dir(""))
        .map_err(during("making the slot directory"))?;
    let mut slots = Slots::open(disk, config).map_err(during("opening slot files"))?;
    for class in SizeClass::ALL {
        if slots.any(class) {
            continue;
        }
        let Some(count) = slots.plan_file(config, class, config.spare_slots(class)) else {
            continue;
        };
        let (key, length, op) = slots.create(disk, config, class, count);
        let IoOp::Create {
            name,
            options,
            prewrite,
            ..
        } = op
        else {
            continue;
        };
        match drystone_env::io::create(&**disk, &name, length, options, prewrite, pool) {
            Ok(file) => slots.add(key, file).map_err(during(name))?,
            // A small disk begins with less.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(error) => return Err(during(format!("making {name}"))(error)),
        }
        slots.created(disk, class, length);
    }
    Ok(())
}
