//! When a lone voter exports its state, and how much of the log the exports allow to purge.
//!
//! Costs are bounded by two rules. An export is made after as many bytes of log as the last one had (at least
//! `export-after`, at most [`MOST`]), so that for states up to [`MOST`] an export writes, and reads back, no more
//! than the log did; and never before three times as long has passed as the last one took, so that exports take
//! at most a quarter of the time whatever the size of the state. Disk: two exports, a third while it is made,
//! and the log of about two such intervals. If that log is more than half of `log-limit` both rules give way, and one
//! export follows the other; beyond `log-limit` the server takes no commands that an export cannot follow.

use super::export::{Export, ExportError, list, remove_others, verify, write};
use crate::lifecycle::Lifecycle;
use crate::message::{ExportOutcome, ToFlush};
use crate::metrics::Metrics;
use crate::state::stores::settings_of;
use drystone_env::{Clock, Disk, Monotonic};
use drystone_identity::Identity;
use drystone_namespace::View;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// The longest interval in bytes of log: bounds the log on the disk, and what a rebuild replays.
const MOST: u64 = 256 << 20;
/// The share of time: one part in as many, less one.
const REST: u32 = 3;
/// Exports that fail in a row before nobody waits for one.
const GIVE_UP: u32 = 2;
/// After an export that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Exports that are kept: the newest, and the one that stands in when that has rotted.
const KEPT: usize = 2;
/// What one entry takes of the log at most, if it came alone: for entries that were written before this start.
const ENTRY_BYTES: u64 = 4096;

/// What exports are made with.
#[derive(Clone)]
pub(crate) struct ExportParts {
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) flush: UnboundedSender<ToFlush>,
    pub(crate) metrics: Metrics,
}

impl ExportParts {
    /// Lost when the flush thread has ended.
    fn tell_flush(&self, outcome: ExportOutcome) {
        let _ = self.flush.send(ToFlush::Exported(outcome));
    }
}

/// See the module. Lives in the flush thread.
pub(crate) struct ExportSchedule {
    /// Read back, newest first; `None` until those that were there at the start are.
    kept: Option<Vec<Export>>,
    running: bool,
    began: Monotonic,
    not_before: Monotonic,
    /// Not before this either, if the last one failed.
    again: Monotonic,
    /// Exports that failed in a row.
    failures: u32,
    /// The counter of log bytes when the last one began.
    at_bytes: u64,
    /// Bytes of log that are older than the counter and in no export.
    before: u64,
    /// Raft holds more in memory than it wants to.
    pressed: bool,
    /// The log on the disk is large.
    hurried: bool,
}

impl ExportSchedule {
    pub(crate) fn new(now: Monotonic) -> Self {
        Self {
            kept: None,
            running: false,
            began: now,
            not_before: now,
            again: now,
            failures: 0,
            at_bytes: 0,
            before: 0,
            pressed: false,
            hurried: false,
        }
    }

    /// Raft asks for a purge, which waits for exports.
    pub(crate) fn press(&mut self) {
        self.pressed = true;
    }

    /// Whether the log on the disk is so large that exports follow each other.
    pub(crate) fn hurry(&mut self, hurried: bool) {
        self.hurried = hurried;
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.hurried
    }

    /// True if another export of a state of index `applied` would let log go, as soon as it can be made. Not if there is
    /// one of it: then only what is written next can be exported. Nor if none can be made: then the log grows, up to what
    /// the disk keeps free.
    pub(crate) fn would_help(&self, applied: u64) -> bool {
        let kept = self.kept.as_deref().unwrap_or_default();
        self.failures < GIVE_UP
            && (self.running || kept.first().is_none_or(|newest| newest.applied.0 < applied))
    }

    /// The log below this index and at it may be purged, as far as exports are concerned: the older of the two can
    /// still be followed by the log. 0: nothing.
    pub(crate) fn covered(&self) -> u64 {
        let kept = self.kept.as_deref().unwrap_or_default();
        kept.get(KEPT - 1).map_or(0, |older| older.applied.0)
    }

