//! Flush, damage, snapshots.

use crate::cluster::{Cluster, at, inline, settings};
use crate::invariants;
use drystone_namespace::{
    ApplyError, Batch, ImportError, MemoryStore, Namespace, OpenError, OrderedStore, Settings, StoreError,
    View, export,
};
use drystone_proto::command::*;
use drystone_types::{HistoryId, InodeId, LogIndex};
use std::sync::Arc;

fn filled() -> Cluster {
    let mut cluster = Cluster::new();
    for i in 0..60 {
        cluster.ok(Cluster::mkdir(&format!("d{i}")));
        let content = cluster.chunked(3, 2);
        cluster.ok(Cluster::publish(
            &format!("d{i}/f"),
            PublishMode::Replace,
            0,
            content,
        ));
        cluster.ok(Cluster::publish(
            &format!("d{i}/g"),
            PublishMode::Replace,
            0,
            inline(b"tiny"),
        ));
        if i % 10 == 0 {
            cluster.flush();
        }
    }
    cluster.flush();
    cluster
}

fn reopen(cluster: &Cluster) -> Result<Namespace<MemoryStore>, OpenError> {
    Namespace::open(Arc::clone(cluster.ns.store()), settings())
}

#[test]
fn what_was_flushed_is_there_after_reopening() {
    let cluster = filled();
    let again = reopen(&cluster).unwrap();
    assert_eq!(again.applied(), LogIndex(cluster.index));
    assert_eq!(again.synced_index(), LogIndex(cluster.index));
    assert_eq!(again.state_hash().unwrap(), cluster.ns.state_hash().unwrap());
    invariants::check(&again);
}

#[test]
fn readers_see_a_batch_on_its_way_and_the_changes_after_it() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    let batch = cluster.ns.freeze().unwrap();
    assert!(cluster.ns.freeze().is_none(), "one at a time");
    cluster.ok(Cluster::mkdir("a/b"));
    cluster.ok(Cluster::remove("a/b", false));
    cluster.ok(Cluster::remove("a", false));
    let hash = cluster.ns.state_hash().unwrap();
    let applied = batch.applied();
    let done = batch.write_to(&**cluster.ns.store()).unwrap();
    assert_eq!(cluster.ns.state_hash().unwrap(), hash);
    drop(cluster.ns.flushed(done));
    assert_eq!(cluster.ns.synced_index(), applied);
    assert_eq!(cluster.ns.state_hash().unwrap(), hash);
    cluster.flush();
    assert_eq!(reopen(&cluster).unwrap().state_hash().unwrap(), hash);
}

#[test]
fn a_missing_batch_is_found_when_opening() {
    let cluster = filled();
    let store = cluster.ns.store();
    let links: Vec<_> = store
        .records()
        .into_iter()
        .filter(|(key, _)| key.starts_with(&[0, 2]))
        .collect();
    assert!(links.len() > 5);
    for (key, value) in &links {
        store.lose(key);
        assert!(
            matches!(reopen(&cluster), Err(OpenError::Hole { .. })),
            "without {key:?}"
        );
        store.replace(key, value.clone());
    }
    let state = store
        .records()
        .into_iter()
        .find(|(key, _)| key[..] == [0, 1])
        .unwrap();
    store.lose(&state.0);
    assert!(
        matches!(reopen(&cluster), Err(OpenError::Hole { .. })),
        "the state is older than the chain"
    );
    store.replace(&state.0, state.1);
    reopen(&cluster).unwrap();
}

