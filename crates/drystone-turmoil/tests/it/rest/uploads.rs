//! Files that go in.

use super::{PATIENCE, content, holds, holds_after_cut, put, put_after_cut, scenario};
use crate::cluster::{Cluster, chunk_name};
use crate::seams::{Host, in_worlds, world_in_steps};
use crate::user::{self, User, pieces, whole};
use http::Method;

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
            .wait(80_000, || door.tasks.live("http-connection") == 0)
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
        holds_after_cut(&host, "/file", &new).await;
        put_after_cut(&host, "/file", &old).await;
        holds_after_cut(&host, "/file", &old).await;
    });
}

/// Every chunk server is needed, and the streams to one of them die silently in the middle of an upload.
#[test]
fn uploads_go_on_soon_after_a_silent_partition() {
    in_worlds(3, |seed| {
        let mut sim = world_in_steps(seed, 3);
        let cluster = Cluster::start(&mut sim, seed, 1, 2);
        sim.client("user", async move {
            let host = Host::new("user", seed);
            cluster.up(&host).await;
            // From here on the door knows how fast these servers are.
            let file = content(seed, 4 << 20);
            for round in 0..10 {
                let got = put(&host, &format!("/before-{round}"), whole(file.clone())).await;
                assert_eq!(got.expect("an answer").status, 201);
            }
            let body = pieces(&host, file.clone(), 2, 1 << 20, || {
                for other in ["door", "chunk-1"] {
                    turmoil::partition("chunk-0", other);
                }
                false
            });
            let got = put(&host, "/during", body).await.expect("an answer");
            assert_eq!(got.status, 503, "two replicas cannot be had");
            for other in ["door", "chunk-1"] {
                turmoil::repair("chunk-0", other);
            }
            put_after_cut(&host, "/after", &file).await;
            holds_after_cut(&host, "/after", &file).await;
            Ok(())
        });
        sim.run().unwrap();
    });
}

/// Chunk servers hand a chunk on to each other. One of them is cut off from the others, but not from the door: it may
/// take a while to find out who is to blame, but what is said is true. After repair the streams between them are dead.
#[test]
fn an_upload_whose_chain_breaks_is_told_truthfully_and_done_after_repair() {
    scenario(2, |host, _, seed| async move {
        let mut done = 0;
        for round in 0..3 {
            let lonely = chunk_name(round as usize);
            let others: Vec<_> = (0..3).map(chunk_name).filter(|name| *name != lonely).collect();
            let (file, path) = (content(seed + round, 5 << 20), format!("/chain-{round}"));
            let (name, cut_from) = (lonely.clone(), others.clone());
            let body = pieces(&host, file.clone(), 2, 1 << 20, move || {
                for other in &cut_from {
                    turmoil::partition(name.as_str(), other.as_str());
                }
                false
            });
            let got = put(&host, &path, body).await.expect("an answer");
            assert!(
                [201, 503].contains(&got.status),
                "{}",
                String::from_utf8_lossy(&got.body)
            );
            let there = got.status == 201;
            done += u32::from(there);
            if there {
                holds_after_cut(&host, &path, &file).await;
            } else {
                holds(&host, &path, None).await;
            }
            for other in &others {
                turmoil::repair(lonely.as_str(), other.as_str());
            }
            put_after_cut(&host, &path, &file).await;
            holds_after_cut(&host, &path, &file).await;
        }
        assert!(done > 0, "no upload found another way");
    });
}

/// The door is told to stop while files go in and out: they are finished, and nothing of it is left.
#[test]
fn a_door_that_is_stopped_finishes_what_it_has_begun() {
    scenario(2, |host, cluster, seed| async move {
        let new = content(seed, 3 << 20);
        put(&host, "/file", whole(new.clone())).await.expect("an answer");
        let upload = put(&host, "/new", pieces(&host, new.clone(), 5, 0, || false));
        let download = super::get(&host, "/file");
        let stop = async {
            host.pass(100).await;
            cluster.stop_door();
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
