//! A lone voter and its exports: what is purged, rebuilt, recovered and held back.

use crate::kit::{Cluster, HISTORY, KEY};
use crate::leader::{WAIT, ask, beat, enlist, send_beat};
use drystone_meta::recover::{RecoverError, Recovery};
use drystone_meta::{Config, MetadataServer, StartError};
use drystone_proto::Kind;
use drystone_proto::cluster::{AdminOp, AdminReply, AdminRequest, Empty, Heartbeat};
use drystone_proto::data::{ChunkStatus, ServerOrder};
use drystone_proto::grant::{ClusterKey, verify_delete};
use drystone_proto::meta::{GrantReply, GrantRequest};
use drystone_types::{ByteCount, Code, HistoryId};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn often(config: &mut Config) {
    config.export_after = ByteCount(4 << 10);
    config.log_keep_entries = 0;
    config.checkpoint_interval = Duration::from_millis(20);
    config.grant_age = Duration::from_secs(1);
}

fn exports(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("exports")).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some()).collect();
    paths.sort();
    paths
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// The files of the state that are not journals.
fn damage_state(directory: &Path) {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&directory.join("state"), &mut found);
    found.retain(|path| path.parent().unwrap().ends_with("1/tables"));
    assert!(!found.is_empty());
    found.iter().for_each(|table| flip(table, 20));
}

/// The first record of the log that holds `text`.
fn damage_log(directory: &Path, text: &[u8]) {
    for entry in fs::read_dir(directory.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            return flip(&path, at as u64);
        }
    }
    panic!("it is not in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_voter_is_rebuilt_from_the_older_export_when_the_newest_is_damaged_too() {
    let mut cluster = Cluster::start(1, often).await;
    let client = cluster.client().await;
    let directory = cluster.directory(1);
    client.open().await;
    let mut number = 0;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 5 {
        assert_eq!(client.make_directory(&format!("d-{number}")).await.code, 0);
        seen.extend(exports(&directory));
        number += 1;
        assert!(number < 5_000, "no exports are made");
    }
    let names = client.list(0, "").await;
    assert_eq!(names.len(), number);
    cluster.stop(0).await;
    let kept = exports(&directory);
    assert!((2..=3).contains(&kept.len()), "{kept:?}");
    damage_state(&directory);
    flip(kept.last().unwrap(), 5_000);
    cluster.run(0).await;
    cluster.ready(&cluster.nodes[0]).await;
    assert_eq!(cluster.client().await.list(0, "").await, names);
    cluster.stop(0).await;
    // The log was purged behind the older export: without any, nothing leads to it.
    damage_state(&directory);
    fs::remove_dir_all(directory.join("exports")).unwrap();
    let refused = MetadataServer::start(cluster.env.clone(), cluster.nodes[0].config.clone()).await;
    let refused = refused.err().unwrap();
    assert!(matches!(refused, StartError::StateDamaged { .. }), "{refused}");
    assert!(refused.to_string().contains("admin recover --data"), "{refused}");
    assert!(matches!(
        Recovery::open(&directory),
        Err(RecoverError::Nothing { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_recovery_nothing_is_deleted_until_an_operator_releases_it() {
    let mut cluster = Cluster::start(1, |config| config.grant_age = Duration::from_secs(1)).await;
    let client = cluster.client().await;
    let directory = cluster.directory(1);
    enlist(&client, &[1, 2, 3]).await;
    client.open().await;
    for name in ["one", "two", "three"] {
        assert_eq!(client.make_directory(name).await.code, 0);
    }
    let reply: GrantReply = client
        .call::<GrantRequest, _>(0, Kind::Grant, &ask(3), WAIT)
        .await
        .unwrap();
    let (chunk, replicas) = (reply.grants[0].chunk, &reply.grants[0].replicas);
    let replicas = replicas.iter().map(|replica| replica.replica.unwrap());
    let replica = replicas.clone().find(|replica| replica.disk == 10).unwrap();
    cluster.stop(0).await;
    assert!(matches!(Recovery::open(&directory), Err(RecoverError::Intact)));
    damage_log(&directory, b"two");
    let started = MetadataServer::start(cluster.env.clone(), cluster.nodes[0].config.clone()).await;
    assert!(matches!(started.err(), Some(StartError::LogDamaged { .. })));

    let history = HistoryId([7; 16]);
    let recovery = Recovery::open(&directory).unwrap();
    assert_eq!(recovery.survey().unwrap().lost.entries, 0, "the store has it all");
    assert_eq!(recovery.stage(history).unwrap(), history);
    drop(recovery);
    let started = MetadataServer::start(cluster.env.clone(), cluster.nodes[0].config.clone()).await;
    assert!(started.err().unwrap().to_string().contains("interrupted"));
    // Another process goes on, and may be interrupted in its turn.
    let recovery = Recovery::open(&directory).unwrap();
    assert!(recovery.survey().is_none());
    assert_eq!(recovery.stage(HistoryId([8; 16])).unwrap(), history);
    recovery.switch(history).unwrap();
    recovery.switch(history).unwrap();
    recovery.finish().unwrap();

    cluster.run(0).await;
    cluster.ready(&cluster.nodes[0]).await;
    assert_eq!(cluster.nodes[0].handle.as_ref().unwrap().history(), history);
    let client = cluster.client().await;
    assert_eq!(client.list(0, "").await, ["one", "three", "two"]);
    enlist(&client, &[1, 2, 3]).await;
    let again: GrantReply = client.call(0, Kind::Grant, &ask(3), WAIT).await.unwrap();
    assert!(again.grants[0].chunk > chunk + 1_000_000, "no id is used twice");
    let open = vec![ChunkStatus {
        chunk,
        replica: Some(replica),
        state: 1,
        epoch: 1,
        ..ChunkStatus::default()
    }];
    let reporting = Heartbeat { open, ..beat(1) };
    for round in 0.. {
        let reply = send_beat(&client, &reporting).await;
        assert!(reply.orders.is_empty());
        // Twice the time after which it would have been ordered away.
        if reply.grant_floor > chunk && round > 30 {
            break;
        }
        assert!(round < 100, "the floor never rose");
        cluster.env.clock.sleep(Duration::from_millis(100)).await;
    }
    let admin = |op: AdminOp| AdminRequest { op: Some(op) };
    let status: AdminReply = client
        .call(0, Kind::Admin, &admin(AdminOp::Status(Empty {})), WAIT)
        .await
        .unwrap();
    let warnings = status.status.unwrap().warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("release-deletion")),
        "{warnings:?}"
    );
    let release = admin(AdminOp::ReleaseDeletion(Empty {}));
    let _: AdminReply = client.call(0, Kind::Admin, &release, WAIT).await.unwrap();
    let twice: Result<AdminReply, _> = client.call(0, Kind::Admin, &release, WAIT).await;
    assert_eq!(twice.unwrap_err().code(), Code::NotFound);
    for _ in 0..150 {
        let reply = send_beat(&client, &reporting).await;
        if let Some(order) = reply.orders.first().and_then(ServerOrder::as_delete) {
            let signed = |history| verify_delete(&ClusterKey(KEY), history, chunk, &replica, &order.order);
            assert!(signed(history) && !signed(HISTORY));
            return;
        }
        cluster.env.clock.sleep(Duration::from_millis(100)).await;
    }
    panic!("the orphan was never ordered away");
}
