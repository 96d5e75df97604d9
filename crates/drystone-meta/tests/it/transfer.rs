//! Snapshots as a member sends them: bad, good, and of no use.

use crate::kit::{Cluster, HISTORY, KEY, free_port, identity};
use bytes::Bytes;
use drystone_env::BufferPool;
use drystone_env::sync::Rank;
use drystone_meta::stores::{OpenFailure, States};
use drystone_namespace::store::Visitor;
use drystone_namespace::{
    Batch, MemoryStore, Namespace, Order, OrderedStore, Settings, StoreError, View, export,
};
use drystone_proto::Kind;
use drystone_proto::cluster::Empty;
use drystone_proto::command::{Command, Entry, Initialize, Op};
use drystone_proto::grant::ClusterKey;
use drystone_proto::raft::{RaftConfState, RaftSnapshotMeta, SnapshotPart};
use drystone_proto::record::PolicyRecord;
use drystone_rpc::{CallError, CallOptions, ChannelOptions, Channels, Payload};
use drystone_types::{ClientId, Code, LogIndex, NodeId, ShardId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const INDEX: u64 = 100;
const TERM: u64 = 50;

/// A whole state as of [`INDEX`].
fn exported() -> Bytes {
    let settings = Settings {
        shard: ShardId(0),
        key: ClusterKey(KEY),
        history: HISTORY,
    };
    let store = Arc::new(MemoryStore::new());
    let mut namespace = Namespace::open(Arc::clone(&store), settings).unwrap();
    let initialize = Initialize {
        policy: Some(PolicyRecord {
            replicas: 1,
            chunk_bytes: 64 << 20,
            ..PolicyRecord::default()
        }),
        owner: "drystone".to_owned(),
        mode: 0,
    };
    let entry = Entry {
        time: 1,
        command: Some(Command {
            op: Some(Op::Initialize(initialize)),
        }),
        ..Entry::default()
    };
    assert_eq!(namespace.apply(LogIndex(1), &entry).unwrap().code, 0);
    (2..=INDEX).for_each(|index| namespace.skip(LogIndex(index)));
    let batch = namespace.freeze().unwrap();
    drop(namespace.flushed(batch.write_to(&*store).unwrap()));
    let mut bytes = Vec::new();
    export::<StoreError>(&*store.view().unwrap(), &mut |part| {
        bytes.extend_from_slice(&part);
        Ok(())
    })
    .unwrap();
    bytes.into()
}

/// Sends a snapshot in one part, as the leader of a later term would.
async fn send(
    channels: &Channels,
    cluster: &Cluster,
    id: &'static str,
    data: Bytes,
) -> Result<Empty, CallError> {
    send_part(channels, cluster, id, &data, 0..data.len()).await
}

/// Sends the part of a snapshot that is in `range`.
async fn send_part(
    channels: &Channels,
    cluster: &Cluster,
    id: &'static str,
    data: &Bytes,
    range: std::ops::Range<usize>,
) -> Result<Empty, CallError> {
    let meta = RaftSnapshotMeta {
        index: INDEX,
        term: TERM,
        conf: Some(RaftConfState {
            voters: vec![1, 2, 3],
            ..RaftConfState::default()
        }),
        data: id.into(),
    };
    let part = SnapshotPart {
        id: id.into(),
        from: 2,
        offset: range.start as u64,
        last: range.end == data.len(),
        meta: Some(meta),
        checksum: crc32c::crc32c(data),
        term: TERM,
    };
    let deadline = cluster.env.clock.now().plus(Duration::from_secs(5));
    channels
        .to_lane(&cluster.nodes[0].address, NodeId(1), 1)
        .call::<SnapshotPart, Empty>(
            Kind::Snapshot,
            &part,
            Some(Payload::new(data.slice(range))),
            CallOptions::until(deadline),
        )
        .await
        .map(|answer| answer.body)
}

/// One running voter of three, and the second one's connections to it.
async fn voter_and_second() -> (Cluster, Channels) {
    let (mut cluster, channels) = stopped_voter_and_second();
    cluster.run(0).await;
    (cluster, channels)
}

fn stopped_voter_and_second() -> (Cluster, Channels) {
    // The others are not there: this test speaks for the second one.
    let voters: Vec<(u64, String)> = (1..=3).map(|id| (id, free_port())).collect();
    let mut cluster = Cluster::empty(|_| {});
    cluster.format(1, &voters, false);
    let second = identity(2, &voters, false);
    let channels = Channels::new(
        cluster.env.clone(),
        ChannelOptions {
            cluster: Some(second.cluster),
            history: Some(second.history),
            node: second.node,
            incarnation: second.node_incarnation,
            roles: drystone_proto::record::role::METADATA,
            software: "drystone-meta/test".to_owned(),
            ..ChannelOptions::new(BufferPool::new(1 << 20), ClientId([7; 16]))
        },
    );
    (cluster, channels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_where_the_receiver_stands() {
    let (cluster, channels) = voter_and_second().await;
    let (data, half) = (exported(), 100);
    let part = async |range| send_part(&channels, &cluster, "broken", &data, range).await;
    part(0..half).await.unwrap();
    // The sender heard no answer, or took itself for the first one: it is told where to go on.
    for range in [0..half, half + 1..data.len()] {
        match part(range).await {
            Err(CallError::Refused(refused)) => {
                assert_eq!(refused.code, Code::Conflict.number());
                assert_eq!(refused.expected, half as u64);
            }
            other => panic!("{other:?}"),
        }
    }
    part(half..data.len()).await.unwrap();
    for _ in 0..100 {
        if cluster.applied(0) == INDEX {
            return;
        }
        cluster.env.clock.sleep(Duration::from_millis(100)).await;
    }
    panic!("the snapshot was not installed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_snapshot_is_dropped_and_one_of_no_use_frees_its_sender() {
    let (cluster, channels) = voter_and_second().await;
    let failure = |cluster: &Cluster| cluster.nodes[0].handle.as_ref().unwrap().failure();
    for id in ["bad", "worse"] {
        send(&channels, &cluster, id, Bytes::from_static(b"not a snapshot"))
            .await
            .unwrap();
        cluster.env.clock.sleep(Duration::from_millis(300)).await;
        assert_eq!(failure(&cluster), None);
        assert_eq!(cluster.applied(0), 0);
    }
    // Raft has no use for it while the one before is still being looked at: a leader sends it again.
    for _ in 0..100 {
        match send(&channels, &cluster, "good", exported()).await {
            Err(error) if error.code() != Code::Busy => panic!("{error}"),
            _ => cluster.env.clock.sleep(Duration::from_millis(100)).await,
        }
        if cluster.applied(0) == INDEX {
            break;
        }
    }
    assert_eq!(cluster.applied(0), INDEX);
    // Sent again it is of no use, and the next one may come right away.
    for _ in 0..3 {
        let mut answer = send(&channels, &cluster, "again", exported()).await;
        for _ in 0..100 {
            match &answer {
                Err(error) if error.code() == Code::Busy => {
                    cluster.env.clock.sleep(Duration::from_millis(10)).await;
                    answer = send(&channels, &cluster, "again", exported()).await;
                }
                _ => break,
            }
        }
        answer.unwrap();
    }
    assert_eq!(failure(&cluster), None);
    assert_eq!(cluster.applied(0), INDEX);
}

/// Stores of which is known how many are open.
struct CountedStates {
    inner: Arc<dyn States>,
    open: Arc<AtomicUsize>,
    /// How many were open when old ones were removed, each time.
    seen: Arc<Mutex<Vec<usize>>>,
}

type Opened = Result<Arc<dyn OrderedStore>, OpenFailure>;

impl CountedStates {
    fn counted(&self, store: Opened) -> Opened {
        let (inner, open) = (store?, Arc::clone(&self.open));
        open.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(CountedStore { inner, open }))
    }
}

impl States for CountedStates {
    fn open(&self) -> Opened {
        self.counted(self.inner.open())
    }

    fn abandon(&self) -> Opened {
        self.counted(self.inner.abandon())
    }

    fn begin(&self) -> Opened {
        self.counted(self.inner.begin())
    }

    fn adopt(&self) -> Opened {
        self.counted(self.inner.adopt())
    }

    fn remove_old(&self) -> std::io::Result<()> {
        self.seen.lock().unwrap().push(self.open.load(Ordering::SeqCst));
        self.inner.remove_old()
    }
}

struct CountedStore {
    inner: Arc<dyn OrderedStore>,
    open: Arc<AtomicUsize>,
}

impl Drop for CountedStore {
    fn drop(&mut self) {
        // Panics if a lock of the server is held, as closing takes long.
        drop(drystone_env::sync::Mutex::new(Rank::new(1, "closing"), ()).lock());
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl View for CountedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.inner.scan(from, to, order, visit)
    }
}

impl OrderedStore for CountedStore {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.inner.view()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_replaced_closes_without_a_lock_and_before_its_directory_is_removed() {
    let (mut cluster, channels) = stopped_voter_and_second();
    let mut directory = cluster.open(0);
    let seen = Arc::<Mutex<Vec<usize>>>::default();
    directory.states = Arc::new(CountedStates {
        inner: Arc::clone(&directory.states),
        open: Arc::default(),
        seen: Arc::clone(&seen),
    });
    cluster.run_on(0, directory).await;
    send(&channels, &cluster, "good", exported()).await.unwrap();
    let failure = |cluster: &Cluster| cluster.nodes[0].handle.as_ref().unwrap().failure();
    cluster
        .eventually("it is installed, and the old store removed", || {
            assert_eq!(failure(&cluster), None);
            cluster.applied(0) == INDEX && seen.lock().unwrap().len() == 2
        })
        .await;
    // At the start, and after that.
    assert_eq!(*seen.lock().unwrap(), [1, 1]);
    cluster.stop(0).await;
}
