//! Servers among themselves after a silent partition: their one-way streams are dead, and nobody told them.

use crate::cluster::{Cluster, chunk_name, meta_name};
use crate::seams::{Host, in_worlds, world_in_steps};
use crate::user::{self, whole};
use http::Method;

/// Two signs of life that do not come, a new connection, an election.
const AGREEMENT: u64 = 10_000;

async fn put(host: &Host, path: String) -> u16 {
    let got = user::ask(host, Method::PUT, &path, &[], whole("small"), 9_000).await;
    got.map_or(0, |got| got.status)
}

/// Waits until all metadata servers have applied the same and hold the same.
async fn agreement(host: &Host, cluster: &Cluster) -> bool {
    host.wait(AGREEMENT, || {
        let states = cluster.states();
        cluster.leader().is_some() && states.iter().all(|state| state.is_some() && *state == states[0])
    })
    .await
}

/// The leader is cut off from the others, or hears them and is not heard; they elect one of them. After repair every
/// stream between them is deaf, and all the same the old leader learns what happened.
#[test]
fn metadata_servers_find_each_other_again_after_a_silent_partition() {
    in_worlds(3, |seed| {
        let mut sim = world_in_steps(seed, 3);
        let cluster = Cluster::start(&mut sim, seed, 3, 2);
        sim.client("user", async move {
            let host = Host::new("user", seed);
            cluster.up(&host).await;
            for round in 0..3 {
                let leader = cluster.leader().expect("the cluster is up");
                let others = (0..3).filter(|other| *other != leader).map(meta_name);
                let (name, others): (_, Vec<_>) = (meta_name(leader), others.collect());
                for other in &others {
                    if round == 1 {
                        turmoil::partition_oneway(name.as_str(), other.as_str());
                    } else {
                        turmoil::partition(name.as_str(), other.as_str());
                    }
                }
                host.pass(3_000).await;
                assert_eq!(put(&host, format!("/files/during-{round}")).await, 201);
                assert_ne!(
                    cluster.leader(),
                    Some(leader),
                    "seed {seed}: it cannot lead alone"
                );
                for other in &others {
                    turmoil::repair(name.as_str(), other.as_str());
                }
                assert!(
                    agreement(&host, &cluster).await,
                    "seed {seed}: {:?}",
                    cluster.states()
                );
                assert_eq!(put(&host, format!("/files/after-{round}")).await, 201);
            }
            Ok(())
        });
        sim.run().unwrap();
    });
}

/// A chunk server is cut off from the leader until it counts as dead; after repair it is back, though every stream
/// between them is deaf.
#[test]
fn a_chunk_server_is_back_after_a_silent_partition() {
    in_worlds(3, |seed| {
        let mut sim = world_in_steps(seed, 3);
        let cluster = Cluster::start(&mut sim, seed, 1, 2);
        sim.client("user", async move {
            let host = Host::new("user", seed);
            cluster.up(&host).await;
            let alive = async || {
                let got = user::ask(&host, Method::GET, "/status", &[], whole(""), 5_000).await;
                let value: serde_json::Value =
                    serde_json::from_slice(&got.expect("an answer").body).expect("JSON");
                let servers = value["servers"].as_array().expect("servers").clone();
                let states = servers
                    .iter()
                    .map(|server| server["last_heartbeat_ms"].as_u64().unwrap_or(u64::MAX));
                states.filter(|age| *age < 2_500).count()
            };
            assert_eq!(alive().await, 2);
            turmoil::partition(chunk_name(0), meta_name(0));
            host.pass(6_000).await;
            assert_eq!(alive().await, 1);
            turmoil::repair(chunk_name(0), meta_name(0));
            host.pass(4_000).await;
            assert_eq!(
                alive().await,
                2,
                "seed {seed}: its heartbeats go into a dead stream"
            );
            let content = vec![1; 200_000];
            let got = user::ask(&host, Method::PUT, "/files/after", &[], whole(content), 9_000).await;
            assert_eq!(got.expect("an answer").status, 201, "both replicas are there");
            Ok(())
        });
        sim.run().unwrap();
    });
}
