//! The flush thread: the store follows the namespace in batches, tables follow the store, the log is cut behind.
//!
//! Nothing waits for it but memory: the log is the durability. A batch goes to the store every interval; a
//! checkpoint makes tables of what was written, and only below a checkpoint is the log purged; a lone voter's log
//! moreover only as far as its exports allow (`export`).

use super::ballast::Ballast;
use super::cell::StateWriter;
use super::room::{Room, needed, waiting};
use super::snapshot::Snapshots;
use super::stores::{Deferred, StateStore};
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::lone::export_schedule::{ExportParts, ExportSchedule};
use crate::message::ToFlush;
use crate::metrics::Metrics;
use crate::raft::handle::RaftHandle;
use drystone_env::planted::{Bug, planted};
use drystone_env::{Clock, Disk, Monotonic, Space};
use drystone_namespace::OrderedStore;
use drystone_raft::{BOOTSTRAP_INDEX, Input};
use drystone_types::{LogIndex, NodeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Records written since the last checkpoint that ask for one earlier: about 50 MB of log and a second of replay.
const CHECKPOINT_RECORDS: usize = 250_000;
/// Free space that is kept unless the configuration says otherwise, but at most one of so many parts of the file system:
/// chunk servers on it leave twice as much.
const RESERVE_BYTES: u64 = 512 << 20;
const RESERVE_PART: u64 = 40;
/// For how long there must have been no room for a flush before the ballast is given up: who fills the file system meets its
/// end within that, and stops.
const BALLAST_AFTER: Duration = Duration::from_secs(5);
/// For how long flushes must have waited before commands are refused for it, if there are the bytes that they need.
const REFUSED_AFTER: Duration = Duration::from_secs(3);
/// Between two looks at a file system on which little is left: how fast it fills.
const SECOND_LOOK: Duration = Duration::from_millis(20);
/// How often free space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// What the flush thread works with.
pub(crate) struct FlushParts {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) state: StateWriter,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) raft: RaftHandle,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) exports: ExportParts,
    /// Set while free space is below the reserve: only commands that free space are taken then.
    pub(crate) disk_full: Arc<AtomicBool>,
    /// Set while a lone voter keeps more log for its exports than it may, and another export would let it go: commands
    /// of clients are refused then.
    pub(crate) log_full: Arc<AtomicBool>,
    /// Set while flushes wait for room and memory for what is not flushed is used up: nothing is taken then.
    pub(crate) memory_full: Arc<AtomicBool>,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Metrics,
}

struct Flusher {
    parts: FlushParts,
    store: Arc<StateStore>,
    /// Applied index of the last batch written, and of the last that a checkpoint covered.
    written: u64,
    checked: u64,
    records: usize,
    checkpointed: Monotonic,
    looked: Option<Monotonic>,
    purged: u64,
    exports: ExportSchedule,
    ballast: Ballast,
    room: Room,
}

/// Runs until told to stop, or until the store fails. The log begins behind `purged`.
pub(crate) async fn run(parts: FlushParts, mut inbox: UnboundedReceiver<ToFlush>, purged: LogIndex) {
    let store = Arc::clone(parts.state.read().store());
    let index = parts.state.read().synced_index().0;
    let now = parts.clock.now();
    let (clock, disk) = (Arc::clone(&parts.clock), Arc::clone(&parts.disk));
    let (interval, lifecycle) = (parts.config.flush_interval, Arc::clone(&parts.lifecycle));
    let mut flusher = Flusher {
        ballast: Ballast::of(&parts.disk),
        room: Room::new(),
        parts,
        store,
        written: index,
        checked: index,
        records: 0,
        checkpointed: now,
        looked: None,
        purged: purged.0 + 1,
        exports: ExportSchedule::new(now),
    };
    loop {
        let next = clock.now().plus(interval);
        let message = match clock.until(next, inbox.recv()).await {
            Some(Some(message)) => Some(message),
            Some(None) => Some(ToFlush::Stop),
            None => None,
        };
        if let Some(takes_time) = disk.delay() {
            takes_time.await;
        }
        let stop = matches!(message, Some(ToFlush::Stop));
        flusher.look_for_room();
        if flusher.room.is_open() && flusher.room.is_scarce() && flusher.is_pending() {
            clock.sleep(SECOND_LOOK).await;
            flusher.look_for_room();
        }
        if let Err(reason) = flusher.step(message) {
            lifecycle.fail(format!("state store: {reason}{}", flusher.where_full()));
            break;
        }
        if stop {
            break;
        }
    }
}

