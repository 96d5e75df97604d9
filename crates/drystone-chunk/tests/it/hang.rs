//! One of two disks stops answering, without an error: the other must not notice.

use crate::cluster::*;
use bytes::Bytes;
use drystone_chunk::{ChunkServer, DataDirectory};
use drystone_env::{Disk, DiskFile, OpenOptions, Space};
use drystone_identity::Identity;
use drystone_proto::Kind;
use drystone_proto::data::{Delete, DeleteReply, Hop, Read, ReadReply};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::{CallFuture, CallOptions};
use drystone_types::*;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// While it is shut, disk work stands before it.
#[derive(Default)]
struct HangSwitch {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl HangSwitch {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        drop(
            self.opened
                .wait_while(self.shut.lock().unwrap(), |shut| *shut)
                .unwrap(),
        );
    }
}

/// A disk behind two gates: one for its files' contents, one for what its directories and its space are asked.
struct HangingDisk {
    disk: Arc<dyn Disk>,
    files: Arc<HangSwitch>,
    names: Arc<HangSwitch>,
}

struct HangingFile(Arc<dyn DiskFile>, Arc<HangSwitch>);

impl Disk for HangingDisk {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        self.names.pass();
        let file = self.disk.open(name, options)?;
        Ok(Arc::new(HangingFile(file, Arc::clone(&self.files))))
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.disk.create_dir(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn unlink(&self, name: &str) -> io::Result<()> {
        self.disk.unlink(name)
    }
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }
    fn space(&self) -> io::Result<Space> {
        self.names.pass();
        self.disk.space()
    }
}

impl DiskFile for HangingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.pass();
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.1.pass();
        self.0.write_at(data, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.1.pass();
        self.0.allocate(length)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }
}

/// The number that gives the second disk its ids in [`Cluster::replica`].
const SECOND: u64 = 10;

/// A server of two disks; the second is behind the gates.
struct TwoDisks {
    cluster: Cluster,
    files: Arc<HangSwitch>,
    names: Arc<HangSwitch>,
}

impl TwoDisks {
    async fn start() -> Self {
        let mut cluster = Cluster::start(1).await;
        cluster.stop().await;
        let path = cluster.root.path().join("second");
        std::fs::create_dir_all(&path).unwrap();
        let ReplicaRecord {
            disk, incarnation, ..
        } = cluster.replica(SECOND);
        let me = DiskRef {
            disk: DiskId(disk),
            incarnation: Incarnation(incarnation),
        };
        let identity = Identity {
            disk: Some(me),
            ..cluster.identity(0)
        };
        let first = DataDirectory::open(&cluster.path(0)).unwrap();
        let mut second = DataDirectory::open(&path).unwrap();
        drystone_identity::format(&*second.disk, &identity).unwrap();
        let (files, names) = (Arc::<HangSwitch>::default(), Arc::<HangSwitch>::default());
        second.disk = Arc::new(HangingDisk {
            disk: second.disk,
            files: Arc::clone(&files),
            names: Arc::clone(&names),
        });
        let mut config = cluster.config(0);
        config.in_flight = ByteCount(32 << 20);
        config.read_cache = Some(ByteCount(0));
        let started = ChunkServer::start(cluster.env.clone(), config, vec![first, second]).await;
        cluster.servers = vec![started.unwrap()];
        cluster.servers[0].registered().await.unwrap();
        Self {
            cluster,
            files,
            names,
        }
    }

    /// Writes a chunk of one frame to the second disk.
    async fn write_second(&self, chunk: u64, bytes: &Bytes) {
        let token = self.cluster.token(chunk, &[SECOND]);
        let frame = Frame {
            chunk,
            token: &token,
            offset: 0,
            data: bytes.clone(),
            last: true,
            options: self.cluster.options(),
        };
        let hop = Hop {
            address: self.cluster.servers[0].address().to_string(),
            replica: Some(self.cluster.replica(SECOND)),
        };
        self.cluster.send(&[hop], frame).await.unwrap();
    }