    /// Looks at what was there at the start, on a thread of its own.
    pub(crate) fn look(&mut self, parts: &ExportParts) {
        if self.kept.is_some() || self.running {
            return;
        }
        self.running = true;
        let inner = parts.clone();
        parts.lifecycle.thread("meta-export", async move {
            let found = verified(&inner);
            inner.tell_flush(ExportOutcome::Found(found));
        });
    }

    /// Exports `view` on a thread of its own.
    pub(crate) fn start(&mut self, parts: &ExportParts, view: Box<dyn View>) {
        self.running = true;
        self.pressed = false;
        self.before = 0;
        self.at_bytes = parts.metrics.log_bytes.get();
        self.began = parts.clock.now();
        let inner = parts.clone();
        parts.lifecycle.thread("meta-export", async move {
            let goes_on = || !inner.lifecycle.is_stopped();
            let made = write(&*inner.disk, &*view, &settings_of(&inner.identity), &goes_on);
            drop(view);
            inner.tell_flush(ExportOutcome::New(made));
        });
    }

    /// Takes what came of it. `last` is the state's index now.
    pub(crate) fn done(&mut self, parts: &ExportParts, made: ExportOutcome, last: u64) {
        let now = parts.clock.now();
        self.running = false;
        match made {
            ExportOutcome::Found(found) => {
                let newest = found.first().map_or(0, |export| export.applied.0);
                self.before = last.saturating_sub(newest).saturating_mul(ENTRY_BYTES);
                self.kept = Some(found);
            }
            ExportOutcome::New(Ok(export)) => {
                let took = now.since(self.began);
                self.not_before = now.plus(took * REST);
                tracing::info!(node = %parts.identity.node, index = export.applied.0, bytes = export.bytes,
                    ms = took.as_millis() as u64, "state exported");
                self.failures = 0;
                parts.metrics.exports.inc();
                parts.metrics.exported_index.set(export.applied.0 as i64);
                let kept = self.kept.get_or_insert_default();
                kept.retain(|other| other.applied < export.applied);
                kept.insert(0, export);
                kept.truncate(KEPT);
                if let Err(error) = remove_others(&*parts.disk, kept) {
                    tracing::warn!(node = %parts.identity.node, %error, "old exports could not be removed");
                }
            }
            ExportOutcome::New(Err(ExportError::Stopped)) => {}
            ExportOutcome::New(Err(error)) => {
                self.again = now.plus(AGAIN);
                self.failures += 1;
                parts.metrics.exports_failed.inc();
                tracing::error!(node = %parts.identity.node, %error, "the state could not be exported");
            }
        }
    }

    /// True if a state of index `applied` is to be exported now. `log_bytes` is the counter, `cut` says that the log
    /// does not reach back to the beginning.
    pub(crate) fn is_due(&self, now: Monotonic, applied: u64, log_bytes: u64, after: u64, cut: bool) -> bool {
        let Some(kept) = &self.kept else { return false };
        let newest = kept.first();
        let rests = now < self.again || (now < self.not_before && !self.hurried);
        if self.running || rests || newest.is_some_and(|newest| newest.applied.0 >= applied) {
            return false;
        }
        let interval = newest
            .map_or(0, |newest| newest.bytes)
            .clamp(after, MOST.max(after));
        let grown = log_bytes
            .saturating_sub(self.at_bytes)
            .saturating_add(self.before);
        // Without a beginning in the log there is nothing to rebuild from.
        (cut && newest.is_none()) || self.pressed || self.hurried || grown >= interval
    }

    /// The voter is not alone any more: others have what it has, and the log goes on without regard to exports.
    pub(crate) fn give_up(&mut self, parts: &ExportParts) {
        if self.running || self.kept.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        match remove_others(&*parts.disk, &[]) {
            Ok(()) => self.kept = Some(Vec::new()),
            Err(error) => {
                tracing::warn!(node = %parts.identity.node, %error, "exports could not be removed");
            }
        }
    }

    /// The log had to be cut beyond them: they lead nowhere any more.
    pub(crate) fn overtaken(&mut self, below: u64) {
        if let Some(kept) = &mut self.kept {
            kept.retain(|export| export.applied.0 + 1 >= below);
        }
    }
}

