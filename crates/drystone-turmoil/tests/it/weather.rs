//! Links that break and heal by chance under a whole cluster, and then fair weather: everybody must get over it.
//!
//! Whenever a message is lost its stream is dead from then on, on whichever of the links that was.

use crate::cluster::Cluster;
use crate::seams::{Host, in_worlds, world_in_steps};
use crate::user::{self, whole};
use bytes::Bytes;
use drystone_env::{Rng, SeededRng};
use http::Method;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One of so many messages breaks its link.
const LOSS: f64 = 1.0 / 400.0;
const WEATHER: Duration = Duration::from_secs(30);
/// Files of one user.
const NAMES: u64 = 4;
/// An election, the last of what was under way.
const SETTLED: u64 = 5_000;
/// From then on: dead streams are found by using them, one after the other.
const RECOVERY: u64 = 20_000;

/// What one file may hold: what was acknowledged last, and whatever was attempted since.
#[derive(Default)]
struct Possible {
    contents: Vec<Option<Bytes>>,
}

impl Possible {
    /// What the answer to an attempt to write `new` says about it.
    fn attempted(&mut self, new: Option<Bytes>, status: u16) {
        match status {
            200 | 201 | 204 => self.contents = vec![new],
            // Nothing was done.
            404 | 429 | 503 => {}
            // Nobody knows, also where the answer was lost.
            0 | 504 => self.contents.push(new),
            other => panic!("status {other}"),
        }
    }

    fn check(&self, path: &str, found: &Option<Bytes>) {
        assert!(
            self.contents.contains(found),
            "{path} holds {:?} bytes, possible are {:?}",
            found.as_ref().map(Bytes::len),
            self.contents
                .iter()
                .map(|one| one.as_ref().map(Bytes::len))
                .collect::<Vec<_>>()
        );
    }
}

async fn ask(host: &Host, method: Method, path: &str, body: Bytes) -> Option<user::Got> {
    let path = format!("/files{path}");
    user::ask(host, method, &path, &[], whole(body), 9_000).await.ok()
}

/// What `path` holds; `None` if that could not be found out.
async fn look(host: &Host, path: &str) -> Option<Option<Bytes>> {
    let got = ask(host, Method::GET, path, Bytes::new()).await?;
    match (got.status, got.whole) {
        (200, true) => Some(Some(got.body.into())),
        (404, true) => Some(None),
        _ => None,
    }
}

/// Writes, deletes and reads its own files until the weather is over; then everything works again, and every file holds
/// what it may.
async fn use_it(host: Host, name: &'static str, seed: u64, told: Arc<Mutex<BTreeMap<u16, u32>>>) {
    let mut rng = SeededRng::new(seed).split(name);
    let mut files: BTreeMap<String, Possible> = BTreeMap::new();
    while turmoil::sim_elapsed().is_some_and(|elapsed| elapsed < WEATHER) {
        let path = format!("/{name}-{}", rng.below(NAMES));
        let file = files
            .entry(path.clone())
            .or_insert_with(|| Possible { contents: vec![None] });
        match rng.below(10) {
            0..6 => {
                let mut content = vec![0; [100, 30_000, 1_500_000][rng.below(3) as usize]];
                rng.fill(&mut content);
                let content = Bytes::from(content);
                let status = ask(&host, Method::PUT, &path, content.clone())
                    .await
                    .map_or(0, |got| got.status);
                *told.lock().unwrap().entry(status).or_default() += 1;
                file.attempted(Some(content), status);
            }
            6 => {
                let got = ask(&host, Method::DELETE, &path, Bytes::new()).await;
                file.attempted(None, got.map_or(0, |got| got.status));
            }
            _ => {
                if let Some(found) = look(&host, &path).await {
                    file.check(&path, &found);
                }
            }
        }
        host.pass(rng.below(200)).await;
    }
    host.pass(SETTLED).await;
    for (path, file) in &files {
        let start = host.env.clock.now();
        let found = loop {
            match look(&host, path).await {
                Some(found) => break found,
                None => assert!(host.since(start) < RECOVERY, "seed {seed}: {path} cannot be read"),
            }
        };
        file.check(path, &found);
        let content = Bytes::from(vec![9; 200_000]);
        loop {
            let got = ask(&host, Method::PUT, path, content.clone())
                .await
                .expect("the door answers");
            if [200, 201].contains(&got.status) {
                break;
            }
            let why = String::from_utf8_lossy(&got.body);
            assert!(host.since(start) < RECOVERY, "seed {seed}: {why}");
        }
        assert_eq!(look(&host, path).await, Some(Some(content)));
    }
}

#[test]
fn a_cluster_gets_over_links_that_break_by_chance() {
    let told: Arc<Mutex<BTreeMap<u16, u32>>> = Arc::default();
    in_worlds(2, |seed| {
        let mut sim = world_in_steps(seed, 3);
        let cluster = Cluster::start(&mut sim, seed, 3, 3);
        for name in ["user-a", "user-b"] {
            let (cluster, told) = (cluster.clone(), Arc::clone(&told));
            sim.client(name, async move {
                let host = Host::new(name, seed);
                cluster.up(&host).await;
                use_it(host, name, seed, told).await;
                Ok(())
            });
        }
        while cluster.leader().is_none() {
            sim.step().unwrap();
        }
        sim.set_fail_rate(LOSS);
        while sim.elapsed() < WEATHER {
            sim.step().unwrap();
        }
        sim.set_fail_rate(0.0);
        // A link that nobody uses would stay broken until somebody does.
        let mut names: Vec<String> = cluster.names();
        names.extend(["user-a", "user-b"].map(str::to_owned));
        for one in &names {
            names
                .iter()
                .for_each(|other| sim.repair(one.as_str(), other.as_str()));
        }
        sim.run().unwrap();
        let states = cluster.states();
        assert!(
            states.iter().all(|state| *state == states[0]),
            "seed {seed}: {states:?}"
        );
    });
    let told = told.lock().unwrap();
    assert!(
        told.get(&201).is_some_and(|count| *count > 10),
        "too little was done: {told:?}"
    );
}
