//! Disks that hang, and disks that fill.

use crate::kit::{Client, Cluster, target};
use bytes::Bytes;
use drystone_env::sim::{Stall, StallingDisk};
use drystone_meta::MetadataDirectory;
use drystone_meta::stores::{OpenFailure, States};
use drystone_namespace::store::Visitor;
use drystone_namespace::{Batch, Order, OrderedStore, StoreError, View};
use drystone_proto::Kind;
use drystone_proto::envelope::encode;
use drystone_proto::meta::{ListReply, ListRequest, MutateReply, MutateRequest};
use drystone_types::{ByteCount, Code};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Stores whose reads for clients stall: those that go through a view, on the threads for them.
struct StallingStates {
    inner: Arc<dyn States>,
    stall: Arc<Stall>,
}

impl StallingStates {
    fn stalling(&self, store: Result<Arc<dyn OrderedStore>, OpenFailure>) -> Opened {
        let stall = Arc::clone(&self.stall);
        Ok(Arc::new(StallingStore { inner: store?, stall }))
    }
}

type Opened = Result<Arc<dyn OrderedStore>, OpenFailure>;

impl States for StallingStates {
    fn open(&self) -> Opened {
        self.stalling(self.inner.open())
    }

    fn abandon(&self) -> Opened {
        self.stalling(self.inner.abandon())
    }

    fn begin(&self) -> Opened {
        self.stalling(self.inner.begin())
    }

    fn adopt(&self) -> Opened {
        self.stalling(self.inner.adopt())
    }

    fn remove_old(&self) -> io::Result<()> {
        self.inner.remove_old()
    }
}

struct StallingStore {
    inner: Arc<dyn OrderedStore>,
    stall: Arc<Stall>,
}

impl View for StallingStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.inner.scan(from, to, order, visit)
    }
}

impl OrderedStore for StallingStore {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        let (inner, stall) = (self.inner.view()?, Arc::clone(&self.stall));
        Ok(Box::new(StallingView { inner, stall }))
    }
}

struct StallingView {
    inner: Box<dyn View>,
    stall: Arc<Stall>,
}

impl StallingView {
    fn pass(&self) {
        if std::thread::current().name() == Some("meta-read") {
            self.stall.pass();
        }
    }
}