#[test]
fn a_damaged_record_is_an_error_and_not_an_answer() {
    let cluster = filled();
    let inode = cluster
        .ns
        .store()
        .records()
        .into_iter()
        .find(|(key, _)| key[0] == 1)
        .unwrap();
    for bad in [&b""[..], b"\x09abc", b"\x01\xff\xff\xff"] {
        cluster
            .ns
            .store()
            .replace(&inode.0, bytes::Bytes::copy_from_slice(bad));
        let mut ns = reopen(&cluster).unwrap();
        assert!(matches!(ns.inode(InodeId(1)), Err(StoreError::Corrupt { .. })));
        let op = Cluster::mkdir("new");
        let entry = Entry {
            time: 0,
            origin: None,
            command: Some(Command { op: Some(op) }),
            wall: 0,
        };
        assert!(ns.apply(LogIndex(cluster.index + 1), &entry).is_err());
        assert_eq!(ns.applied(), LogIndex(cluster.index), "not applied");
    }
}

#[test]
fn a_store_of_another_history_is_not_opened() {
    let cluster = filled();
    let other = Settings {
        history: HistoryId([1; 16]),
        ..settings()
    };
    let opened = Namespace::open(Arc::clone(cluster.ns.store()), other);
    assert!(matches!(opened, Err(OpenError::Stranger { .. })));
}

fn exported(cluster: &Cluster) -> (Vec<u8>, drystone_namespace::SnapshotSummary) {
    let mut bytes = Vec::new();
    let view = cluster.ns.store().view().unwrap();
    let summary = export::<StoreError>(&*view, &mut |part| {
        bytes.extend_from_slice(&part);
        Ok(())
    });
    (bytes, summary.unwrap().unwrap())
}

fn import(
    bytes: &[u8],
    step: usize,
) -> Result<(Arc<MemoryStore>, drystone_namespace::SnapshotSummary), ImportError> {
    let store = Arc::new(MemoryStore::new());
    let summary =
        drystone_namespace::import(&*store, &settings(), |add| bytes.chunks(step).try_for_each(add))?;
    Ok((store, summary))
}

#[test]
fn a_snapshot_makes_an_equal_namespace() {
    let mut cluster = filled();
    let hash = cluster.ns.state_hash().unwrap();
    let view = cluster.ns.store().view().unwrap();
    // What is applied and flushed meanwhile is not in it.
    cluster.ok(Cluster::mkdir("later"));
    cluster.flush();
    let mut bytes = Vec::new();
    let summary = export::<StoreError>(&*view, &mut |part| {
        bytes.extend_from_slice(&part);
        Ok(())
    });
    let summary = summary.unwrap().unwrap();
    assert_eq!(summary.applied, LogIndex(cluster.index - 1));
    for step in [1, 7, 4096, bytes.len()] {
        let (store, installed) = import(&bytes, step).unwrap();
        assert_eq!(installed, summary);
        let mut again = Namespace::open(store, settings()).unwrap();
        assert_eq!(again.state_hash().unwrap(), hash);
        assert_eq!(again.applied(), summary.applied);
        // It goes on with the log.
        let (index, entry) = cluster.log.last().unwrap();
        again.apply(LogIndex(*index), entry).unwrap();
        assert_eq!(again.state_hash().unwrap(), cluster.ns.state_hash().unwrap());
        invariants::check(&again);
    }
}

#[test]
fn a_damaged_or_short_snapshot_is_refused_and_does_not_open() {
    let cluster = filled();
    let (bytes, _) = exported(&cluster);
    for at in (0..bytes.len()).step_by(97).chain(bytes.len() - 24..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(import(&damaged, 4096).is_err(), "byte {at}");
    }
    for length in [0, 5, 8, 100, bytes.len() - 1] {
        assert!(import(&bytes[..length], 4096).is_err(), "{length} bytes");
    }
    let store = Arc::new(MemoryStore::new());
    let cut = drystone_namespace::import(&*store, &settings(), |add| add(&bytes[..bytes.len() - 1]));
    assert!(matches!(cut, Err(ImportError::Damaged { .. })));
    assert!(matches!(
        Namespace::open(Arc::clone(&store), settings()),
        Err(OpenError::Unfinished)
    ));
    let again = drystone_namespace::import(&*store, &settings(), |add| add(&bytes));
    assert!(matches!(again, Err(ImportError::NotEmpty)));
}