fn verified(parts: &ExportParts) -> Vec<Export> {
    let (settings, goes_on) = (settings_of(&parts.identity), || !parts.lifecycle.is_stopped());
    let mut found = Vec::new();
    let names = list(&*parts.disk).unwrap_or_else(|error| {
        tracing::warn!(node = %parts.identity.node, %error, "exports could not be listed");
        Vec::new()
    });
    for applied in names {
        match verify(&*parts.disk, applied, &settings, &goes_on) {
            Ok(export) => found.push(export),
            Err(ExportError::Stopped) => break,
            Err(error) => {
                tracing::error!(node = %parts.identity.node, %error, "an export is damaged and does not count");
            }
        }
    }
    found.truncate(KEPT);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_types::LogIndex;

    fn export(applied: u64, bytes: u64) -> Export {
        Export {
            applied: LogIndex(applied),
            time: 0,
            bytes,
        }
    }

    fn schedule(kept: Vec<Export>) -> ExportSchedule {
        ExportSchedule {
            kept: Some(kept),
            ..ExportSchedule::new(Monotonic(0))
        }
    }

    const AFTER: u64 = 16 << 20;

    #[test]
    fn an_export_is_due_after_as_much_log_as_the_last_one_had() {
        let now = Monotonic(5);
        let due = |schedule: &ExportSchedule, bytes| schedule.is_due(now, 10, bytes, AFTER, false);
        assert!(
            !due(&ExportSchedule::new(now), u64::MAX),
            "not before the old ones are known"
        );
        assert!(!due(&schedule(vec![]), AFTER - 1) && due(&schedule(vec![]), AFTER));
        let large = schedule(vec![export(9, 100 << 20)]);
        assert!(!due(&large, 99 << 20) && due(&large, 100 << 20));
        let huge = schedule(vec![export(9, 9 << 30)]);
        assert!(!due(&huge, MOST - 1) && due(&huge, MOST));
        assert!(!due(&schedule(vec![export(10, 1)]), MOST), "nothing is new");
        let waits = ExportSchedule {
            not_before: Monotonic(6),
            ..schedule(vec![])
        };
        assert!(!due(&waits, MOST), "its share of time is used up");
    }

    #[test]
    fn a_log_that_was_cut_or_is_large_in_memory_asks_for_one_at_once() {
        let now = Monotonic(5);
        assert!(schedule(vec![]).is_due(now, 10, 0, AFTER, true));
        assert!(!schedule(vec![export(5, 1)]).is_due(now, 10, 0, AFTER, true));
        let mut pressed = schedule(vec![export(5, 1)]);
        pressed.press();
        assert!(pressed.is_due(now, 10, 0, AFTER, true));
    }

    #[test]
    fn with_a_large_log_one_export_follows_the_other_but_for_those_that_fail() {
        let now = Monotonic(5);
        let mut schedule = ExportSchedule {
            not_before: Monotonic(6),
            ..schedule(vec![export(9, 100 << 20)])
        };
        assert!(!schedule.is_due(now, 10, 0, AFTER, true));
        schedule.hurry(true);
        assert!(schedule.is_due(now, 10, 0, AFTER, true));
        assert!(schedule.would_help(10));
        schedule.again = Monotonic(6);
        assert!(
            !schedule.is_due(now, 10, 0, AFTER, true),
            "it failed a moment ago"
        );
        assert!(schedule.would_help(10), "it will be made again");
        assert!(!schedule.would_help(9), "there is one of all that is written");
        schedule.running = true;
        assert!(schedule.would_help(9));
        schedule.failures = GIVE_UP;
        assert!(!schedule.would_help(10), "none can be made");
    }

    #[test]
    fn the_log_is_kept_since_the_older_of_two_exports() {
        assert_eq!(ExportSchedule::new(Monotonic(0)).covered(), 0);
        assert_eq!(schedule(vec![export(9, 1)]).covered(), 0);
        let mut two = schedule(vec![export(9, 1), export(4, 1)]);
        assert_eq!(two.covered(), 4);
        two.overtaken(10);
        assert_eq!(two.covered(), 0);
        assert_eq!(two.kept, Some(vec![export(9, 1)]));
    }
}