impl Flusher {
    fn step(&mut self, message: Option<ToFlush>) -> Result<(), String> {
        let state = self.parts.state.clone();
        // Keeps the state from being replaced.
        let flushing = loop {
            let flushing = state.flushing();
            let Some(old) = self.follow() else {
                break flushing;
            };
            drop(flushing);
            // Without a lock: it closes, which takes as long as what is under way in it.
            drop(old);
        };
        let has_room = self.room.is_open();
        if has_room {
            self.flush()?;
        }
        match message {
            Some(ToFlush::Purge(below)) => {
                self.exports.press();
                if has_room {
                    self.checkpoint()?;
                }
                self.purge(below);
            }
            Some(ToFlush::Exported(made)) => {
                let last = self.written;
                self.exports.done(&self.parts.exports, made, last);
                self.keep_up()?;
            }
            Some(ToFlush::Replaced(closed)) => {
                let _ = closed.send(());
            }
            Some(ToFlush::Snapshot(at_least)) => self.snapshot(at_least)?,
            // The log has what no checkpoint holds.
            Some(ToFlush::Stop) if !has_room => {}
            Some(ToFlush::Stop) => self.checkpoint()?,
            Some(ToFlush::Now) | None => {
                let since = self.parts.clock.now().since(self.checkpointed);
                let due = since >= self.parts.config.checkpoint_interval;
                if (due && self.written > self.checked) || self.records >= CHECKPOINT_RECORDS {
                    self.keep_up()?;
                }
            }
        }
        self.export()?;
        drop(flushing);
        self.look_at_space();
        Ok(())
    }

    /// Looks whether a flush and what follows it have room. If there is none for long the ballast goes; if memory is used
    /// up moreover, nothing is taken any more.
    fn look_for_room(&mut self) {
        // Where the file system does not say, its writes tell.
        let Ok(space) = self.parts.disk.space() else {
            return;
        };
        let now = self.parts.clock.now();
        let overlay = self.parts.state.read().overlay_bytes();
        let was_open = self.room.is_open();
        let needed = needed(space, overlay as u64, self.store.disk_bytes());
        self.room.look(now, space, needed);
        let is_open = self.room.is_open();
        if was_open != is_open {
            let Space { free, free_files, .. } = space;
            tracing::warn!(node = %self.parts.me, is_open, needed, free, free_files, "room for flushes of the state");
        }
        if self.room.lacking_for(now) >= BALLAST_AFTER {
            self.ballast.give_up();
        }
        let waits = self.room.closed_for(now) >= REFUSED_AFTER || !self.room.lacking_for(now).is_zero();
        let full = waits && overlay as u64 > waiting(space, self.parts.config.overlay_limit() as u64);
        if self.parts.memory_full.swap(full, Ordering::Relaxed) != full {
            tracing::warn!(node = %self.parts.me, overlay, full, "memory for what waits to be flushed");
        }
    }

    fn is_pending(&self) -> bool {
        self.written > self.checked || self.parts.state.read().overlay_bytes() > 0
    }

