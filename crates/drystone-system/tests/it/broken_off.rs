//! Uploads that break off: their space comes back in seconds, not when their grants have lost their effect.

use drystone_system::process::{self, Signal};
use drystone_system::{Cluster, Options, wait_for};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// Far below the quarter of an hour for which a grant lives.
const PATIENCE: Duration = Duration::from_secs(60);
const SENT: usize = 40 << 20;

/// Bytes that chunks take of all disks, as last reported.
fn used(cluster: &Cluster) -> u64 {
    let status = cluster.status();
    let servers = status["servers"].as_array().expect("a list").iter();
    let disks = servers.flat_map(|server| server["disks"].as_array().expect("a list"));
    disks
        .map(|disk| disk["used_bytes"].as_u64().expect("a number"))
        .sum()
}

#[test]
fn the_space_of_an_upload_that_broke_off_is_free_at_once() {
    let cluster = Cluster::start(Options::lone());
    let is_free = || (used(&cluster) == 0).then_some(());
    let rest = cluster.rest();
    let address = rest.trim_start_matches("http://");
    let mut upload = TcpStream::connect(address).unwrap();
    let length = 10 * SENT;
    write!(
        upload,
        "PUT /files/a HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n"
    )
    .unwrap();
    upload.write_all(&vec![7; SENT]).unwrap();
    wait_for("the disks tell of it", PATIENCE, || {
        (used(&cluster) > 0).then_some(())
    });
    drop(upload);
    wait_for("what the client of REST left is gone", PATIENCE, is_free);

    let mut put = cluster.begin(&["put", "-", "/b"]);
    put.feed(&vec![7; SENT]);
    wait_for("the disks tell of it", PATIENCE, || {
        (used(&cluster) > 0).then_some(())
    });
    process::signal(put.pid(), Signal::INT);
    assert_eq!(put.finish().code, Some(130));
    wait_for("what the command left is gone", PATIENCE, is_free);

    let mut http = cluster.http();
    let condition = [("if-none-match", "*")];
    let content = vec![7; SENT];
    http.put("/files/c", &content).expect(201);
    let refused = http.ask("PUT", "/files/c", &condition, &content);
    assert_eq!(refused.status, 412);
    let before = used(&cluster);
    wait_for("there is one copy of each byte on each disk", PATIENCE, || {
        let used = used(&cluster);
        (used > 0 && used < 3 * (SENT as u64) * 11 / 10).then_some(())
    });
    println!("{before} bytes were used after the refusal");
    http.get("/files/c").expect(200);
}
