use super::*;
use drystone_env::sim::{SimDisk, Stall, StallingDisk};
use drystone_proto::raft::{RaftConfState, RaftSnapshotMeta};

struct Bed {
    disk: Arc<dyn Disk>,
    stall: Arc<Stall>,
    arrivals: Arc<Arrivals>,
}

fn bed() -> Bed {
    let inner: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    layout::prepare(&*inner).unwrap();
    let stall = Arc::new(Stall::default());
    let stalling = StallingDisk::new(Arc::clone(&inner), "snapshots/", Arc::clone(&stall));
    Bed {
        disk: inner,
        stall,
        arrivals: Arc::new(Arrivals::new(Arc::new(stalling))),
    }
}

fn part(from: u64, id: &'static str, offset: u64) -> SnapshotPart {
    SnapshotPart {
        id: id.into(),
        from,
        offset,
        ..SnapshotPart::default()
    }
}

fn last(from: u64, id: &'static str, offset: u64, whole: &[u8]) -> SnapshotPart {
    let conf = RaftConfState {
        voters: vec![1, 2],
        ..RaftConfState::default()
    };
    SnapshotPart {
        last: true,
        checksum: crc32c::crc32c(whole),
        meta: Some(RaftSnapshotMeta {
            index: 9,
            term: 2,
            conf: Some(conf),
            data: id.into(),
        }),
        ..part(from, id, offset)
    }
}

fn code(answer: Result<Taken, ErrorReply>) -> (u32, u64) {
    let error = answer.unwrap_err();
    (error.code, error.expected)
}

#[test]
fn parts_in_order_make_a_snapshot_and_its_file_is_given_once() {
    let Bed { disk, arrivals, .. } = bed();
    assert_eq!(
        code(arrivals.take(part(2, "a", 3), b"x")),
        (Code::Conflict.number(), 0)
    );
    assert_eq!(arrivals.take(part(2, "a", 0), b"one"), Ok(Taken::Part));
    assert_eq!(
        code(arrivals.take(part(2, "a", 0), b"one")),
        (Code::Conflict.number(), 3)
    );
    assert!(arrivals.take_whole(&"a".into()).is_none());
    let whole = arrivals.take(last(2, "a", 3, b"onetwo"), b"two").unwrap();
    assert!(matches!(whole, Taken::Whole(meta) if meta.index.0 == 9));
    assert_eq!(
        arrivals.take(last(2, "a", 3, b"onetwo"), b"two"),
        Ok(Taken::Part),
        "again"
    );
    assert_eq!(
        code(arrivals.take(part(2, "b", 0), b"one")).0,
        Code::Busy.number()
    );
    assert!(arrivals.forget_incomplete().is_empty());
    let path = arrivals.take_whole(&"a".into()).unwrap();
    assert!(arrivals.take_whole(&"a".into()).is_none());
    let mut found = [0; 6];
    let file = disk.open(&path, drystone_env::OpenOptions::default()).unwrap();
    file.read_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"onetwo");
}

#[test]
fn what_ends_a_transfer_leaves_no_file() {
    let Bed { disk, arrivals, .. } = bed();
    let files = || disk.list("snapshots").unwrap().len();
    arrivals.take(part(2, "a", 0), b"one").unwrap();
    arrivals.take(part(2, "b", 0), b"one").unwrap();
    assert_eq!(files(), 1, "another one of the same sender");
    assert_eq!(
        code(arrivals.take(last(2, "b", 3, b"other"), b"two")).0,
        Code::Corrupt.number()
    );
    assert_eq!(files(), 0, "a checksum that does not match");
    arrivals.take(part(2, "c", 0), b"one").unwrap();
    arrivals.take(last(2, "c", 3, b"onetwo"), b"two").unwrap();
    arrivals.ignore(2, &"other".into());
    assert_eq!(files(), 1);
    arrivals.ignore(2, &"c".into());
    assert_eq!(files(), 0, "Raft has no use for it");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a call that hangs needs a thread, and no run depends on it"
)]
fn a_disk_that_hangs_holds_up_nobody_but_the_one_who_writes() {
    let Bed {
        disk,
        stall,
        arrivals,
    } = bed();
    arrivals.take(part(3, "whole", 0), b"one").unwrap();
    arrivals.take(last(3, "whole", 3, b"onetwo"), b"two").unwrap();
    arrivals.take(part(2, "a", 0), b"one").unwrap();
    stall.begin();
    let writes = {
        let arrivals = Arc::clone(&arrivals);
        std::thread::spawn(move || arrivals.take(part(2, "a", 3), b"two"))
    };
    stall.until_waiting(1);
    // With the lock held over the write none of these would return.
    let whole = arrivals.take_whole(&"whole".into());
    assert!(whole.is_some());
    arrivals.ignore(2, &"a".into());
    let forgotten = arrivals.forget_incomplete();
    assert_eq!(forgotten.len(), 1);
    stall.end();
    // The transfer was ended under it.
    assert_eq!(code(writes.join().unwrap()), (Code::Conflict.number(), 0));
    disk.unlink(&forgotten[0]).unwrap();
    assert_eq!(
        arrivals.take(part(2, "a", 0), b"one"),
        Ok(Taken::Part),
        "from the beginning"
    );
}