    async fn stop(self) {
        self.files.set(false);
        self.names.set(false);
        self.cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_does_not_keep_another_from_deleting() {
    let two = TwoDisks::start().await;
    let cluster = &two.cluster;
    cluster.write(1, &[0], &data(1, 5_000)).await;
    two.write_second(2, &data(2, 5_000)).await;
    two.files.set(true);
    let hung = cluster.delete_order(SECOND, 2, PLACEMENT);
    cluster.told.lock().unwrap().delete.push(hung.clone());
    cluster.wait("ordered", |told| told.delete.is_empty()).await;
    let order = cluster.delete_order(0, 1, PLACEMENT);
    cluster
        .told
        .lock()
        .unwrap()
        .delete
        .extend([hung.clone(), order.clone()]);
    let reported =
        |told: &Told, order: &_| told.heartbeats.iter().any(|beat| deletions(beat).contains(order));
    cluster.wait("deleted", |told| reported(told, &order)).await;
    assert!(!reported(&cluster.told.lock().unwrap(), &hung));
    two.files.set(false);
    cluster.wait("the other too", |told| reported(told, &hung)).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_disk_deleted_is_acknowledged_while_another_hangs_in_the_same_message() {
    let two = TwoDisks::start().await;
    let cluster = &two.cluster;
    cluster.write(1, &[0], &data(1, 5_000)).await;
    two.write_second(2, &data(2, 5_000)).await;
    two.files.set(true);
    let hung = cluster.delete_order(SECOND, 2, PLACEMENT);
    let order = cluster.delete_order(0, 1, PLACEMENT);
    let delete = Delete {
        orders: vec![hung.clone(), order.clone()],
    };
    let call = cluster.call::<_, DeleteReply>(0, Kind::Delete, &delete);
    let mut call = Box::pin(call);
    let reported =
        |told: &Told, order: &_| told.heartbeats.iter().any(|beat| deletions(beat).contains(order));
    tokio::select! {
        biased;
        reply = &mut call => panic!("a disk hangs: {reply:?}"),
        () = cluster.wait("deleted", |told| reported(told, &order)) => {}
    }
    assert!(!reported(&cluster.told.lock().unwrap(), &hung));
    two.files.set(false);
    assert_eq!(call.await.unwrap().codes, [0, 0]);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_whose_thread_hangs_does_not_hold_up_heartbeats() {
    let two = TwoDisks::start().await;
    let cluster = &two.cluster;
    two.write_second(2, &data(2, 5_000)).await;
    // The store asks for its space now and then, on its own thread.
    two.names.set(true);
    two.write_second(3, &data(3, 5_000)).await;
    cluster.env.clock.sleep(Duration::from_millis(500)).await;
    let before = cluster.told.lock().unwrap().heartbeats.len();
    let beats = |told: &Told| told.heartbeats.len() >= before + 4;
    cluster.wait("heartbeats go on", beats).await;
    cluster.write(1, &[0], &data(1, 5_000)).await;
    let told_of = |told: &Told, chunk| {
        let mut all = told.heartbeats.iter().flat_map(|beat| &beat.open);
        all.any(|status| status.chunk == chunk)
    };
    cluster
        .wait("the other disk's news", |told| told_of(told, 1))
        .await;
    assert!(
        !told_of(&cluster.told.lock().unwrap(), 3),
        "the thread did not hang"
    );
    two.names.set(false);
    cluster.wait("and its own, late", |told| told_of(told, 3)).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_disk_that_hangs_leave_the_other_its_room() {
    let two = TwoDisks::start().await;
    let cluster = &two.cluster;
    let bytes = data(1, 1 << 20);
    cluster.write(1, &[0], &bytes).await;
    two.write_second(2, &bytes).await;
    two.files.set(true);
    let read = Read {
        chunk: 2,
        replica: Some(cluster.replica(SECOND)),
        offset: 0,
        length: 1 << 20,
        grant: Bytes::new(),
    };
    let channel = cluster.channels.to(&cluster.servers[0].address().to_string());
    // As many as all answers may hold.
    let hung: Vec<CallFuture<ReadReply>> = (0..16)
        .map(|_| channel.call(Kind::Read, &read, None, cluster.options()))
        .collect();
    cluster.env.clock.sleep(Duration::from_millis(200)).await;
    let deadline = cluster.env.clock.now().plus(Duration::from_secs(10));
    let back = cluster
        .env
        .clock
        .until(deadline, cluster.read(0, 1, 0, 1 << 20))
        .await;
    assert!(back.expect("the other disk answers").unwrap() == bytes);
    two.files.set(false);
    for call in hung {
        assert!(call.await.unwrap().payload == bytes);
    }
    two.stop().await;
}

/// Each read that was given up made room for another one in front of a disk that did none of them: they collected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_disk_that_hangs_are_bounded_and_then_refused() {
    let two = TwoDisks::start().await;
    let cluster = &two.cluster;
    let bytes = data(1, 1 << 20);
    two.write_second(2, &bytes).await;
    two.files.set(true);
    let read = Read {
        chunk: 2,
        replica: Some(cluster.replica(SECOND)),
        offset: 0,
        length: 1 << 20,
        grant: Bytes::new(),
    };
    let channel = cluster.channels.to(&cluster.servers[0].address().to_string());
    let clock = &cluster.env.clock;
    // 8 of 1 MiB hold the disk's share, four times as many wait.
    for wave in 0..2 {
        let until = CallOptions::until(clock.now().plus(Duration::from_secs(1)));
        let calls: Vec<CallFuture<ReadReply>> = (0..50)
            .map(|_| channel.call(Kind::Read, &read, None, until))
            .collect();
        let mut busy = 0;
        for call in calls {
            let error = call.await.expect_err("the disk hangs");
            busy += u32::from(error.code() == Code::Busy);
        }
        // Those of the first wave are before the disk still: one more than that would be one that it never does.
        let least = [10, 18][wave];
        assert!(busy >= least, "wave {wave}: {busy} of 50 were refused");
        // The server looks for work that nobody waits for once a second.
        clock.sleep(Duration::from_millis(2_500)).await;
    }
    two.files.set(false);
    let again: CallFuture<ReadReply> = channel.call(Kind::Read, &read, None, cluster.options());
    assert!(again.await.unwrap().payload == bytes);
    two.stop().await;
}

/// What a disk does not answer while the server starts.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Hangs {
    AtOnce,
    /// Its boot cannot be counted.
    Boot,
    /// Its store cannot be opened.
    Store,
}

/// A disk that hangs in one step of a start, and answers again when the switch is set back.
struct HangingStart {
    disk: Arc<dyn Disk>,
    hangs: Hangs,
    switch: Arc<HangSwitch>,
}

impl HangingStart {
    fn pass(&self, name: &str) {
        let hangs = match self.hangs {
            Hangs::AtOnce => true,
            Hangs::Boot => name.starts_with("boot"),
            Hangs::Store => !name.starts_with("boot") && name != "identity",
        };
        if hangs {
            self.switch.pass();
        }
    }
}

impl Disk for HangingStart {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        self.pass(name);
        self.disk.open(name, options)
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.pass(name);
        self.disk.create_dir(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn unlink(&self, name: &str) -> io::Result<()> {
        self.disk.unlink(name)
    }
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

async fn start_beside_one_that_hangs(hangs: Hangs) {
    let mut two = TwoDisks::start().await;
    two.write_second(2, &data(2, 5_000)).await;
    two.cluster.stop().await;
    let second_path = two.cluster.root.path().join("second");
    let switch = Arc::<HangSwitch>::default();
    let open = || {
        let first = DataDirectory::open(&two.cluster.path(0)).unwrap();
        let mut second = DataDirectory::open(&second_path).unwrap();
        second.disk = Arc::new(HangingStart {
            disk: second.disk,
            hangs,
            switch: Arc::clone(&switch),
        });
        // The one that hangs comes first.
        vec![second, first]
    };
    let clock = Arc::clone(&two.cluster.env.clock);
    switch.set(true);
    let deadline = clock.now().plus(Duration::from_secs(60));
    let starting = ChunkServer::start(two.cluster.env.clone(), two.cluster.config(0), open());
    let started = clock.until(deadline, starting).await;
    let server = started
        .unwrap_or_else(|| panic!("{hangs:?}: it holds up the start"))
        .unwrap();
    server.registered().await.unwrap();
    let faults: Vec<_> = server
        .disks()
        .into_iter()
        .filter(|disk| !disk.fault.is_empty())
        .collect();
    assert_eq!(faults.len(), 1, "{hangs:?}: {faults:?}");
    assert!(
        faults[0].path.ends_with("second") && faults[0].fault.contains("does not answer for 10s"),
        "{hangs:?}: {faults:?}"
    );
    server.shutdown().await.unwrap();
    // What it was asked may still change it: it is nobody else's before that has ended.
    assert!(DataDirectory::open(&second_path).is_err(), "{hangs:?}: unlocked");
    switch.set(false);
    while DataDirectory::open(&second_path).is_err() {
        assert!(clock.now() < deadline, "{hangs:?}: it stays locked");
        clock.sleep(Duration::from_millis(20)).await;
    }
    let server = ChunkServer::start(two.cluster.env.clone(), two.cluster.config(0), open()).await;
    let server = server.unwrap();
    server.registered().await.unwrap();
    assert!(
        server.disks().iter().all(|disk| disk.fault.is_empty()),
        "{:?}",
        server.disks()
    );
    two.cluster.servers = vec![server];
    two.stop().await;
}

/// Each by itself, at the same time: they wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_while_it_is_opened_does_not_hold_up_the_others() {
    tokio::join!(
        start_beside_one_that_hangs(Hangs::AtOnce),
        start_beside_one_that_hangs(Hangs::Boot),
        start_beside_one_that_hangs(Hangs::Store),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_does_not_keep_its_server_from_being_stopped() {
    let two = TwoDisks::start().await;
    let cluster = &two.cluster;
    two.write_second(2, &data(2, 5_000)).await;
    two.files.set(true);
    let read = Read {
        chunk: 2,
        replica: Some(cluster.replica(SECOND)),
        offset: 0,
        length: 4096,
        grant: Bytes::new(),
    };
    let channel = cluster.channels.to(&cluster.servers[0].address().to_string());
    let hung: CallFuture<ReadReply> = channel.call(Kind::Read, &read, None, cluster.options());
    cluster.env.clock.sleep(Duration::from_millis(300)).await;
    let deadline = cluster.env.clock.now().plus(Duration::from_secs(60));
    let stopped = cluster
        .env
        .clock
        .until(deadline, cluster.servers[0].shutdown())
        .await;
    let error = stopped.expect("it waits for ever").unwrap_err();
    assert!(error.to_string().contains("second did not finish"), "{error}");
    let second = || DataDirectory::open(&cluster.root.path().join("second"));
    assert!(second().is_err(), "it may still be written to");
    assert!(DataDirectory::open(&cluster.path(0)).is_ok());
    drop(hung);
    // The same process may take it in again when it has answered.
    two.files.set(false);
    while second().is_err() {
        assert!(cluster.env.clock.now() < deadline, "it stays locked");
        cluster.env.clock.sleep(Duration::from_millis(20)).await;
    }
}