    /// What else is to be said of a store that has failed.
    fn where_full(&self) -> &'static str {
        match self.parts.disk.space() {
            Ok(space) if space.free < needed(space, 0, self.store.disk_bytes()) => {
                " (its file system is full: it goes on from its log when it is started again and there is room)"
            }
            _ => "",
        }
    }

    /// The state may have been replaced by a snapshot since the last step: gives the store that was left then, which
    /// nobody else has.
    fn follow(&mut self) -> Option<Arc<StateStore>> {
        let state = self.parts.state.read();
        if Arc::ptr_eq(state.store(), &self.store) {
            return None;
        }
        self.written = state.synced_index().0;
        self.checked = self.written;
        self.records = 0;
        Some(std::mem::replace(&mut self.store, Arc::clone(state.store())))
    }

    fn flush(&mut self) -> Result<(), String> {
        let Some(batch) = self.parts.state.write().freeze() else {
            return Ok(());
        };
        let (index, records) = (batch.applied().0, batch.len());
        let done = batch
            .write_to(&Deferred(Arc::clone(&self.store)))
            .map_err(|error| error.to_string())?;
        let old = self.parts.state.write().flushed(done);
        // Without the lock: it is as large as a batch.
        drop(old);
        assert!(
            index >= self.written,
            "batches follow each other: {index} after {}",
            self.written
        );
        self.written = index;
        self.records += records;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        self.checkpointed = self.parts.clock.now();
        if self.written > self.checked {
            if !planted(Bug::CheckpointNotSynced) {
                self.store.sync().map_err(|error| error.to_string())?;
            }
            self.checked = self.written;
            self.records = 0;
            self.parts.metrics.synced_index.set(self.checked as i64);
        }
        Ok(())
    }

    fn keep_up(&mut self) -> Result<(), String> {
        if self.room.is_open() {
            self.checkpoint()?;
        }
        let scarce = self.parts.disk_full.load(Ordering::Relaxed) || self.exports.is_hurried();
        // Whoever is alone keeps nothing for others, and a full disk cannot.
        let keep = match scarce {
            true => 0,
            false => self.parts.config.log_keep_entries,
        };
        self.purge(self.checked.saturating_sub(keep));
        Ok(())
    }

    /// Whether this is the only voter; `None` before Raft has said so.
    fn is_alone(&self) -> Option<bool> {
        let view = self.parts.raft.borrow_view();
        let (conf, me) = (&view.conf, self.parts.me.0);
        let lone = conf.voters == [me] && conf.voters_outgoing.is_empty();
        (!conf.voters.is_empty()).then_some(lone)
    }

    fn export(&mut self) -> Result<(), String> {
        let parts = &self.parts;
        match self.is_alone() {
            Some(true) if !parts.lifecycle.is_stopped() => {
                self.exports.look(&parts.exports);
                let (now, bytes) = (parts.clock.now(), parts.metrics.log_bytes.get());
                let held = u64::try_from(parts.metrics.log_held_bytes.get()).unwrap_or(0);
                let limit = parts.config.log_limit.0;
                self.exports.hurry(held > limit / 2);
                self.set_log_full(held > limit && self.exports.would_help(self.written));
                let parts = &self.parts;
                let cut = self.purged > BOOTSTRAP_INDEX.0 + 1;
                let after = parts.config.export_after.0;
                if self.room.is_open() && self.exports.is_due(now, self.written, bytes, after, cut) {
                    let view = self.store.view().map_err(|error| error.to_string())?;
                    self.exports.start(&parts.exports, view);
                }
            }
            Some(false) => {
                self.exports.hurry(false);
                self.exports.give_up(&parts.exports);
                self.set_log_full(false);
            }
            _ => {}
        }
        Ok(())
    }

    fn set_log_full(&self, full: bool) {
        if self.parts.log_full.swap(full, Ordering::Relaxed) != full {
            self.parts.metrics.log_full.set(i64::from(full));
            let held = self.parts.metrics.log_held_bytes.get();
            tracing::warn!(node = %self.parts.me, held, full, "log kept for exports beyond log-limit");
        }
    }

    /// How far the exports of a lone voter let the log be purged.
    fn allowed(&mut self, below: u64) -> u64 {
        let allowed = match self.is_alone() {
            Some(false) => return below,
            Some(true) => self.exports.covered() + 1,
            None => 0,
        };
        if allowed < below && self.parts.disk_full.load(Ordering::Relaxed) {
            // A full disk that nothing can free any more is worse than a log that no export leads to.
            tracing::warn!(node = %self.parts.me, below, "the disk is full: the log is cut beyond the exports");
            self.exports.overtaken(below);
            return below;
        }
        below.min(allowed)
    }

    fn purge(&mut self, below: u64) {
        let below = below.min(self.checked + 1);
        if below <= self.purged {
            return;
        }
        let below = self.allowed(below);
        if below > self.purged {
            assert!(
                below <= self.checked + 1,
                "the log is purged only below what tables hold: {below}, {} is held",
                self.checked
            );
            self.purged = below;
            let below = below.into();
            self.parts.raft.input(Input::Purge { below });
        }
    }

    fn snapshot(&mut self, at_least: u64) -> Result<(), String> {
        if self.written < at_least || !self.room.is_open() {
            // Apply or the flush is behind what Raft has seen, or no file can be made: Raft asks again.
            self.parts.raft.input(Input::SnapshotNotMade);
            return Ok(());
        }
        let view = self.store.view().map_err(|error| error.to_string())?;
        self.parts.snapshots.make(view);
        Ok(())
    }

    fn look_at_space(&mut self) {
        let now = self.parts.clock.now();
        if self
            .looked
            .is_some_and(|looked| now.since(looked) < SPACE_INTERVAL)
        {
            return;
        }
        self.looked = Some(now);
        if let Ok(space) = self.parts.disk.space() {
            let usual = RESERVE_BYTES.min(space.total / RESERVE_PART);
            let reserve = self.parts.config.disk_reserve.map_or(usual, |bytes| bytes.0);
            if self.room.is_open() {
                self.ballast.take_if_possible(space, reserve);
            }
            let full = space.free < reserve;
            if self.parts.disk_full.swap(full, Ordering::Relaxed) != full {
                tracing::warn!(node = %self.parts.me, free = space.free, full, "disk reserve");
                self.parts.raft.input(Input::DiskFull(full));
            }
        }
    }
}
