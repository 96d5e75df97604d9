//! Moves the chunks of an arena that is nearly empty elsewhere, so that the file system gets its space back.
//!
//! A search of the index finds them, some entries at a time. Each is read as it lies on the disk, verified, and written to
//! new runs; some of them are synced together, then a record of each names the new runs. Until the record is durable
//! the chunk lies where it was for everybody: reads, and what a crash leaves. What follows the record in the journal
//! names the new runs already. When it is durable the old ones are given back. A chunk that is not sealed, or not what its
//! checksums say, stays, and its arena with it.

use super::emptier::{ChunkCopy, Copied, Sweep};
use super::writer::{ChunkWriter, entry_record};
use crate::active::whole_blocks;
use crate::class::IoClass;
use crate::format::{BLOCK, Runs, Tail, UNIT, tail_bytes, tail_offset, units_for};
use crate::index::IndexEntry;
use crate::journal::AfterRecord;
use crate::read::whole;
use crate::space::Owner;
use crate::work::DiskTask;
use bytes::Bytes;
use drystone_proto::checksum;
use drystone_types::ChunkId;
use std::time::Duration;

/// Entries of the index that are looked at in one step.
const SWEEP_STEP: usize = 4096;
/// Chunks that are not there any more are passed by in one step up to this number.
const MOST_SKIPPED: usize = 256;
/// Between two steps.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);
/// A chunk is copied in pieces of this size.
const PIECE: u64 = 1 << 20;
/// So many chunks, or so many bytes, are synced together.
const BATCH_CHUNKS: usize = 16;
const BATCH_BYTES: u64 = 8 << 20;

/// What a search makes of a chunk.
enum Found {
    Elsewhere,
    /// In the arena, but soon no more.
    Goes,
    Movable,
    Stays,
}