#[test]
fn an_empty_batch_still_carries_the_applied_index() {
    let mut cluster = filled();
    cluster.ns.skip(LogIndex(cluster.index + 1));
    let batch = cluster.ns.freeze().unwrap();
    assert!(batch.is_empty());
    let done = batch.write_to(&**cluster.ns.store()).unwrap();
    drop(cluster.ns.flushed(done));
    assert_eq!(cluster.ns.synced_index(), LogIndex(cluster.index + 1));
    assert!(cluster.ns.freeze().is_none());
    let found = reopen(&cluster).unwrap();
    assert_eq!(found.applied(), LogIndex(cluster.index + 1));
    assert!(
        found
            .lookup(
                &at("d1/f").unwrap(),
                &drystone_namespace::Caller::superuser(),
                drystone_namespace::Want::Content
            )
            .is_ok()
    );
}

#[test]
fn an_entry_without_a_known_command_is_not_applied_and_applies_once_it_is_known() {
    let mut cluster = filled();
    let (index, hash) = (cluster.index, cluster.ns.state_hash().unwrap());
    let mut entry = Entry {
        time: cluster.ns.log_time() + 5,
        origin: None,
        command: Some(Command { op: None }),
        wall: 0,
    };
    for command in [Some(Command { op: None }), None] {
        entry.command = command;
        let error = cluster.ns.apply(LogIndex(index + 1), &entry).unwrap_err();
        assert!(matches!(error, ApplyError::Unknown(_)), "{error}");
        assert_eq!(cluster.ns.applied(), LogIndex(index));
        assert_eq!(
            cluster.ns.state_hash().unwrap(),
            hash,
            "nothing of it was applied"
        );
    }
    // The same place in the log, read by a version that knows what stands there.
    entry.command = Some(Command {
        op: Some(Cluster::mkdir("newer")),
    });
    assert_eq!(cluster.ns.apply(LogIndex(index + 1), &entry).unwrap().code, 0);
}

#[test]
fn another_history_goes_on_far_behind_the_old_one_and_holds_deletion() {
    let mut cluster = filled();
    let (applied, next) = (cluster.ns.applied(), cluster.ns.next_chunk());
    let history = HistoryId([8; 16]);
    cluster.ns.begin_history(history);
    cluster.flush();
    let old = Namespace::open(Arc::clone(cluster.ns.store()), settings());
    assert!(matches!(old, Err(OpenError::Stranger { .. })));
    let settings = Settings {
        history,
        ..settings()
    };
    let mut again = Namespace::open(Arc::clone(cluster.ns.store()), settings).unwrap();
    assert!(again.deletion_held());
    assert!(again.applied().0 > applied.0 + (1 << 31) && again.next_chunk().0 > next.0 + (1 << 31));
    invariants::check(&again);
    let entry = Entry {
        command: Some(Command {
            op: Some(Op::ReleaseDeletion(ReleaseDeletion {})),
        }),
        ..Entry::default()
    };
    let outcome = again.apply(LogIndex(again.applied().0 + 1), &entry).unwrap();
    assert_eq!(outcome.code, 0);
    assert!(!again.deletion_held());
}

#[test]
fn a_store_of_another_format_is_refused_and_not_called_damaged() {
    let store = Arc::new(MemoryStore::new());
    let mut ns = Namespace::open(Arc::clone(&store), settings()).unwrap();
    ns.skip(LogIndex(1));
    let batch = ns.freeze().unwrap();
    drop(ns.flushed(batch.write_to(&*store).unwrap()));
    let state = [0, 1];
    let mut older = store.get(&state).unwrap().unwrap().to_vec();
    older[0] = 1;
    let mut batch = Batch::default();
    batch.push(&state, Some(older.into()));
    store.write(&batch).unwrap();
    let refused = Namespace::open(store, settings()).err().unwrap();
    assert!(matches!(refused, OpenError::Format { found: 1 }), "{refused}");
    assert!(refused.to_string().contains("format 1"), "{refused}");
}
