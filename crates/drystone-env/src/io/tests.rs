use super::*;
use crate::Space;
use crate::sim::SimDisk;
use std::sync::Mutex;

const M1: u64 = 1 << 20;

const PLAIN: OpenOptions = OpenOptions {
    create: false,
    exclusive: false,
    direct: false,
};

fn room(most: u64, least: u64, leave: u64) -> Room {
    Room {
        most: most * M1,
        least: least * M1,
        leave: leave * M1,
    }
}

/// Whoever asks it for its space does not know what is taken of it right after.
struct SharedDisk {
    inner: SimDisk,
    other: Arc<dyn DiskFile>,
    /// Bytes that another takes after the next looks, the last first.
    others: Mutex<Vec<u64>>,
}

impl SharedDisk {
    fn new(capacity: u64, others: Vec<u64>) -> Self {
        let inner = SimDisk::with_capacity(1, capacity * M1);
        let other = inner.open(
            "other",
            OpenOptions {
                create: true,
                ..PLAIN
            },
        );
        Self {
            inner,
            other: other.unwrap(),
            others: Mutex::new(others),
        }
    }
}

impl Disk for SharedDisk {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(name, options)
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.inner.create_dir(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn unlink(&self, name: &str) -> io::Result<()> {
        self.inner.unlink(name)
    }
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }
    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_dir(directory)
    }
    fn space(&self) -> io::Result<Space> {
        let space = self.inner.space();
        if let Some(bytes) = self.others.lock().unwrap().pop() {
            self.other.allocate(self.other.len()? + bytes * M1)?;
        }
        space
    }
}

#[test]
fn a_file_takes_all_but_what_must_be_left() {
    let disk = SharedDisk::new(100, Vec::new());
    let file = create_within(&disk, "a", room(200, 10, 30), PLAIN)
        .unwrap()
        .unwrap();
    assert_eq!(file.len().unwrap(), 70 * M1);
    assert!(
        create_within(&disk, "b", room(200, 0, 30), PLAIN)
            .unwrap()
            .is_none()
    );
    assert_eq!(disk.list("").unwrap(), ["a", "other"]);
}

#[test]
fn with_less_than_the_least_there_is_no_file() {
    let disk = SharedDisk::new(100, Vec::new());
    assert!(
        create_within(&disk, "a", room(200, 71, 30), PLAIN)
            .unwrap()
            .is_none()
    );
    assert_eq!(disk.list("").unwrap(), ["other"]);
    assert_eq!(disk.space().unwrap().free, 100 * M1);
}

#[test]
fn a_step_that_took_what_must_be_left_is_given_back() {
    // 30 of 100 are taken by another right after the first step was decided on, and 35 after the fourth was.
    let disk = SharedDisk::new(100, vec![35, 0, 0, 0, 0, 0, 30]);
    let file = create_within(&disk, "a", room(64, 1, 40), PLAIN)
        .unwrap()
        .unwrap();
    assert_eq!(file.len().unwrap(), 3 * M1);
    // The other did not care.
    assert_eq!(disk.space().unwrap().free, 32 * M1);
}

/// Some that grow at once: what they take too much for a moment is within a step of each.
#[test]
fn many_that_grow_at_once_leave_what_they_must() {
    let disk = SimDisk::with_capacity(3, 2048 * M1);
    let made = Mutex::new(0);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (disk, made) = (&disk, &made);
            scope.spawn(move || {
                let name = number.to_string();
                let file = create_within(disk, &name, room(1024, 1, 200), PLAIN).unwrap();
                *made.lock().unwrap() += file.map_or(0, |file| file.len().unwrap());
            });
        }
    });
    let (free, made) = (disk.space().unwrap().free, *made.lock().unwrap());
    assert_eq!(free + made, 2048 * M1);
    assert!(free >= 200 * M1, "{free}");
    assert!(made >= 1800 * M1, "{made}");
}

#[test]
fn a_file_system_that_has_less_than_it_says_gives_what_it_has() {
    struct Quota(SharedDisk);
    impl Disk for Quota {
        fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
            self.0.open(name, options)
        }
        fn create_dir(&self, name: &str) -> io::Result<()> {
            self.0.create_dir(name)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn unlink(&self, name: &str) -> io::Result<()> {
            self.0.unlink(name)
        }
        fn list(&self, directory: &str) -> io::Result<Vec<String>> {
            self.0.list(directory)
        }
        fn sync_dir(&self, directory: &str) -> io::Result<()> {
            self.0.sync_dir(directory)
        }
        fn space(&self) -> io::Result<Space> {
            let space = self.0.space()?;
            Ok(Space {
                free: space.free + 500 * M1,
                ..space
            })
        }
    }
    let disk = Quota(SharedDisk::new(50, Vec::new()));
    let file = create_within(&disk, "a", room(200, 10, 30), PLAIN)
        .unwrap()
        .unwrap();
    assert!(file.len().unwrap() > 30 * M1);
    let refused = create_within(&disk, "b", room(200, 30, 30), PLAIN);
    assert_eq!(refused.err().unwrap().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_file_of_a_fixed_length_leaves_what_it_must() {
    let pool = BufferPool::new(4 * M1 as usize);
    let make = |disk: &SharedDisk, leave: u64| create(disk, "a", (16 * M1, leave * M1), PLAIN, true, &pool);
    let disk = SharedDisk::new(100, Vec::new());
    let refused = make(&disk, 85).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.space().unwrap().free, 100 * M1);
    assert_eq!(make(&disk, 84).unwrap().len().unwrap(), 16 * M1);
    // Another takes 10 while it grows.
    let disk = SharedDisk::new(100, vec![10, 0, 0, 0, 0]);
    let refused = make(&disk, 80).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.space().unwrap().free, 90 * M1);
}