impl View for StallingView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.pass();
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.pass();
        self.inner.scan(from, to, order, visit)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "the calls hang beside those that must not"
)]
async fn listings_that_hang_on_the_disk_stop_no_command_and_no_leader() {
    const NAMES: usize = 200;
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    for number in 0..NAMES {
        let made = client
            .mutate(Client::publish(&format!("large/{number:04}"), b""))
            .await;
        assert_eq!(made.code, 0);
    }
    // Nothing of it is in memory afterwards.
    for at in 0..3 {
        cluster.stop(at).await;
    }
    let stalls: Vec<Arc<Stall>> = (0..3).map(|_| Arc::default()).collect();
    for (at, stall) in stalls.iter().enumerate() {
        let mut directory = cluster.open(at);
        let (inner, stall) = (Arc::clone(&directory.states), Arc::clone(stall));
        directory.states = Arc::new(StallingStates { inner, stall });
        cluster.run_on(at, directory).await;
    }
    let at = cluster.leader().await;
    cluster.ready(&cluster.nodes[at]).await;
    let stall = Arc::clone(&stalls[at]);
    stall.begin();
    let client = Arc::new(client);
    // More than there are threads for them.
    let listings: Vec<_> = (0..6)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let request = ListRequest {
                    target: target("large"),
                    limit: 10_000,
                    user: "drystone".to_owned(),
                    ..ListRequest::default()
                };
                let wait = Duration::from_secs(120);
                client.call::<_, ListReply>(at, Kind::List, &request, wait).await
            })
        })
        .collect();
    let hangs = Arc::clone(&stall);
    cluster.eventually("listings hang", || hangs.waiting() >= 4).await;
    for number in 0..20 {
        let made = client
            .mutate(Client::publish(&format!("large/new {number}"), b""))
            .await;
        assert_eq!(made.code, 0);
    }
    assert!(client.lookup(at, "large/new 19").await.is_ok());
    assert!(stall.waiting() >= 4 && listings.iter().all(|listing| !listing.is_finished()));
    assert_eq!(cluster.leader().await, at, "nobody else was elected");
    stall.end();
    for listing in listings {
        let names = listing.await.unwrap().unwrap().entries.len();
        assert!((NAMES..=NAMES + 20).contains(&names), "{names}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_voter_whose_exports_hang_takes_no_more_than_its_log_may_hold() {
    let mut cluster = Cluster::start(1, |config| {
        config.log_limit = ByteCount(8 << 20);
        config.export_after = ByteCount(64 << 10);
        config.inline_max = ByteCount(64 << 10);
        config.checkpoint_interval = Duration::from_millis(50);
    })
    .await;
    cluster.stop(0).await;
    let mut directory = cluster.open(0);
    let stall = Arc::<Stall>::default();
    let inner = Arc::clone(&directory.disk);
    directory.disk = Arc::new(StallingDisk::new(inner, "exports/", Arc::clone(&stall)));
    stall.begin();
    cluster.run_on(0, directory).await;
    cluster.ready(&cluster.nodes[0]).await;
    let client = cluster.client().await;
    client.open().await;
    client.inline_max_becomes(64 << 10).await;
    let content = [7; 60 << 10];
    let mut last = None;
    // Ten times what the log may hold is more than is ever taken.
    let refused = async {
        for number in 0..1400 {
            let request = MutateRequest {
                origin: Some(client.origin()),
                command: encode(&Client::publish(&format!("{number}"), &content)),
            };
            let wait = Duration::from_secs(30);
            match client
                .call::<_, MutateReply>(0, Kind::Mutate, &request, wait)
                .await
            {
                Ok(_) => last = Some(request),
                Err(error) => return Some(error),
            }
        }
        None
    };
    let refused = refused.await.expect("the log has no bound");
    assert_eq!(refused.code(), Code::Busy, "{refused}");
    assert_eq!(cluster.metric(0, "log_full"), 1);
    assert!(cluster.metric(0, "log_held_bytes") > 8 << 20);
    // What was done is answered still.
    let wait = Duration::from_secs(30);
    let again = client
        .call::<_, MutateReply>(0, Kind::Mutate, &last.unwrap(), wait)
        .await;
    assert_eq!(again.unwrap().outcome.unwrap().code, 0);
    stall.end();
    assert_eq!(client.mutate(Client::publish("after", &content)).await.code, 0);
    cluster
        .eventually("the log is let go", || {
            cluster.metric(0, "log_held_bytes") < 8 << 20 && cluster.metric(0, "log_full") == 0
        })
        .await;
    assert!(cluster.metric(0, "exports_total") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_a_voter_that_is_away_goes_when_the_disk_is_nearly_full() {
    let mut cluster = Cluster::start(3, |config| {
        config.log_keep_entries = 0;
        config.checkpoint_interval = Duration::from_millis(50);
        config.disk_reserve = Some(ByteCount(1 << 20));
    })
    .await;
    for at in 0..3 {
        cluster.stop(at).await;
    }
    let mut disks = Vec::new();
    for at in 0..3 {
        let mut directory = cluster.open(at);
        let inner = Arc::clone(&directory.disk);
        let disk = Arc::new(StallingDisk::new(inner, "exports/", Arc::default()));
        directory.disk = Arc::clone(&disk) as _;
        disks.push(disk);
        cluster.run_on(at, directory).await;
    }
    let leader = cluster.leader().await;
    let client = cluster.client().await;
    client.open().await;
    let away = (leader + 1) % 3;
    cluster.stop(away).await;
    for number in 0..50 {
        let made = client.mutate(Client::publish(&format!("{number}"), b"")).await;
        assert_eq!(made.code, 0);
    }
    let applied = cluster.applied(leader);
    cluster
        .eventually("the state is in tables", || {
            cluster.metric(leader, "synced_index") >= applied
        })
        .await;
    assert_eq!(cluster.metric(leader, "kept_log_released_total"), 0);
    disks[leader].limit_free(0);
    cluster
        .eventually("kept log is released", || {
            cluster.metric(leader, "kept_log_released_total") > 0
        })
        .await;
    disks[leader].limit_free(u64::MAX);
    cluster.run(away).await;
    cluster
        .eventually("it has caught up", || cluster.applied(away) >= applied)
        .await;
    assert_eq!(cluster.metric(away, "snapshots_installed_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the call hangs beside the end")]
async fn a_disk_that_hangs_keeps_no_server_from_being_stopped() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    cluster.stop(0).await;
    let mut directory = cluster.open(0);
    let stall = Arc::<Stall>::default();
    let inner = Arc::clone(&directory.disk);
    directory.disk = Arc::new(StallingDisk::new(inner, "log", Arc::clone(&stall)));
    cluster.run_on(0, directory).await;
    cluster.ready(&cluster.nodes[0]).await;
    let client = cluster.client().await;
    client.open().await;
    stall.begin();
    let hanging = tokio::spawn(async move { client.mutate(Client::publish("file", b"")).await });
    cluster.eventually("the log hangs", || stall.waiting() > 0).await;
    let stopping = cluster.nodes[0].handle.take().unwrap().shutdown();
    let deadline = cluster.env.clock.now().plus(Duration::from_secs(60));
    let stopped = cluster.env.clock.until(deadline, stopping).await;
    let error = stopped.expect("it waits for ever").expect_err("a thread hangs");
    println!("{error}");
    assert_eq!(error.threads, ["meta-log"], "{error}");
    hanging.abort();
    // Its directory is free when the thread has ended after all.
    let config = &cluster.nodes[0].config;
    let open = || MetadataDirectory::open(&config.data, config.store_cache.0);
    assert!(open().is_err(), "it is locked");
    stall.end();
    cluster.eventually("it is unlocked", || open().is_ok()).await;
    cluster.run(0).await;
    cluster.ready(&cluster.nodes[0]).await;
}
