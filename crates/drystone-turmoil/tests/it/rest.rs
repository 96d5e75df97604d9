//! The REST door over a real little cluster, while the links in front of it and behind it are cut.

use crate::cluster::{Cluster, chunk_name};
use crate::seams::{Host, world};
use crate::user::{self, Body, Got, User, pieces, whole};
use bytes::Bytes;
use drystone_env::{Rng, SeededRng};
use http::Method;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

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
    for seed in 1..=seeds {
        eprintln!("seed {seed}");
        let mut sim = world(seed);
        let cluster = Cluster::start(&mut sim, seed, 1, 3);
        sim.client("user", async move {
            let host = Host::new("user", seed);
            cluster.up(&host).await;
            scenario(host, cluster, seed).await;
            Ok(())
        });
        sim.run().unwrap();
    }
}

/// Over a free name and over a file, with a length in the head and without one.
#[test]
fn a_body_that_breaks_off_leaves_the_file_as_it_was() {
    scenario(2, |host, _, seed| async move {
        let (old, new) = (content(seed, 700_000), content(seed + 100, 3 << 20));
        put(&host, "/old", whole(old.clone())).await.expect("an answer");
        for (at, length) in [
            (0, true),
            (100_000, false),
            (1 << 20, true),
            ((3 << 20) - 1, false),
            (2 << 20, true),
        ] {
            for path in ["/old", "/new"] {
                let body = pieces(&host, new.clone(), 1, at, || true);
                let mut headers = Vec::new();
                if length {
                    headers.push(("content-length", new.len().to_string()));
                }
                let path_of = format!("/files{path}");
                let got = user::ask(&host, Method::PUT, &path_of, &headers, body, PATIENCE).await;
                assert!(got.is_err(), "the user hung up: {got:?}");
                host.pass(300).await;
            }
            holds(&host, "/old", Some(&old)).await;
            holds(&host, "/new", None).await;
        }
        assert_eq!(
            put(&host, "/old", whole(new.clone()))
                .await
                .expect("an answer")
                .status,
            200
        );
        assert_eq!(
            put(&host, "/new", whole(new.clone()))
                .await
                .expect("an answer")
                .status,
            201
        );
        holds(&host, "/old", Some(&new)).await;
        holds(&host, "/new", Some(&new)).await;
    });
}

/// The link goes silent in the middle: the door hears no end either. After repair the same request is done.
#[test]
fn a_body_cut_off_by_a_partition_leaves_nothing_and_can_be_sent_again() {
    scenario(3, |host, cluster, seed| async move {
        let new = content(seed, 3 << 20);
        let body = pieces(&host, new.clone(), 1, 1 << 20, || {
            turmoil::partition("user", "door");
            false
        });
        assert!(put(&host, "/new", body).await.is_err(), "nobody can answer");
        turmoil::repair("user", "door");
        holds(&host, "/new", None).await;
        let got = put(&host, "/new", whole(new.clone())).await.expect("an answer");
        assert_eq!(got.status, 201);
        holds(&host, "/new", Some(&new)).await;
        // What the half request held is given back, and it still changes nothing.
        let door = cluster.door_host();
        let gone = host
            .wait(40_000, || door.tasks.live("http-connection") == 0)
            .await;
        assert!(gone, "{:?}", door.tasks.all());
        holds(&host, "/new", Some(&new)).await;
    });
}

/// The body is complete, but the chunk servers that it goes to vanish in the middle of it.
#[test]
fn an_upload_whose_chunk_servers_vanish_is_told_truthfully_and_done_after_repair() {
    scenario(3, |host, cluster, seed| async move {
        let (old, new) = (content(seed, 2 << 20), content(seed + 100, 4 << 20));
        put(&host, "/file", whole(old.clone())).await.expect("an answer");
        // One of three: the others take its place.
        let body = pieces(&host, new.clone(), 2, 1 << 20, || {
            turmoil::partition("door", chunk_name(0));
            false
        });
        let got = put(&host, "/file", body).await.expect("an answer");
        assert_eq!(got.status, 200, "{}", String::from_utf8_lossy(&got.body));
        holds(&host, "/file", Some(&new)).await;
        turmoil::repair("door", chunk_name(0));
        // All of them.
        let names = cluster.chunk_names();
        let body = pieces(&host, old.clone(), 2, 1 << 20, move || {
            names
                .iter()
                .for_each(|name| turmoil::partition("door", name.as_str()));
            false
        });
        let got = put(&host, "/file", body).await.expect("an answer");
        assert_eq!(
            got.status,
            503,
            "nothing was done: {}",
            String::from_utf8_lossy(&got.body)
        );
        for name in cluster.chunk_names() {
            turmoil::repair("door", name);
        }
        host.pass(12_000).await;
        holds(&host, "/file", Some(&new)).await;
        let got = put(&host, "/file", whole(old.clone())).await.expect("an answer");
        assert_eq!(got.status, 200);
        holds(&host, "/file", Some(&old)).await;
    });
}

