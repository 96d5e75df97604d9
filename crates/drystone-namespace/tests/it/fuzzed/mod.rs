//! What holds for every command and for every snapshot: the bodies of the fuzz targets `commands` and `snapshot`.

mod commands;
mod snapshot;

pub use commands::{commands, seeds as command_seeds};
pub use snapshot::{seeds as snapshot_seeds, snapshot};

use crate::cluster::{Cluster, inline, node};
use drystone_namespace::{Batch, MemoryStore, OrderedStore};
use drystone_proto::command::*;
use std::sync::LazyLock;

/// A record of a store.
type Pair = (Vec<u8>, Vec<u8>);

/// A namespace with something in most of its tables.
fn grown() -> Cluster {
    let mut cluster = Cluster::new();
    for path in ["a", "a/b", "c"] {
        cluster.ok(Cluster::mkdir(path));
    }
    cluster.ok(Cluster::publish(
        "a/inline",
        PublishMode::Replace,
        0,
        inline(b"content"),
    ));
    for path in ["a/b/chunked", "c/gone"] {
        let content = cluster.chunked(1000, 3);
        cluster.ok(Cluster::publish(path, PublishMode::Replace, 0, content));
    }
    cluster.ok(Cluster::remove("c/gone", false));
    let staged = cluster.ok(Op::Stage(Stage {
        target: crate::cluster::at("a/staged"),
        lease: 1_000_000,
        ..Stage::default()
    }));
    assert!(staged.inode > 0);
    cluster.own(Op::RegisterNode(RegisterNode {
        node: Some(node(3, &[(5, 15)])),
    }));
    cluster.flush();
    cluster
}

/// The records of [`grown`], and where its numbers stand.
struct Base {
    records: Vec<Pair>,
    index: u64,
    time: u64,
    placement: u64,
    next_chunk: u64,
    sequence: u64,
    staged: u64,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let cluster = grown();
    let records = cluster.ns.store().records();
    let staged = cluster.outcomes.iter().rev().find(|outcome| outcome.inode > 0);
    Base {
        records: records
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect(),
        index: cluster.index,
        time: cluster.time,
        placement: cluster.placement,
        next_chunk: cluster.next_chunk,
        sequence: cluster.sequence,
        staged: staged.map_or(0, |outcome| outcome.inode),
    }
});

/// A store that holds the records.
fn store(records: &[Pair]) -> MemoryStore {
    let (store, mut batch) = (MemoryStore::new(), Batch::default());
    for (key, value) in records {
        batch.push(key, Some(value.clone().into()));
    }
    store.write(&batch).expect("memory");
    store
}
