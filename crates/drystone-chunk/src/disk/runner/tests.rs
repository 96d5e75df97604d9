use super::*;
use crate::config::Config;
use crate::disk::ops::store_config;
use drystone_env::os::OsDisk;
use drystone_env::sim::{SimClock, SimDisk, Stall, StallingDisk};
use drystone_env::{Disk, WallTime};
use drystone_types::{ChunkId, DiskId, Incarnation};
use futures_util::FutureExt;

fn message() -> DiskMessage {
    DiskMessage::Usage(oneshot::channel().0)
}

#[test]
fn a_flood_of_one_class_leaves_the_others_their_places() {
    let mut inbox = DiskInbox::default();
    assert_eq!(inbox.push(IoClass::Repair, message()), Ok(true));
    let taken = (0..10_000).filter(|_| inbox.push(IoClass::Repair, message()).is_ok());
    assert_eq!(taken.count() + 1, MOST_REQUESTS[1]);
    assert_eq!(inbox.push(IoClass::Repair, message()), Err(NotTaken::Full));
    assert_eq!(inbox.push(IoClass::Foreground, message()), Ok(false));
    assert_eq!(inbox.push(IoClass::Scrub, message()), Ok(false));
    let (mut messages, mut completions) = (VecDeque::new(), VecDeque::new());
    inbox.take(&mut messages, &mut completions);
    assert_eq!(messages.len(), MOST_REQUESTS[1] + 2);
    assert_eq!(inbox.push(IoClass::Repair, message()), Ok(true));
}

#[test]
fn background_has_a_quarter_and_one_answer_at_least() {
    let whole = MAX_PAYLOAD_BYTES as u64;
    assert_eq!(limits(64 << 20), [64 << 20, 16 << 20, 16 << 20]);
    assert_eq!(limits(whole), [whole; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_stays_locked_while_work_on_it_hangs_even_if_the_thread_of_its_store_is_dead() {
    let home = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::new(Monotonic(0), WallTime(0)));
    let env = Env {
        clock: Arc::clone(&clock) as _,
        ..Env::os()
    };
    let me = DiskRef {
        disk: DiskId(1),
        incarnation: Incarnation(1),
    };
    let (stall, pool) = (Arc::<Stall>::default(), BufferPool::new(1 << 20));
    let disk = Arc::new(OsDisk::new(home.path()).unwrap());
    let disk: Arc<dyn Disk> = Arc::new(StallingDisk::new(disk, "", Arc::clone(&stall)));
    let opened = Store::open(disk, store_config(&Config::default()), me, pool.clone());
    // Its sender is dropped when the directory is unlocked.
    let (lock, mut unlocked) = oneshot::channel::<()>();
    let lock: Box<dyn Send + Sync> = Box::new(lock);
    let store = (opened.unwrap().0, Some(lock));
    let runner = DiskRunner::start(&env, "disk".into(), me, store, pool, (2, 1 << 20, 1 << 20));
    stall.begin();
    let raise = |request| StoreInput::RaiseFloor {
        request,
        floor: ChunkId(7),
    };
    let hung = runner.submit(IoClass::Foreground, None, Box::new(raise));
    stall.until_waiting(1);
    let dies = |_: RequestId| -> StoreInput { panic!("as it is meant to") };
    let dies = runner.submit(IoClass::Foreground, None, Box::new(dies));
    assert!(dies.unwrap().await.is_err() && hung.unwrap().await.is_err());
    {
        let mut closing = std::pin::pin!(runner.close());
        assert!(closing.as_mut().now_or_never().is_none(), "work is under way");
        clock.advance(CLOSING + LONGEST_SLEEP);
        assert_eq!(closing.as_mut().now_or_never(), Some(false));
    }
    drop(runner);
    assert_eq!(unlocked.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    stall.end();
    assert!(unlocked.await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_disk_tells_what_others_left_of_its_file_system() {
    let (env, pool) = (Env::os(), BufferPool::new(1 << 20));
    let me = DiskRef {
        disk: DiskId(1),
        incarnation: Incarnation(1),
    };
    let disk = Arc::new(SimDisk::with_capacity(1, 8 << 30));
    let disk = Arc::new(StallingDisk::new(disk, "", Arc::default()));
    let opened = Store::open(
        Arc::clone(&disk) as _,
        store_config(&Config::default()),
        me,
        pool.clone(),
    );
    let store = (opened.unwrap().0, None);
    let runner = DiskRunner::start(&env, "disk".into(), me, store, pool, (1, 1 << 20, 1 << 20));
    let Usage(before) = runner.usage().unwrap().await.unwrap();
    disk.limit_free(2 << 30);
    let Usage(after) = runner.usage().unwrap().await.unwrap();
    assert!(
        before.free_bytes > 6 << 30 && after.free_bytes < 2 << 30,
        "{before:?}, {after:?}"
    );
    assert_eq!(after.used_bytes, 0);
    runner.close().await;
}
