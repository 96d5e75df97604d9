//! A seed is a run: what failed once fails again.

use crate::cluster::{Cluster, meta_name};
use crate::seams::{Host, world_in_steps};
use crate::user::{self, whole};
use http::Method;
use std::sync::{Arc, Mutex};

/// When each answer came, which it was, and how many bytes the hosts had written by then.
type Trace = Vec<(u128, u16, u64, u64)>;

fn run(seed: u64) -> (Trace, Vec<Option<(u64, u64)>>) {
    let mut sim = world_in_steps(seed, 3);
    let cluster = Cluster::start(&mut sim, seed, 3, 2);
    let trace = Arc::new(Mutex::new(Trace::new()));
    let (out, seen) = (Arc::clone(&trace), cluster.clone());
    sim.client("user", async move {
        let host = Host::new("user", seed);
        seen.up(&host).await;
        for round in 0..10 {
            if round == 5 {
                turmoil::partition("door", meta_name(0));
            }
            let content = vec![round; 50_000 * usize::from(round)];
            let path = format!("/files/{round}");
            let got = user::ask(&host, Method::PUT, &path, &[], whole(content), 9_000).await;
            let written = seen.door_host().faults.written();
            let status = got.map_or(0, |got| got.status);
            let servers = seen.written();
            let line = (turmoil::elapsed().as_micros(), status, written, servers);
            out.lock().unwrap().push(line);
        }
        Ok(())
    });
    sim.run().unwrap();
    let trace = trace.lock().unwrap().clone();
    (trace, cluster.states())
}

#[test]
fn one_seed_is_one_run() {
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first.0, run(2).0);
}
