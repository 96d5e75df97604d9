//! A file system that another program fills to the last byte, or to the last file, under metadata and chunk servers.

use drystone_system::files::bytes;
use drystone_system::mount::{Volume, can_mount, mount_point};
use drystone_system::{Cluster, Options, wait_for};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const DISK: u64 = 1 << 30;
/// Longer than the state of a metadata server is kept from its store at most where there is room, and than a ballast is kept
/// where there is none.
const AWHILE: Duration = Duration::from_secs(8);
/// A command is taken or refused at once.
const AT_ONCE: Duration = Duration::from_secs(5);
const FILES: u64 = 30;

/// A lone cluster whose data lie on a volume of its own, with files in it.
struct Crowded {
    cluster: Cluster,
    volume: Volume,
    deleted: u64,
    _home: TempDir,
}

fn content(number: u64) -> Vec<u8> {
    bytes(number, [3_000_000, 200_000][number as usize % 2])
}

impl Crowded {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let volume = Volume::make(DISK, &mount_point(&home.path().join("disk"))).unwrap();
        let options = Options {
            chunk_servers: Some(3),
            ..Options::lone()
        };
        let mut cluster = Cluster::prepare(options);
        let data = volume.path().join("data");
        fs::create_dir(&data).unwrap();
        symlink(&data, cluster.data()).unwrap();
        cluster.up();
        let mut http = cluster.http();
        for number in 0..FILES {
            let name = format!("/files/{number}");
            http.ask("PUT", &name, &[], &content(number)).expect(201);
        }
        Self {
            cluster,
            volume,
            deleted: 0,
            _home: home,
        }
    }

    fn hog(&self) -> PathBuf {
        self.volume.path().join("hog")
    }

    /// All that was not deleted can be read, and nothing else.
    fn verify(&self) {
        let mut http = self.cluster.http();
        for number in self.deleted..FILES {
            let found = http.get(&format!("/files/{number}")).expect(200);
            assert!(found == content(number), "file {number}");
        }
        for number in 0..self.deleted {
            http.get(&format!("/files/{number}")).expect(404);
        }
    }

    /// Deletes some more files: all of them are gone, at once.
    fn delete(&mut self, count: u64) {
        let mut http = self.cluster.http();
        for number in self.deleted..self.deleted + count {
            let begun = Instant::now();
            let name = format!("/files/{number}");
            http.ask("DELETE", &name, &[], b"").expect(204);
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        }
        self.deleted += count;
    }

    /// Nothing has ended since `up` was started last.
    fn nothing_ended(&self) {
        let said = fs::read_to_string(self.cluster.log()).unwrap();
        assert!(!said.contains("has ended"), "{said}");
    }

    /// The disk is full: deletions go on, after a kill and a start, too.
    fn delete_and_start_again(&mut self) {
        std::thread::sleep(AWHILE);
        self.verify();
        self.delete(10);
        std::thread::sleep(AWHILE);
        self.delete(5);
        self.verify();
        self.nothing_ended();
        // A start on a disk that is full.
        self.cluster.kill_all();
        self.cluster.up();
        self.verify();
        self.delete(5);
        self.verify();
    }

    /// There is room again: all goes on without another start.
    fn recovers(&self) {
        wait_for("new data is taken again", PATIENCE, || {
            let answer = self.cluster.http().ask("PUT", "/files/new", &[], &content(0));
            (answer.status == 201).then_some(())
        });
        self.verify();
        self.nothing_ended();
    }
}

/// Writes until there is no room for a block.
fn fill_up(hog: &mut File) {
    for piece in [1 << 20, 4096, 512] {
        while hog.write_all(&vec![1; piece]).is_ok() {}
    }
    let _ = hog.sync_all();
}

/// Takes whatever becomes free, again and again, until it is stopped.
fn never_stop(path: PathBuf) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut hog = File::create(path).unwrap();
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            fill_up(&mut hog);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    (stop, thread)
}

#[test]
fn deletions_go_on_where_another_program_has_filled_the_disk() {
    if !can_mount() {
        return;
    }
    let mut crowded = Crowded::new();
    fill_up(&mut File::create(crowded.hog()).unwrap());
    crowded.delete_and_start_again();
    fs::remove_file(crowded.hog()).unwrap();
    crowded.recovers();
}

#[test]
fn deletions_go_on_where_another_program_takes_each_byte_that_becomes_free() {
    if !can_mount() {
        return;
    }
    let mut crowded = Crowded::new();
    let (stop, thread) = never_stop(crowded.hog());
    crowded.delete_and_start_again();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    fs::remove_file(crowded.hog()).unwrap();
    crowded.recovers();
}

#[test]
fn deletions_go_on_where_no_file_can_be_made() {
    if !can_mount() {
        return;
    }
    let mut crowded = Crowded::new();
    fs::create_dir(crowded.hog()).unwrap();
    let mut number = 0_u64;
    while File::create(crowded.hog().join(number.to_string())).is_ok() {
        number += 1;
    }
    crowded.delete_and_start_again();
    fs::remove_dir_all(crowded.hog()).unwrap();
    crowded.recovers();
}
