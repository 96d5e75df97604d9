//! Full chunk disks, through REST.

use drystone_system::files::bytes;
use drystone_system::mount::{Volume, can_mount, mount_point};
use drystone_system::{Cluster, Http, Options, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
const DISK: u64 = 512 << 20;
const LARGE: usize = 20 << 20;
const SMALL: usize = 300_000;

/// Puts files of one length until one is refused. Every answer before is a success, and the refusal says that there is
/// no space, not that it should be tried again.
fn fill(http: &mut Http, files: &mut BTreeMap<String, Vec<u8>>, length: usize) {
    for number in 0..2_000_u64 {
        let name = format!("/files/{length}-{number}");
        let content = bytes(number, length);
        let answer = http.ask("PUT", &name, &[], &content);
        if answer.status == 201 {
            files.insert(name, content);
            continue;
        }
        println!(
            "file {number} of {length} bytes: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        assert_eq!(answer.status, 507, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json()["code"], "no_space");
        assert_eq!(answer.header("retry-after"), None);
        return;
    }
    panic!("the disks are not full after 2,000 files");
}

#[test]
fn full_disks_refuse_writes_with_507_and_serve_reads_and_deletes() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::prepare(Options::single());
    let disk = |name: &str| {
        let place = mount_point(&cluster.data().join(name));
        Volume::make(DISK, &place).unwrap()
    };
    let _disks = ["chunk-1", "chunk-2", "chunk-3"].map(disk);
    cluster.up();
    let mut http = cluster.http();
    let mut files = BTreeMap::new();
    fill(&mut http, &mut files, LARGE);
    fill(&mut http, &mut files, SMALL);
    let check = || cluster.cli(&["-q", "admin", "status", "--check"]).code;
    wait_for("the status says so", PATIENCE, || {
        (check() == Some(11)).then_some(())
    });
    let text = cluster.cli(&["admin", "status"]).text();
    assert!(
        text.contains("NEW DATA IS REFUSED") && text.contains("full"),
        "{text}"
    );
    let local = cluster.home().join("local");
    fs::write(&local, bytes(1, LARGE)).unwrap();
    let local = local.to_str().unwrap();
    cluster.cli(&["put", local, "/more"]).refused(1, "full");
    // What needs no chunk is still taken, and everything can be read.
    http.put("/files/inline", b"small").expect(201);
    for (name, content) in &files {
        assert!(http.get(name).expect(200) == *content, "{name}");
    }
    for name in files.keys() {
        http.ask("DELETE", name, &[], b"").expect(204);
    }
    wait_for("the chunks are gone", PATIENCE, || {
        let total = cluster.status()["chunks"]["total"].as_u64();
        (total == Some(0)).then_some(())
    });
    wait_for("there is room again", PATIENCE, || {
        (check() == Some(0)).then_some(())
    });
    // The server has closed a connection that was idle for so long.
    let mut http = cluster.http();
    for length in [LARGE, SMALL] {
        let content = bytes(7, length);
        let name = format!("/files/again-{length}");
        http.ask("PUT", &name, &[], &content).expect(201);
        assert!(http.get(&name).expect(200) == content);
    }
}
