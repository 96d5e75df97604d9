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
