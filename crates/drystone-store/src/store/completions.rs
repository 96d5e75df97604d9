//! Disk work that has come back.

use super::Store;
use crate::input::{RequestId, StoreReply};
use crate::journal::AfterRecord;
use crate::space::is_full;
use crate::work::DiskTask;
use bytes::Bytes;
use drystone_env::{IoCompletion, IoOp, IoOutput};
use drystone_types::ChunkId;
use drystone_wal::{Lsn, Wal};
use std::io;

impl Store {
    pub(super) fn on_io(&mut self, completion: IoCompletion) {
        if completion.result.is_err() {
            self.health.io_errors += 1;
        }
        if Wal::owns(completion.token) {
            self.on_journal_io(completion);
            return;
        }
        let token = completion.token.0;
        let Some(task) = self.work.complete(token) else {
            return;
        };
        match task {
            DiskTask::Write {
                chunk,
                live,
                owner,
                bytes,
            } => {
                self.space.end(owner, token);
                self.on_write(token, (chunk, live), bytes, completion.result);
            }
            DiskTask::Sync { arena } => self.on_sync(arena, completion.result),
            DiskTask::ReadData { job, owner, at } => {
                self.space.end(owner, token);
                let cut = self.reader().on_read_data(job, at, bytes_of(completion.result));
                self.on_cut(cut);
            }
            DiskTask::ReadTail { job, owner, at } => {
                self.space.end(owner, token);
                let cut = self.reader().on_read_tail(job, at, bytes_of(completion.result));
                self.on_cut(cut);
            }
            DiskTask::CopyTail { copy, owner, at } => {
                self.space.end(owner, token);
                if self.health.failed.is_none() {
                    self.writer().on_copy_tail(copy, at, bytes_of(completion.result));
                }
            }
            DiskTask::CopyData { copy, owner, at } => {
                self.space.end(owner, token);
                if self.health.failed.is_none() {
                    self.writer().on_copy_data(copy, at, bytes_of(completion.result));
                }
            }
            DiskTask::CopyWrite { copy, owner } => {
                self.space.end(owner, token);
                self.on_copy_written(copy, completion.result);
            }
            DiskTask::Make { arena } => self.on_made(arena, completion.result),
            DiskTask::Remove { arena } => self.on_removed(arena, completion.result),
            DiskTask::Checkpoint => self.on_checkpoint_io(token, completion.result),
        }
    }

    fn on_journal_io(&mut self, completion: IoCompletion) {
        let result = self
            .journal
            .on_completion(self.now, completion, &mut self.work.requests);
        if let Err(reason) = result {
            self.writer().fail(reason);
            return;
        }
        while self.health.failed.is_none() {
            let Some((lsn, after)) = self.journal.pop_durable() else {
                break;
            };
            self.on_durable(lsn, after);
        }
    }

    fn on_durable(&mut self, lsn: Lsn, after: AfterRecord) {
        match after {
            AfterRecord::Replica {
                chunk,
                live,
                entry,
                has_data,
            } => {
                let goes_on = self
                    .writer()
                    .on_replica_durable(lsn, chunk, live, entry, has_data);
                self.drive_if(goes_on, chunk);
            }
            AfterRecord::FenceSealed {
                request,
                chunk,
                epoch,
            } => self.reader().begin_verify(request, chunk, epoch),
            AfterRecord::Marker { request, entry } => {
                let reply = StoreReply::Fenced {
                    epoch: entry.epoch,
                    length: None,
                };
                self.replies.send(request, Ok(reply));
            }
            AfterRecord::Moved { chunk } => self.writer().on_moved_durable(chunk),
            AfterRecord::Delete { request, chunk, runs } => {
                self.index.end_delete(chunk);
                self.sums.remove(chunk);
                self.release(runs);
                self.replies.send(request, Ok(StoreReply::Deleted));
            }
            AfterRecord::Floor { request, floor } => self.on_floor(request, floor),
        }
    }

    fn on_floor(&mut self, request: RequestId, floor: ChunkId) {
        self.index.raise_floor(floor);
        let floor = self.index.floor();
        self.replies.send(request, Ok(StoreReply::Floor(floor)));
    }

    fn on_write(
        &mut self,
        token: u64,
        (chunk, id): (ChunkId, u64),
        bytes: u64,
        result: io::Result<IoOutput>,
    ) {
        if let Err(error) = result {
            self.writer().fail(format!("write to an arena: {error}"));
        }
        self.mover.written(token);
        let Some(mut live) = self.active.take(chunk) else {
            return;
        };
        let mut waiting = Vec::new();
        if live.id == id {
            live.writes.remove(&token);
            live.writing_bytes -= bytes;
            waiting = std::mem::take(&mut live.waiting_reads);
        }
        self.active.put_back(chunk, live);
        self.drive(chunk);
        self.look_again(waiting);
    }

    fn on_copy_written(&mut self, copy: u64, result: io::Result<IoOutput>) {
        if let Err(error) = result {
            self.writer().fail(format!("write to an arena: {error}"));
        } else if self.health.failed.is_none() {
            self.writer().on_copy_written(copy);
        }
    }

    fn on_sync(&mut self, arena: u32, result: io::Result<IoOutput>) {
        if let Err(error) = result {
            self.writer().fail(format!("sync of an arena: {error}"));
            return;
        }
        if self.health.failed.is_some() {
            return;
        }
        for chunk in self.space.on_synced(arena, &mut self.work) {
            self.drive(chunk);
        }
    }

    fn on_made(&mut self, arena: u32, result: io::Result<IoOutput>) {
        match self.space.on_made(arena, result) {
            Ok(()) => {}
            // The file system has less room than it said; nothing was written over anything.
            Err(error) if is_full(&error) => tracing::warn!(disk = %self.me, "no room for another arena"),
            Err(error) => self.writer().fail(format!("making an arena: {error}")),
        }
    }

    fn on_removed(&mut self, arena: u32, result: io::Result<IoOutput>) {
        self.space.on_removed(arena);
        if let Err(error) = result {
            // It takes space until the next start, which finds it and takes it into use.
            tracing::warn!(disk = %self.me, arena, %error, "an arena was not removed");
        }
    }

    fn on_checkpoint_io(&mut self, token: u64, result: io::Result<IoOutput>) {
        let op = self.checkpoint.end(token);
        if let Some(IoOp::Allocate { .. }) = op {
            // Only made ahead: without it a later write may find no room, and waits.
            if let Err(error) = result {
                tracing::warn!(disk = %self.me, %error, "no room is kept for the next checkpoint");
            }
            return;
        }
        if let Err(error) = result {
            if is_full(&error) && self.checkpoint.wait_for_room(op, self.now) {
                tracing::warn!(disk = %self.me, "no room for a checkpoint: it waits");
                return;
            }
            self.writer().fail(format!("checkpoint: {error}"));
            return;
        }
        if let Some(cut) = self.checkpoint.on_io(&mut self.index, &self.pool, &mut self.work) {
            self.journal.release(cut);
            self.space.set_index_bytes(self.checkpoint.index_bytes());
        }
    }
}

fn bytes_of(result: io::Result<IoOutput>) -> Result<Bytes, String> {
    match result {
        Ok(IoOutput::Bytes(bytes)) => Ok(bytes),
        Ok(_) => Err("no bytes came back".into()),
        Err(error) => Err(error.to_string()),
    }
}
