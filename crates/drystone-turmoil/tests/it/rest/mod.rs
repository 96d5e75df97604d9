//! The REST door over a real little cluster, while the links in front of it and behind it are cut.

mod downloads;
mod pressure;
mod truth;
mod uploads;

use crate::cluster::Cluster;
use crate::seams::{Host, in_worlds, world_in_steps};
use crate::user::{self, Body, Got, whole};
use bytes::Bytes;
use drystone_env::{Rng, SeededRng};
use http::Method;
use std::io;

/// Longer than the door tries: two steps of four seconds each.
const PATIENCE: u64 = 10_000;
/// Until everything works after a cut: dead streams are found by using them, one after the other.
const RECOVERY: u64 = 12_000;

fn content(seed: u64, bytes: usize) -> Bytes {
    let mut data = vec![0; bytes];
    SeededRng::new(seed).fill(&mut data);
    data.into()
}

async fn put(host: &Host, path: &str, body: Body) -> io::Result<Got> {
    user::ask(host, Method::PUT, &format!("/files{path}"), &[], body, PATIENCE).await
}

async fn get(host: &Host, path: &str) -> Got {
    let got = user::ask(
        host,
        Method::GET,
        &format!("/files{path}"),
        &[],
        whole(""),
        PATIENCE,
    )
    .await;
    got.expect("the links are whole")
}

/// Asserts what `path` holds: `None` for nothing at all.
async fn holds(host: &Host, path: &str, expected: Option<&Bytes>) {
    let got = get(host, path).await;
    match expected {
        None => assert_eq!((got.status, got.code().as_str()), (404, "not_found"), "{path}"),
        Some(expected) => {
            assert_eq!(
                (got.status, got.whole, got.body.len()),
                (200, true, expected.len()),
                "{path}"
            );
            assert!(got.body == *expected, "{path} holds other bytes");
        }
    }
}

/// Sends it until it is done.
async fn put_after_cut(host: &Host, path: &str, content: &Bytes) {
    let start = host.env.clock.now();
    loop {
        let got = put(host, path, whole(content.clone()))
            .await
            .expect("the door answers");
        if [200, 201].contains(&got.status) {
            return;
        }
        assert!([503, 504].contains(&got.status), "{}", got.code());
        let (took, why) = (host.since(start), String::from_utf8_lossy(&got.body));
        assert!(
            took < RECOVERY,
            "{path} is not taken {took} ms after the cut: {why}"
        );
    }
}

/// Reads it until it comes whole.
async fn holds_after_cut(host: &Host, path: &str, expected: &Bytes) {
    let start = host.env.clock.now();
    loop {
        let got = get(host, path).await;
        if got.status == 200 && got.whole {
            assert!(got.body == *expected, "{path} holds other bytes");
            return;
        }
        let took = host.since(start);
        assert!(
            took < RECOVERY,
            "{path} is not given {took} ms after the cut: {}",
            got.status
        );
    }
}

/// Runs `scenario` against a cluster of one metadata server and three chunk servers in a few worlds.
fn scenario<F: Future<Output = ()> + 'static>(seeds: u64, scenario: fn(Host, Cluster, u64) -> F) {
    in_worlds(seeds, |seed| {
        let mut sim = world_in_steps(seed, 3);
        let cluster = Cluster::start(&mut sim, seed, 1, 3);
        sim.client("user", async move {
            let host = Host::new("user", seed);
            cluster.up(&host).await;
            scenario(host, cluster, seed).await;
            Ok(())
        });
        sim.run().unwrap();
    });
}
