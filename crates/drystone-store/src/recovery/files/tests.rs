use super::*;
use drystone_env::sim::SimDisk;
use drystone_env::{DiskFile, Space};
use drystone_types::{DiskId, Incarnation};

/// A disk so slow that whoever reads more than 1 MiB at once takes it for one that hangs.
struct SlowDisk(SimDisk);

struct SlowFile(Arc<dyn DiskFile>);

impl Disk for SlowDisk {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SlowFile(self.0.open(name, options)?)))
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
        self.0.space()
    }
}

impl DiskFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert!(buffer.len() <= 1 << 20, "{} bytes at once", buffer.len());
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.allocate(length)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }
}

#[test]
fn a_large_checkpoint_is_read_in_steps_and_whole() {
    let me = DiskRef {
        disk: DiskId(1),
        incarnation: Incarnation(2),
    };
    let head = CheckpointHead {
        generation: 7,
        me,
        replay_from: Lsn(1),
        floor: ChunkId(3),
        next_arena: 0,
    };
    let whole = CheckpointEncoder::new(head).finish();
    // What an earlier, longer one left behind it.
    let bytes = [&whole[..], &vec![9; (3 << 20) + 5][..]].concat();
    let disk = SimDisk::new(1);
    disk.set_contents(CHECKPOINT_FILES[1], &bytes);
    let disk: Arc<dyn Disk> = Arc::new(SlowDisk(disk));
    let image = read_checkpoint(&disk, &StoreConfig::default(), CHECKPOINT_FILES[1]).unwrap();
    assert_eq!((image.generation, image.me, image.floor), (7, me, ChunkId(3)));
}
