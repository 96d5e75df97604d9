//! Disk work that has come back.

use super::Store;
use crate::input::{RequestId, StoreReply};
use crate::journal::AfterRecord;
use crate::space::is_full;
use crate::work::{DiskTask, FileKey};
use bytes::Bytes;
use drystone_env::{IoCompletion, IoOutput};
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
            DiskTask::SlotWrite {
                chunk,
                live,
                slot,
                bytes,
            } => {
                self.space.unpin(slot);
                self.on_slot_write(token, (chunk, live), bytes, completion.result);
            }
            DiskTask::FileSync { file } => self.on_file_sync(file, completion.result),
            DiskTask::ReadData { job, slot } => {
                self.space.unpin(slot);
                let cut = self.reader().on_read_data(job, bytes_of(completion.result));
                self.on_cut(cut);
            }
            DiskTask::ReadHead { job, slot } => {
                self.space.unpin(slot);
                let cut = self.reader().on_read_head(job, bytes_of(completion.result));
                self.on_cut(cut);
            }
            DiskTask::Create { file, length } => self.on_created(file, length, completion.result),
            DiskTask::Checkpoint => self.on_checkpoint_io(completion.result),
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
            AfterRecord::Delete { request, chunk, slot } => {
                self.index.end_delete(chunk);
                self.sums.remove(chunk);
                if let Some(slot) = slot {
                    self.space.release(slot);
                    self.hand_out_slots(slot.class);
                }
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

    fn on_slot_write(
        &mut self,
        token: u64,
        (chunk, id): (ChunkId, u64),
        bytes: u64,
        result: io::Result<IoOutput>,
    ) {
        if let Err(error) = result {
            self.writer().fail(format!("slot write: {error}"));
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

    fn on_file_sync(&mut self, file: FileKey, result: io::Result<IoOutput>) {
        if let Err(error) = result {
            self.writer().fail(format!("slot file sync: {error}"));
            return;
        }
        if self.health.failed.is_some() {
            return;
        }
        for chunk in self.space.on_synced(file, &mut self.work) {
            self.drive(chunk);
        }
    }

    fn on_created(&mut self, file: FileKey, length: u64, result: io::Result<IoOutput>) {
        let class = file.0;
        match self.space.on_created(file, length, result) {
            Ok(()) => self.hand_out_slots(class),
            Err(error) if is_full(&error) => {
                // The file system has less room than it said; nothing was written over anything.
                tracing::warn!(disk = %self.me, "no room for another slot file");
                self.writer().refuse_waiting(class);
            }
            Err(error) => self.writer().fail(format!("making a slot file: {error}")),
        }
    }

    fn on_checkpoint_io(&mut self, result: io::Result<IoOutput>) {
        if let Err(error) = result {
            self.writer().fail(format!("checkpoint: {error}"));
            return;
        }
        if let Some(cut) = self.checkpoint.on_io(&mut self.work) {
            self.journal.release(cut);
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