impl ChunkWriter<'_> {
    /// Takes the emptying of an arena further.
    pub(crate) fn run_emptier(&mut self) {
        let arena = self.space.emptied();
        if self.emptier.arena != arena {
            self.end_emptying();
            self.emptier.arena = arena;
            self.emptier.sweep = arena.map(|_| Sweep::from_the_beginning(self.now));
        }
        let Some(arena) = arena else {
            return;
        };
        self.search(arena);
        self.log_copies();
        self.start_next(arena);
        self.sync_copies();
        self.search_again(arena);
    }

    /// The arena is not emptied any more. What was copied but not recorded is given up.
    fn end_emptying(&mut self) {
        if let Some(arena) = self.emptier.arena.take() {
            self.space.pass_over(arena, self.config, self.now);
        }
        self.emptier.sweep = None;
        self.emptier.pause = None;
        self.emptier.waiting.clear();
        let under_way = self.emptier.copy.take().map(|copy| copy.copied);
        let written = std::mem::take(&mut self.emptier.written);
        for copied in written.into_iter().chain(under_way) {
            self.release_runs(&copied.new);
        }
        self.emptier.syncs = None;
    }

    fn release_runs(&mut self, runs: &Runs) {
        self.space.release(Owner::of(runs), runs.as_slice().to_vec());
    }

    fn find(&self, arena: u32, chunk: ChunkId, entry: &IndexEntry) -> Found {
        if units_in(arena, entry) == 0 {
            return Found::Elsewhere;
        }
        if self.index.is_deleting(chunk) || self.emptier.logged(chunk).is_some() {
            return Found::Goes;
        }
        if entry.is_settled() && !self.active.contains(chunk) && !self.emptier.is_damaged(chunk) {
            Found::Movable
        } else {
            Found::Stays
        }
    }

    /// Looks at some more entries of the index, if a search is under way and it is time.
    fn search(&mut self, arena: u32) {
        let Some(mut sweep) = self.emptier.sweep.take_if(|sweep| sweep.due <= self.now) else {
            return;
        };
        let (mut seen, mut movable, mut stays) = (0, Vec::new(), false);
        for (chunk, entry) in self.index.after(sweep.after).take(SWEEP_STEP) {
            let found = self.find(arena, chunk, &entry);
            if matches!(found, Found::Movable | Found::Goes) {
                sweep.units += units_in(arena, &entry);
            }
            movable.extend(matches!(found, Found::Movable).then_some(chunk));
            stays |= matches!(found, Found::Stays);
            seen += 1;
            sweep.after = chunk;
        }
        self.emptier.waiting.extend(movable);
        if stays {
            // It would not become empty.
            self.end_emptying();
        } else if seen == SWEEP_STEP {
            sweep.due = self.now.plus(SWEEP_PAUSE);
            self.emptier.sweep = Some(sweep);
        } else if self.emptier.waiting.is_empty() || sweep.units < self.space.used_units(arena) {
            // What else is in it belongs to chunks of which nothing is recorded.
            self.end_emptying();
        }
    }

    /// Once everything that was found is moved: what is left in the arena is looked for after a while. Reads, or chunks that
    /// are being deleted, may have held it.
    fn search_again(&mut self, arena: u32) {
        let e = &self.emptier;
        if e.sweep.is_none()
            && e.pause.is_none()
            && e.waiting.is_empty()
            && e.is_idle()
            && e.arena.is_some()
            && self.space.used_units(arena) > 0
        {
            let due = self.now.plus(self.config.remove_after);
            self.emptier.sweep = Some(Sweep::from_the_beginning(due));
        }
    }

    fn wants_copy(&self) -> bool {
        let e = &self.emptier;
        let is_full = e.written.len() >= BATCH_CHUNKS || e.written_bytes() >= BATCH_BYTES;
        let is_searching = e.sweep.is_some() || e.pause.is_some();
        !is_searching && e.copy.is_none() && e.syncs.is_none() && e.logged.is_empty() && !is_full
    }

    fn start_next(&mut self, arena: u32) {
        self.emptier.pause.take_if(|pause| *pause <= self.now);
        for _ in 0..MOST_SKIPPED {
            if !self.wants_copy() {
                return;
            }
            let Some(chunk) = self.emptier.waiting.pop_front() else {
                return;
            };
            self.start_copy(arena, chunk);
        }
        // So many have gone since they were found.
        if self.wants_copy() {
            self.emptier.pause = Some(self.now.plus(SWEEP_PAUSE));
        }
    }

    /// Begins to copy the chunk, if it is still in the arena.
    fn start_copy(&mut self, arena: u32, chunk: ChunkId) {
        let Some(entry) = self.index.get(chunk) else {
            return;
        };
        match self.find(arena, chunk, &entry) {
            Found::Elsewhere | Found::Goes => return,
            Found::Stays => return self.end_emptying(),
            Found::Movable => {}
        }
        let Some(old) = entry.runs else {
            return;
        };
        let length = entry.length;
        let Some(new) = self.space.take_elsewhere(self.config, units_for(length)) else {
            return self.end_emptying();
        };
        let copied = Copied {
            chunk,
            old,
            new,
            length,
        };
        let tail = Tail {
            chunk,
            placement: entry.placement,
            incarnation: self.me.incarnation,
            length,
            checksum: entry.checksum,
        };
        let mut copy = ChunkCopy {
            id: self.emptier.next_copy(),
            copied,
            tail,
            sums: Vec::new(),
            at: 0,
            range: (entry.tail_at, entry.tail_at + tail_bytes(length)),
            pieces: Vec::new(),
            left: 0,
        };
        if length == 0 {
            // Nothing of it was ever written, not even a tail.
            return self.write_piece(copy, Bytes::new());
        }
        let id = copy.id;
        let task = |owner, at| DiskTask::CopyTail { copy: id, owner, at };
        copy.left = self
            .space
            .read(&copy.copied.old, copy.range, IoClass::Scrub, task, self.work);
        self.wait_for_read(copy);
    }

    fn read_piece(&mut self, mut copy: ChunkCopy) {
        let end = copy.copied.length.min(copy.at + PIECE);
        copy.range = (copy.at, end.next_multiple_of(BLOCK));
        let id = copy.id;
        let task = |owner, at| DiskTask::CopyData { copy: id, owner, at };
        copy.left = self
            .space
            .read(&copy.copied.old, copy.range, IoClass::Scrub, task, self.work);
        self.wait_for_read(copy);
    }

    fn wait_for_read(&mut self, copy: ChunkCopy) {
        if copy.left == 0 {
            self.copy_failed(copy, "its arena is missing");
        } else {
            self.emptier.copy = Some(copy);
        }
    }

    /// The chunk stays where it is, and so does its arena.
    fn copy_failed(&mut self, copy: ChunkCopy, reason: &str) {
        let chunk = copy.copied.chunk;
        tracing::warn!(disk = %self.me, %chunk, reason, "a chunk is not moved");
        self.emptier.damaged(chunk);
        self.emptier.copy = Some(copy);
        self.end_emptying();
    }

    /// A piece of what is being read has come: everything, when it was the last.
    fn take_piece(
        &mut self,
        id: u64,
        at: u64,
        result: Result<Bytes, String>,
    ) -> Option<(ChunkCopy, Result<Bytes, String>)> {
        let mut copy = self.emptier.copy.take_if(|copy| copy.id == id)?;
        copy.left -= 1;
        match result {
            Err(reason) => return Some((copy, Err(reason))),
            Ok(bytes) => copy.pieces.push((at, bytes)),
        }
        if copy.left > 0 {
            self.emptier.copy = Some(copy);
            return None;
        }
        let mut pieces = std::mem::take(&mut copy.pieces);
        let bytes = whole(&mut pieces, copy.range, self.pool);
        Some((copy, bytes.ok_or_else(|| "it did not come back whole".to_owned())))
    }

    /// A piece of the tail has come.
    pub(crate) fn on_copy_tail(&mut self, id: u64, at: u64, result: Result<Bytes, String>) {
        let Some((mut copy, result)) = self.take_piece(id, at, result) else {
            return;
        };
        let sums = result.map(|bytes| copy.tail.decode_sums(&bytes));
        match sums {
            Err(reason) => self.copy_failed(copy, &reason),
            Ok(Ok(sums)) if checksum::combine(&sums, copy.copied.length) == copy.tail.checksum => {
                copy.sums = sums;
                self.read_piece(copy);
            }
            Ok(_) => {
                self.health.checksum_errors += 1;
                self.copy_failed(copy, "its tail does not match its checksum");
            }
        }
    }

    /// A piece of the data has come.
    pub(crate) fn on_copy_data(&mut self, id: u64, at: u64, result: Result<Bytes, String>) {
        let Some((copy, result)) = self.take_piece(id, at, result) else {
            return;
        };
        let bytes = match result {
            Ok(bytes) => bytes.slice(..(copy.copied.length.min(copy.range.1) - copy.at) as usize),
            Err(reason) => return self.copy_failed(copy, &reason),
        };
        let sums = copy.sums.iter().skip((copy.at / BLOCK) as usize);
        let blocks = bytes.chunks(BLOCK as usize);
        if blocks.zip(sums).any(|(block, sum)| crc32c::crc32c(block) != *sum) {
            self.health.checksum_errors += 1;
            return self.copy_failed(copy, "stored bytes do not match their checksum");
        }
        self.write_piece(copy, bytes);
    }

    /// Writes the next bytes, and the tail behind the last.
    fn write_piece(&mut self, mut copy: ChunkCopy, bytes: Bytes) {
        let (start, end) = (copy.at, copy.at + bytes.len() as u64);
        let mut parts = if bytes.is_empty() {
            Vec::new()
        } else {
            whole_blocks(vec![bytes], self.pool)
        };
        if end == copy.copied.length {
            parts.push(copy.tail.encode(&copy.sums, self.pool));
        }
        let id = copy.id;
        let task = |owner, _| DiskTask::CopyWrite { copy: id, owner };
        let written = self.space.write(
            &copy.copied.new,
            (start, end),
            parts,
            IoClass::Scrub,
            task,
            self.work,
        );
        let Some(written) = written else {
            let runs = copy.copied.new;
            return self.fail(format!("an arena of {runs:?} is gone"));
        };
        copy.at = end;
        copy.left = written.len() as u32;
        self.emptier.copy = Some(copy);
    }

    /// A write of a copy has ended.
    pub(crate) fn on_copy_written(&mut self, id: u64) {
        let Some(mut copy) = self.emptier.copy.take_if(|copy| copy.id == id) else {
            return;
        };
        copy.left -= 1;
        if copy.left > 0 {
            self.emptier.copy = Some(copy);
        } else if copy.at < copy.copied.length {
            self.read_piece(copy);
        } else {
            self.emptier.written.push(copy.copied);
        }
    }

    /// Syncs what is written, when it is enough or the last.
    fn sync_copies(&mut self) {
        let e = &self.emptier;
        if e.copy.is_some() || e.syncs.is_some() || e.written.is_empty() {
            return;
        }
        let ranges = e.written.iter().map(|copied| {
            let end = tail_offset(copied.length) + tail_bytes(copied.length);
            (&copied.new, (0, end))
        });
        self.emptier.syncs = Some(self.space.sync_all(ranges, self.work));
    }

    /// When the copies are durable: sends off records that name the new runs.
    fn log_copies(&mut self) {
        let Some(syncs) = &self.emptier.syncs else {
            return;
        };
        if !self.space.are_synced(syncs) {
            return;
        }
        self.emptier.syncs = None;
        for copied in std::mem::take(&mut self.emptier.written) {
            let chunk = copied.chunk;
            let Some(entry) = self.index.get(chunk) else {
                unreachable!("chunk {chunk} is not deleted, its copy would be given up")
            };
            assert!(
                entry.runs.as_ref() == Some(&copied.old) && !self.index.is_deleting(chunk),
                "chunk {chunk} has changed while it was copied: {entry:?}"
            );
            let record = entry_record(chunk, moved(entry, copied.new.clone()));
            self.journal.log(&record, AfterRecord::Moved { chunk });
            self.emptier.logged.insert(chunk, copied);
        }
    }

    /// The record of a chunk's new runs is durable.
    pub(crate) fn on_moved_durable(&mut self, chunk: ChunkId) {
        let copied = self.emptier.logged.remove(&chunk).expect("it was logged");
        // If it is being deleted, the record of that comes later.
        let entry = self.index.get(chunk);
        let entry = entry.filter(|entry| entry.runs.as_ref() == Some(&copied.old));
        let entry = entry.expect("only its record moves a sealed chunk");
        self.index.set(chunk, Some(moved(entry, copied.new)));
        self.release_runs(&copied.old);
        self.emptier.moved_chunks += 1;
        self.emptier.moved_bytes += copied.length;
    }

    /// The runs that a sealed chunk has when everything that is on its way to the journal is durable.
    pub(super) fn with_coming_runs(&self, chunk: ChunkId, entry: IndexEntry) -> IndexEntry {
        match self.emptier.logged(chunk) {
            Some(runs) => moved(entry, runs.clone()),
            None => entry,
        }
    }

    /// The chunk is to be deleted: a copy of it whose record is not on its way is given up.
    pub(super) fn give_up_copy(&mut self, chunk: ChunkId) {
        self.emptier.forget(chunk);
        let copy = self.emptier.copy.take_if(|copy| copy.copied.chunk == chunk);
        let under_way = copy.map(|copy| copy.copied);
        let written = self
            .emptier
            .written
            .extract_if(.., |copied| copied.chunk == chunk);
        let given_up: Vec<Copied> = written.chain(under_way).collect();
        for copied in given_up {
            self.release_runs(&copied.new);
        }
    }
}

/// The same chunk in other runs, with its tail right behind its content.
fn moved(entry: IndexEntry, runs: Runs) -> IndexEntry {
    IndexEntry {
        runs: Some(runs),
        tail_at: tail_offset(entry.length),
        ..entry
    }
}

/// Units that the chunk has in the arena.
fn units_in(arena: u32, entry: &IndexEntry) -> u64 {
    let runs = entry.runs.as_ref().map_or(&[][..], Runs::as_slice);
    let here = runs.iter().filter(|run| run.arena == arena);
    here.map(|run| run.bytes() / UNIT).sum()
}
