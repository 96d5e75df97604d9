//! A file system that another program fills to the last byte, under metadata and chunk servers.

use drystone_system::files::bytes;
use drystone_system::mount::{Volume, can_mount, mount_point};
use drystone_system::{Cluster, Options, wait_for};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
const DISK: u64 = 1 << 30;
/// Longer than a metadata server keeps what it has applied in memory only.
const AWHILE: Duration = Duration::from_secs(8);

/// Writes until there is no room for a block.
fn fill_up(path: &Path) {
    let mut hog = File::create(path).unwrap();
    for piece in [1 << 20, 4096, 512] {
        while hog.write_all(&vec![1; piece]).is_ok() {}
    }
    let _ = hog.sync_all();
}

#[test]
fn deletions_go_on_where_another_program_has_filled_the_disk() {
    if !can_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let volume = Volume::make(DISK, &mount_point(&home.path().join("disk"))).unwrap();
    let options = Options {
        chunk_servers: Some(3),
        ..Options::lone()
    };
    let mut cluster = Cluster::prepare_in(volume.path(), options);
    cluster.up();
    let mut http = cluster.http();
    let lengths = [3_000_000, 200_000];
    let content = |number: u64| bytes(number, lengths[number as usize % 2]);
    for number in 0..30 {
        let name = format!("/files/{number}");
        http.ask("PUT", &name, &[], &content(number)).expect(201);
    }
    let hog = volume.path().join("hog");
    fill_up(&hog);
    std::thread::sleep(AWHILE);
    let verify = |cluster: &Cluster, from: u64| {
        let mut http = cluster.http();
        for number in from..30 {
            let found = http.get(&format!("/files/{number}")).expect(200);
            assert!(found == content(number), "file {number}");
        }
        for number in 0..from {
            http.get(&format!("/files/{number}")).expect(404);
        }
    };
    verify(&cluster, 0);
    let delete = |cluster: &Cluster, numbers: std::ops::Range<u64>| {
        let mut http = cluster.http();
        for number in numbers {
            let name = format!("/files/{number}");
            http.ask("DELETE", &name, &[], b"").expect(204);
        }
    };
    delete(&cluster, 0..10);
    std::thread::sleep(AWHILE);
    verify(&cluster, 10);
    // A start on a disk that is full.
    cluster.kill_all();
    cluster.up();
    verify(&cluster, 10);
    delete(&cluster, 10..20);
    wait_for("the chunks of what was deleted are gone", PATIENCE, || {
        let total = cluster.status()["chunks"]["total"].as_u64();
        (total == Some(10)).then_some(())
    });
    verify(&cluster, 20);
    std::fs::remove_file(&hog).unwrap();
    wait_for("new data is taken again", PATIENCE, || {
        let answer = cluster.http().ask("PUT", "/files/new", &[], &content(0));
        (answer.status == 201).then_some(())
    });
    verify(&cluster, 20);
}