/// A download that cannot be finished is cut, one that another replica can finish is whole.
#[test]
fn a_download_is_whole_or_seen_as_cut() {
    scenario(3, |host, cluster, seed| async move {
        let file = content(seed, 24 << 20);
        let got = put(&host, "/file", whole(file.clone())).await.expect("an answer");
        assert_eq!(got.status, 201);
        let begin = async || {
            let mut user = User::connect(&host).await.expect("the door listens");
            let answer = user
                .begin(Method::GET, "/files/file", &[], whole(""))
                .await
                .expect("it begins");
            assert_eq!(answer.headers()["content-length"], file.len().to_string());
            let got = Got {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                body: Vec::new(),
                whole: false,
            };
            (got, answer.into_body(), user)
        };
        // One server is gone: the others have what it had.
        let (mut got, body, _user) = begin().await;
        turmoil::partition("door", chunk_name(1));
        user::read(&host, body, &mut got, PATIENCE).await;
        assert!(
            got.whole && got.body == file,
            "{} bytes, whole: {}",
            got.body.len(),
            got.whole
        );
        turmoil::repair("door", chunk_name(1));
        host.pass(12_000).await;
        // All are gone: what came is not all, and the user sees it.
        let (mut got, body, _user) = begin().await;
        for name in cluster.chunk_names() {
            turmoil::partition("door", name);
        }
        user::read(&host, body, &mut got, 60_000).await;
        assert!(
            !got.whole && got.body.len() < file.len(),
            "{} bytes, whole: {}",
            got.body.len(),
            got.whole
        );
        assert!(file.starts_with(&got.body), "and what came is right");
        for name in cluster.chunk_names() {
            turmoil::repair("door", name);
        }
        host.pass(12_000).await;
        holds(&host, "/file", Some(&file)).await;
        // The user's own link is gone: nothing says that it is over.
        let (mut got, body, _user) = begin().await;
        turmoil::partition("user", "door");
        user::read(&host, body, &mut got, 5_000).await;
        assert!(!got.whole && got.body.len() < file.len());
    });
}

/// The door loses the metadata server at any moment of a small upload. Done is done, `unavailable` was not done and
/// never will be, `unknown` is one of the two, and nothing else is said.
#[test]
fn an_upload_without_a_metadata_server_is_told_truthfully() {
    let told: Arc<Mutex<BTreeMap<u16, u32>>> = Arc::default();
    for seed in 1..=2 {
        let mut sim = world(seed);
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
    }
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
    scenario(2, |host, _, seed| async move {
        let new = content(seed, 500);
        let post = async |path: &str, key: &str| {
            let headers = [("idempotency-key", format!("{path}{key}"))];
            let path = format!("/files{path}");
            let got = user::ask(&host, Method::POST, &path, &headers, whole(new.clone()), PATIENCE).await;
            got.expect("the door answers")
        };
        let mut unknown = 0;
        for round in 0..8 {
            let path = format!("/new-{round}");
            let lose = async {
                host.pass(10 + round * 5).await;
                turmoil::partition_oneway("meta-0", "door");
            };
            let (first, ()) = tokio::join!(post(&path, "one"), lose);
            turmoil::repair_oneway("meta-0", "door");
            assert!([201, 503, 504].contains(&first.status), "{}", first.code());
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

/// The door is told to stop while files go in and out: they are finished, and nothing of it is left.
#[test]
fn a_door_that_is_stopped_finishes_what_it_has_begun() {
    scenario(2, |host, cluster, seed| async move {
        let new = content(seed, 3 << 20);
        put(&host, "/file", whole(new.clone())).await.expect("an answer");
        let upload = put(&host, "/new", pieces(&host, new.clone(), 5, 0, || false));
        let download = get(&host, "/file");
        let stop = async {
            host.pass(100).await;
            cluster
                .door
                .lock()
                .unwrap()
                .as_ref()
                .expect("it runs")
                .0
                .shutdown();
            host.pass(100).await;
            assert!(User::connect(&host).await.is_err(), "nobody listens");
        };
        let (upload, download, ()) = tokio::join!(upload, download, stop);
        assert_eq!(upload.expect("an answer").status, 201);
        assert!(download.whole && download.body == new);
        host.pass(200).await;
        let door = cluster.door_host();
        assert_eq!(
            (door.tasks.live("http"), door.tasks.live("http-connection")),
            (0, 0)
        );
    });
}
