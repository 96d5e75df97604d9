//! A disk of which is known whether it answers: while it is opened, a disk that hangs must not hold up the others.
//!
//! Owns the decision that a disk hangs: one operation of it is under way, and none has ended for [`PATIENCE`]. A disk that
//! answers slowly, and one that is not asked, may take as long as they like: recovery reads what a large journal holds. Time
//! in which this process did not run (it was stopped, or its machine was moved) is not the disk's.

use drystone_env::{BoxFuture, Clock, Disk, DiskFile, OpenOptions, Space};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a disk may take for one answer: one that wakes up, or a mount that finds its server again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(500);
/// A disk hangs after so many looks in a row: a process that does not run does not look.
const LOOKS: u128 = PATIENCE.as_millis() / LOOK.as_millis();

/// Why a disk that hangs is left out, for people.
pub(crate) fn hangs() -> String {
    format!(
        "it does not answer for {PATIENCE:?}: is its disk broken, or is it on a mount whose server is away? Once it answers, \
         a restart of this chunk server takes it in"
    )
}

/// Operations on one disk.
#[derive(Default)]
pub(crate) struct Operations {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Operations {
    pub(crate) fn during<T>(&self, operation: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let outcome = operation();
        self.ended.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// What comes of work on the disk; `None` if the disk hangs meanwhile. `Some(Err(_))` if the work was dropped.
    pub(crate) async fn wait<T>(
        &self,
        clock: &dyn Clock,
        mut done: oneshot::Receiver<T>,
    ) -> Option<Result<T, oneshot::error::RecvError>> {
        // How many operations had ended when the one that is under way was seen first, and how often it was looked since.
        let mut stuck: Option<(u64, u128)> = None;
        loop {
            if let Some(done) = clock.until(clock.now().plus(LOOK), &mut done).await {
                return Some(done);
            }
            let ended = self.ended.load(Ordering::Relaxed);
            let is_busy = self.begun.load(Ordering::Relaxed) != ended;
            stuck = match stuck {
                Some((before, looks)) if is_busy && before == ended => {
                    if looks + 1 >= LOOKS {
                        return None;
                    }
                    Some((before, looks + 1))
                }
                _ => is_busy.then_some((ended, 0)),
            };
        }
    }
}

/// `disk`, and what is under way on it.
pub(crate) fn watch(disk: Arc<dyn Disk>) -> (Arc<dyn Disk>, Arc<Operations>) {
    let operations = Arc::<Operations>::default();
    let watched = WatchedDisk {
        disk,
        operations: Arc::clone(&operations),
    };
    (Arc::new(watched), operations)
}

struct WatchedDisk {
    disk: Arc<dyn Disk>,
    operations: Arc<Operations>,
}

struct WatchedFile {
    file: Arc<dyn DiskFile>,
    operations: Arc<Operations>,
}

impl Disk for WatchedDisk {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.operations.during(|| self.disk.open(name, options))?;
        Ok(Arc::new(WatchedFile {
            file,
            operations: Arc::clone(&self.operations),
        }))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.operations.during(|| self.disk.create_dir(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operations.during(|| self.disk.rename(from, to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.operations.during(|| self.disk.unlink(name))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.operations.during(|| self.disk.list(directory))
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.operations.during(|| self.disk.sync_dir(directory))
    }

    fn space(&self) -> io::Result<Space> {
        self.operations.during(|| self.disk.space())
    }

    fn delay(&self) -> Option<BoxFuture<()>> {
        self.disk.delay()
    }
}

impl DiskFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.operations.during(|| self.file.read_at(buffer, offset))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.operations.during(|| self.file.write_at(data, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operations.during(|| self.file.sync_data())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.operations.during(|| self.file.allocate(length))
    }

    fn len(&self) -> io::Result<u64> {
        self.operations.during(|| self.file.len())
    }

    fn is_empty(&self) -> io::Result<bool> {
        self.operations.during(|| self.file.is_empty())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.operations.during(|| self.file.truncate(length))
    }

    fn delay(&self) -> Option<BoxFuture<()>> {
        self.file.delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_env::sim::SimClock;
    use drystone_env::{Monotonic, WallTime};
    use futures_util::FutureExt;

    #[test]
    fn a_disk_hangs_if_one_operation_does_not_end_and_not_if_many_take_long() {
        let clock = SimClock::new(Monotonic(0), WallTime(0));
        let operations = Operations::default();
        let (sender, receiver) = oneshot::channel::<()>();
        let waiting = operations.wait(&clock, receiver);
        let mut waiting = std::pin::pin!(waiting);
        let mut pass = |seconds: u64| {
            for _ in 0..2 * seconds {
                if let Some(outcome) = (&mut waiting).now_or_never() {
                    return Some(outcome);
                }
                clock.advance(LOOK);
            }
            None
        };
        // It is not asked, and then it answers slowly, one answer after the other.
        assert!(pass(60).is_none());
        operations.begun.fetch_add(1, Ordering::Relaxed);
        for _ in 0..10 {
            assert!(pass(9).is_none());
            operations.begun.fetch_add(1, Ordering::Relaxed);
            operations.ended.fetch_add(1, Ordering::Relaxed);
        }
        assert!(matches!(pass(12), Some(None)), "it hangs");
        drop(sender);
    }

    #[test]
    fn a_disk_does_not_hang_while_its_process_does_not_run() {
        let clock = SimClock::new(Monotonic(0), WallTime(0));
        let operations = Operations::default();
        let (sender, receiver) = oneshot::channel::<()>();
        let waiting = operations.wait(&clock, receiver);
        let mut waiting = std::pin::pin!(waiting);
        operations.begun.fetch_add(1, Ordering::Relaxed);
        // The process was stopped three times, each time for longer than a disk may take.
        for pause in [1, 30, 1, 3_600, 1, 30, 1] {
            assert!((&mut waiting).now_or_never().is_none());
            clock.advance(Duration::from_secs(pause));
        }
        assert!((&mut waiting).now_or_never().is_none());
        sender.send(()).unwrap();
        assert!(matches!((&mut waiting).now_or_never(), Some(Some(Ok(())))));
    }
}
