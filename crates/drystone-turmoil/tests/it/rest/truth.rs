//! What is said about changes whose answers were lost.

use super::{PATIENCE, content, get, holds, put, scenario};
use crate::cluster::Cluster;
use crate::seams::{Host, in_worlds, world_in_steps};
use crate::user::{self, whole};
use drystone_env::{Rng, SeededRng};
use http::Method;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The door loses the metadata server at any moment of a small upload. Done is done, `unavailable` was not done and
/// never will be, `unknown` is one of the two, and nothing else is said.
#[test]
fn an_upload_without_a_metadata_server_is_told_truthfully() {
    let told: Arc<Mutex<BTreeMap<u16, u32>>> = Arc::default();
    in_worlds(2, |seed| {
        let mut sim = world_in_steps(seed, 3);
        let cluster = Cluster::start(&mut sim, seed, 1, 3);
        let told = Arc::clone(&told);
        sim.client("user", async move {
            let host = Host::new("user", seed);
            cluster.up(&host).await;
            let mut rng = SeededRng::new(seed).split("moments");
            for round in 0..16 {
                let path = format!("/file-{round}");
                // In the namespace, or in a chunk.
                let new = content(round, if round % 2 == 0 { 300 } else { 100_000 });
                let (moment, oneway) = (1 + rng.below(120), rng.chance(1, 2));
                let cut = async {
                    host.pass(moment).await;
                    if oneway {
                        turmoil::partition_oneway("meta-0", "door");
                    } else {
                        turmoil::partition("meta-0", "door");
                    }
                };
                let (got, ()) = tokio::join!(put(&host, &path, whole(new.clone())), cut);
                turmoil::repair("meta-0", "door");
                let got = got.expect("the door always answers");
                *told.lock().unwrap().entry(got.status).or_default() += 1;
                host.pass(3_000).await;
                match got.status {
                    201 => holds(&host, &path, Some(&new)).await,
                    503 => {
                        assert!(["unavailable", "not_enough_domains"].contains(&got.code().as_str()));
                        holds(&host, &path, None).await;
                    }
                    504 => {
                        assert_eq!(got.code(), "unknown");
                        let there = get(&host, &path).await.status == 200;
                        holds(&host, &path, there.then_some(&new)).await;
                    }
                    other => panic!("status {other}: {}", String::from_utf8_lossy(&got.body)),
                }
                let again = put(&host, &path, whole(new.clone())).await.expect("an answer");
                assert!(
                    [200, 201].contains(&again.status),
                    "{}",
                    String::from_utf8_lossy(&again.body)
                );
                holds(&host, &path, Some(&new)).await;
            }
            Ok(())
        });
        sim.run().unwrap();
    });
    let told = told.lock().unwrap();
    for status in [201, 503, 504] {
        assert!(
            told.contains_key(&status),
            "no upload ended with {status}: {told:?}"
        );
    }
}

/// The answer to a creation is lost at any moment. Whatever was said, it can be repeated with its key as often as one
/// likes, and it is the same creation.
#[test]
fn a_creation_whose_answer_was_lost_is_repeated_with_its_key() {
    scenario(2, |host, cluster, seed| async move {
        let (new, meta) = (content(seed, 500), cluster.meta_host());
        let post = async |path: &str, key: &str| {
            let headers = [("idempotency-key", format!("{path}{key}"))];
            let path = format!("/files{path}");
            let got = user::ask(&host, Method::POST, &path, &headers, whole(new.clone()), PATIENCE).await;
            got.expect("the door answers")
        };
        let mut unknown = 0;
        for round in 0..12 {
            let (path, silently) = (format!("/new-{round}"), round % 3 > 0);
            let lose = async {
                host.pass(10 + round * 4).await;
                if silently {
                    turmoil::partition_oneway("meta-0", "door");
                } else {
                    meta.faults.cut_all();
                }
            };
            let (first, ()) = tokio::join!(post(&path, "one"), lose);
            turmoil::repair_oneway("meta-0", "door");
            let told: &[u16] = if silently { &[201, 503, 504] } else { &[201] };
            assert!(
                told.contains(&first.status),
                "round {round}: {} {}",
                first.status,
                first.code()
            );
            unknown += u32::from(first.status == 504);
            host.pass(4_000).await;
            let etags = [first, post(&path, "one").await, post(&path, "one").await];
            let told = etags
                .iter()
                .filter(|got| got.status == 201)
                .map(|got| &got.headers["etag"]);
            let told: Vec<_> = told.collect();
            assert!(etags[1..].iter().all(|got| got.status == 201), "round {round}");
            assert!(
                told.iter().all(|etag| *etag == told[0]),
                "it is the same creation: {told:?}"
            );
            assert_eq!(post(&path, "two").await.status, 409, "and that is another one");
            holds(&host, &path, Some(&new)).await;
        }
        assert!(unknown > 0, "no answer was lost");
    });
}
