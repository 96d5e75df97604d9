//! The client over the real wire against a small cluster in memory.
#![allow(clippy::unwrap_used, reason = "a panic is the test's failure")]

mod fake;
mod waits;

use bytes::Bytes;
use drystone_client::{
    ByteCount, Client, ErrorKind, Idempotency, InodeId, Precondition, ReadOptions, Target, WriteMode,
    WriteOptions,
};
use drystone_env::{Rng, SeededRng};
use fake::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

fn bytes(seed: u64, length: usize) -> Bytes {
    let mut data = vec![0; length];
    SeededRng::new(seed).fill(&mut data);
    data.into()
}

async fn content(client: &Client, target: impl Into<Target>) -> Bytes {
    client
        .open(target, ReadOptions::default())
        .await
        .unwrap()
        .read_all()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_every_size_come_back() {
    let cluster = Cluster::start(1, 4).await;
    cluster.world.inline_max.store(4096, SeqCst);
    let client = cluster.client().await;
    for (at, length) in [
        0,
        1,
        4096,
        4097,
        100_000,
        1 << 20,
        (1 << 20) + 1,
        5 << 20,
        7_654_321,
    ]
    .into_iter()
    .enumerate()
    {
        let data = bytes(at as u64, length);
        let path = format!("/f{at}");
        let published = client
            .put(&path, data.clone(), WriteOptions::default())
            .await
            .unwrap();
        assert!(published.created && published.size == length as u64);
        assert_eq!(
            published.redundancy,
            if length <= 4096 { 0 } else { 3 },
            "{length}"
        );
        assert!(content(&client, &path).await == data, "{length}");
        // The same in pieces, its length not known before.
        let mut writer = client.write(&path, WriteOptions::default());
        for piece in data.chunks(70_001) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let again = writer.finish().await.unwrap();
        assert!(!again.created && again.inode == published.inode && again.version > published.version);
        let reader = client.open(&path, ReadOptions::default()).await.unwrap();
        assert_eq!(reader.etag(), again.etag);
        let (from, to) = (length / 3, length - length / 4);
        let part = reader.read_range(from as u64, (to - from) as u64).await.unwrap();
        assert!(part == data[from..to], "{length}");
        assert_eq!(
            reader.read_range(length as u64 + 1, 1).await.unwrap_err().kind(),
            ErrorKind::Range
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appended_bytes_land_at_the_end() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    let (a, b) = (bytes(1, 10_000), bytes(2, 2_000_000));
    client
        .put("/f", a.clone(), WriteOptions::default())
        .await
        .unwrap();
    let append = WriteOptions {
        mode: WriteMode::Append,
        ..WriteOptions::default()
    };
    assert_eq!(client.put("/f", b.clone(), append).await.unwrap().offset, 10_000);
    assert!(content(&client, "/f").await == [a, b].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_chunk_server_does_not_fail_a_write() {
    for (servers, redundancy) in [(3, 2), (4, 3)] {
        let cluster = Cluster::start(1, servers).await;
        cluster.world.chunk_bytes.store(8 << 20, SeqCst);
        // Bytes are released early, so that the prefix has to be copied.
        let client = cluster
            .client_with(|options| options.sync_every = ByteCount(1 << 20))
            .await;
        let data = bytes(3, 20 << 20);
        let mut writer = client.write("/f", WriteOptions::default());
        for (at, piece) in data.chunks(1 << 20).enumerate() {
            if at == 5 {
                cluster.env.clock.sleep(Duration::from_millis(50)).await;
                cluster.kill_chunk_server(1);
            }
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let published = writer.finish().await.unwrap();
        assert_eq!(published.redundancy, redundancy, "{servers} servers");
        let metrics = client.metrics().snapshot();
        assert!(metrics.replicas_blamed >= 1 && metrics.chunks_cut_short + metrics.chunks_rewritten >= 1);
        assert!(content(&client, "/f").await == data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_chunk_server_does_not_fail_a_write() {
    let cluster = Cluster::start(1, 4).await;
    let client = cluster
        .client_with(|options| options.slow = Duration::from_millis(200))
        .await;
    let data = bytes(4, 6 << 20);
    cluster.world.nodes[0].silent_after.store(2 << 20, SeqCst);
    let began = cluster.env.clock.now();
    let published = client
        .put("/f", data.clone(), WriteOptions::default())
        .await
        .unwrap();
    assert!(cluster.env.clock.now().since(began) < Duration::from_secs(5));
    assert!(
        cluster.world.nodes[0].silent.load(SeqCst),
        "the fault fell into the write"
    );
    assert_eq!(published.redundancy, 3);
    assert!(content(&client, "/f").await == data);
}

/// One slow moment once cost every chunk of the next 10 s a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_well_again_gets_its_replicas() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster
        .client_with(|options| options.slow = Duration::from_millis(200))
        .await;
    let silent = |silent| cluster.world.nodes[0].silent.store(silent, SeqCst);
    let put = async |at: u64| {
        let published = client
            .put(&format!("/f{at}"), bytes(at, 30_000), WriteOptions::default())
            .await;
        published.unwrap().redundancy
    };
    assert_eq!(put(0).await, 3);
    silent(true);
    let (redundancy, ()) = tokio::join!(put(1), async {
        cluster.env.clock.sleep(Duration::from_millis(1_200)).await;
        silent(false);
    });
    assert!(client.metrics().snapshot().replicas_blamed >= 1);
    assert_eq!(redundancy, 3, "the moment was waited for");
    for at in 2..20 {
        assert_eq!(put(at).await, 3);
    }
    // It stays away: writers stop waiting, and notice when it is back.
    silent(true);
    while put(20).await == 3 {}
    let began = cluster.env.clock.now();
    for at in 20..40 {
        assert_eq!(put(at).await, 2);
    }
    assert!(cluster.env.clock.now().since(began) < Duration::from_secs(2));
    silent(false);
    let began = cluster.env.clock.now();
    while put(40).await == 2 {
        cluster.env.clock.sleep(Duration::from_millis(20)).await;
    }
    assert!(cluster.env.clock.now().since(began) < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_share_prefetched_grants() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    for at in 0..60 {
        client
            .put(&format!("/f{at}"), bytes(at, 30_000), WriteOptions::default())
            .await
            .unwrap();
    }
    assert!(cluster.world.namespace.lock().unwrap().grants < 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_budget_is_shared_without_deadlock() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.chunk_bytes.store(8 << 20, SeqCst);
    let client = cluster
        .client_with(|options| options.unacknowledged = ByteCount(3 << 20))
        .await;
    let one = async |at: u64| {
        let data = bytes(at, 5 << 20);
        client
            .put(&format!("/f{at}"), data.clone(), WriteOptions::default())
            .await
            .unwrap();
        assert!(content(&client, &format!("/f{at}")).await == data);
    };
    tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_asked_for_again_and_applied_once() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.inline_max.store(4096, SeqCst);
    let client = cluster.client().await;
    client
        .put("/before", bytes(1, 10), WriteOptions::default())
        .await
        .unwrap();
    let applied = cluster.world.namespace.lock().unwrap().applied;
    cluster.world.lose_answers.store(1, SeqCst);
    let published = client
        .put("/f", bytes(2, 10), WriteOptions::default())
        .await
        .unwrap();
    assert!(published.created);
    assert_eq!(cluster.world.lose_answers.load(SeqCst), 0);
    assert_eq!(cluster.world.namespace.lock().unwrap().applied, applied + 1);
}

/// The leader refuses some commands before it looks at their session. Of a repeated one whose first answer was lost
/// such a refusal says nothing: it was once believed, and the bytes were then written again as another command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_refusal_of_a_repeated_command_is_not_believed() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.inline_max.store(4096, SeqCst);
    let client = cluster.client().await;
    client
        .put("/f", bytes(1, 10), WriteOptions::default())
        .await
        .unwrap();
    let applied = cluster.world.namespace.lock().unwrap().applied;
    cluster.world.lose_answers.store(1, SeqCst);
    cluster.world.refuse_early.store(1, SeqCst);
    let options = WriteOptions {
        mode: WriteMode::Append,
        ..WriteOptions::default()
    };
    let published = client.put("/f", bytes(2, 10), options).await.unwrap();
    assert_eq!((published.offset, published.size), (10, 20));
    assert_eq!(cluster.world.refuse_early.load(SeqCst), 0, "the refusal was met");
    assert!(content(&client, "/f").await == [bytes(1, 10), bytes(2, 10)].concat());
    // What it added, and the move to a chunk: too few voters take inline content.
    assert_eq!(cluster.world.namespace.lock().unwrap().applied, applied + 2);
}

/// The leader died, and the next one takes no inline content as long as a voter is missing: nobody could say whether the
/// write was applied, and it ended as unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inline_content_whose_fate_nobody_knows_is_settled_by_a_chunk() {
    for (applied, mode) in [
        (false, WriteMode::Replace),
        (false, WriteMode::Append),
        (true, WriteMode::Replace),
        (true, WriteMode::Append),
    ] {
        let cluster = Cluster::start(1, 3).await;
        cluster.world.inline_max.store(4096, SeqCst);
        let client = cluster
            .client_with(|options| options.deadline = Duration::from_secs(8))
            .await;
        client
            .put("/f", bytes(1, 10), WriteOptions::default())
            .await
            .unwrap();
        match applied {
            true => cluster.world.lose_answers.store(1, SeqCst),
            false => cluster.world.lose_commands.store(1, SeqCst),
        }
        cluster.world.refuse_early.store(u32::MAX, SeqCst);
        let options = WriteOptions {
            mode,
            ..WriteOptions::default()
        };
        let published = client.put("/f", bytes(2, 10), options).await.unwrap();
        let (offset, wanted) = match mode {
            WriteMode::Append => (10, [bytes(1, 10), bytes(2, 10)].concat()),
            _ => (0, bytes(2, 10).to_vec()),
        };
        assert_eq!(
            (published.offset, published.size, published.redundancy),
            (offset, wanted.len() as u64, 3),
            "{applied} {mode:?}"
        );
        let reader = client.open("/f", ReadOptions::default()).await.unwrap();
        assert_eq!(reader.etag(), published.etag);
        assert!(reader.read_all().await.unwrap() == wanted, "{applied} {mode:?}");
    }
}

/// The answer that was kept was that of the command which replaced the content: another offset, or, if somebody else wrote
/// meanwhile, a failed precondition for a day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_under_a_key_has_one_answer_though_the_file_was_inline() {
    for races in [0, 1] {
        let cluster = Cluster::start(1, 3).await;
        cluster.world.inline_max.store(4096, SeqCst);
        let client = cluster.client().await;
        client
            .put("/f", bytes(1, 1000), WriteOptions::default())
            .await
            .unwrap();
        cluster.world.races.store(races, SeqCst);
        let append = WriteOptions {
            mode: WriteMode::Append,
            idempotency: Some(Idempotency {
                key: "k".to_owned(),
                hash: [1; 16],
            }),
            ..WriteOptions::default()
        };
        let first = client.put("/f", bytes(2, 100_000), append.clone()).await.unwrap();
        assert_eq!(cluster.world.races.load(SeqCst), 0);
        assert_eq!(
            (first.offset, first.size),
            (1000 + u64::from(races), 101_000 + u64::from(races))
        );
        let again = client.put("/f", bytes(2, 100_000), append).await.unwrap();
        assert_eq!(again, first);
        let x = &b"x"[..races as usize];
        assert!(content(&client, "/f").await == [&bytes(1, 1000)[..], x, &bytes(2, 100_000)].concat());
    }
}

/// A file with a policy of its own once made the process forget those of all directories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_policy_is_forgotten_where_it_was_met_and_nowhere_else() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    let put = async |path: &str| {
        client
            .put(path, bytes(1, 30_000), WriteOptions::default())
            .await
            .unwrap()
    };
    put("/one/a").await;
    put("/two/a").await;
    cluster.world.policy_differs.store(1, SeqCst);
    put("/one/a").await;
    put("/two/b").await;
    let targets = cluster.world.granted_at.lock().unwrap().clone();
    assert_eq!(targets, ["/one", "/two", "/one/a"]);
}

/// A voter died while tiny content was on its way: the write waited for it until its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiny_content_that_too_few_voters_hold_moves_to_a_chunk() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.inline_max.store(4096, SeqCst);
    let client = cluster.client().await;
    let append = WriteOptions {
        mode: WriteMode::Append,
        ..WriteOptions::default()
    };
    let mut wanted = Vec::new();
    for (at, options) in [WriteOptions::default(), append.clone()].into_iter().enumerate() {
        cluster.world.short.store(1, SeqCst);
        let data = bytes(at as u64, 100);
        wanted.extend_from_slice(&data);
        let published = client.put("/f", data, options.clone()).await.unwrap();
        assert_eq!(cluster.world.short.load(SeqCst), 0);
        assert_eq!((published.redundancy, published.created), (3, at == 0));
        assert_eq!(
            (published.offset, published.size),
            (100 * at as u64, wanted.len() as u64)
        );
        let reader = client.open("/f", ReadOptions::default()).await.unwrap();
        assert_eq!(reader.etag(), published.etag);
        assert!(reader.read_all().await.unwrap() == wanted);
        client
            .put("/f", bytes(0, 100), WriteOptions::default())
            .await
            .unwrap();
    }
    assert_eq!(client.metrics().snapshot().inline_moved, 2);
    // Without a chunk server it is told that nobody knows: it is visible, and no failure.
    (0..3).for_each(|at| cluster.world.nodes[at].dead.store(true, SeqCst));
    cluster.world.short.store(1, SeqCst);
    let hasty = cluster
        .client_with(|options| options.deadline = Duration::from_secs(2))
        .await;
    let unknown = hasty.put("/f", bytes(7, 100), WriteOptions::default()).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Unknown);
    assert!(content(&client, "/f").await == bytes(7, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_gives_every_entry_once_however_deep() {
    const DEEP: u64 = 5_000;
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    {
        let mut tree = cluster.world.tree.lock().unwrap();
        // 10 is the root of the walk; 100,000 and up lie one below the other, each beside a file.
        let mut root = BTreeMap::from([
            ("deep".to_owned(), (100_000, true)),
            ("locked".to_owned(), (11, true)),
        ]);
        root.insert("gone".to_owned(), (12, true));
        root.extend((0..2_500).map(|at| (format!("z{at:04}"), (20_000 + at, false))));
        tree.insert(10, root);
        tree.insert(11, BTreeMap::new());
        for at in 0..DEEP {
            let mut entries = BTreeMap::from([("a-file".to_owned(), (50_000 + at, false))]);
            entries.insert("down".to_owned(), (100_001 + at, true));
            tree.insert(100_000 + at, entries);
        }
        tree.insert(100_000 + DEEP, BTreeMap::new());
    }
    cluster.world.locked.store(11, SeqCst);
    let mut walk = client.walk(InodeId(10)).await.unwrap();
    let (mut entries, mut errors, mut deepest) = (Vec::new(), Vec::new(), 0);
    while let Some(next) = walk.next().await {
        match next {
            Ok(entry) => {
                deepest = deepest.max(entry.depth);
                assert_eq!(entry.path.split('/').count(), entry.depth + 1);
                assert!(entry.path.ends_with(&entry.entry.name));
                entries.push(entry);
            }
            Err(error) => errors.push(error),
        }
    }
    assert_eq!(entries.len() as u64, 3 + 2_500 + 2 * DEEP);
    assert_eq!(deepest as u64, DEEP);
    let inodes: BTreeSet<_> = entries.iter().map(|entry| entry.entry.attributes.inode).collect();
    assert_eq!(inodes.len(), entries.len(), "each once");
    assert_eq!(
        errors.len(),
        1,
        "one directory cannot be listed, and one is gone: {errors:?}"
    );
    assert_eq!(errors[0].kind(), ErrorKind::Denied);
    assert!(
        errors[0].context().starts_with("inode 10/locked: "),
        "{}",
        errors[0].context()
    );
    let place = entries.iter().find(|entry| entry.path == "deep/a-file").unwrap();
    assert_eq!(
        (place.parent, place.place()),
        (InodeId(100_000), (InodeId(100_000), "a-file").into())
    );
    // What is skipped is not listed.
    let lists = cluster.world.lists.swap(0, SeqCst);
    assert!(lists as u64 > DEEP, "{lists}");
    let mut walk = client.walk(InodeId(10)).await.unwrap();
    let mut given = 0;
    while let Some(next) = walk.next().await {
        given += 1;
        if next.unwrap().entry.attributes.is_directory() {
            walk.skip();
        }
    }
    assert_eq!((given, cluster.world.lists.load(SeqCst)), (3 + 2_500, 3));
    let file = client
        .put("/f", bytes(1, 10), WriteOptions::default())
        .await
        .unwrap();
    let refused = client.walk(file.inode).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::NotADirectory));
    assert!(
        content(&client, file.inode).await == bytes(1, 10),
        "an inode names a file as well"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_invisible() {
    let cluster = Cluster::start(2, 3).await;
    let client = cluster.client().await;
    client
        .put("/a", bytes(1, 10_000), WriteOptions::default())
        .await
        .unwrap();
    cluster.kill_leader();
    let began = cluster.env.clock.now();
    client
        .put("/b", bytes(2, 10_000), WriteOptions::default())
        .await
        .unwrap();
    assert!(content(&client, "/a").await == bytes(1, 10_000));
    assert!(cluster.env.clock.now().since(began) < Duration::from_secs(3));
    assert!(client.metrics().snapshot().failovers >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_session_is_opened_again() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    assert!(client.make_directory("/a", Default::default()).await.unwrap());
    cluster.world.namespace.lock().unwrap().sessions.clear();
    assert!(client.make_directory("/b", Default::default()).await.unwrap());
    assert_eq!(client.metrics().snapshot().sessions, 2);
    // If the command may have been applied in the forgotten session, nobody can tell.
    let forget = async {
        while cluster.world.lose_answers.load(SeqCst) > 0 {
            cluster.env.clock.sleep(Duration::from_millis(1)).await;
        }
        cluster.world.namespace.lock().unwrap().sessions.clear();
    };
    cluster.world.lose_answers.store(1, SeqCst);
    let (made, ()) = tokio::join!(client.make_directory("/c", Default::default()), forget);
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_is_reported_and_another_read() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    let data = bytes(5, 300_000);
    client
        .put("/f", data.clone(), WriteOptions::default())
        .await
        .unwrap();
    cluster.world.nodes[1]
        .replicas
        .lock()
        .unwrap()
        .values_mut()
        .for_each(|kept| kept.data.clear());
    let pinned = ReadOptions {
        prefer_disk: Some(2),
        ..ReadOptions::default()
    };
    let reader = client.open("/f", pinned.clone()).await.unwrap();
    assert!(reader.read_all().await.unwrap() == data);
    assert_eq!(
        cluster.world.nodes[1].reads.load(SeqCst),
        1,
        "the damaged replica was asked first"
    );
    while cluster.world.namespace.lock().unwrap().reports.is_empty() {
        cluster.env.clock.sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        cluster.world.namespace.lock().unwrap().reports[0]
            .replica
            .map(|of| of.disk),
        Some(2)
    );
    for node in &cluster.world.nodes {
        node.replicas
            .lock()
            .unwrap()
            .values_mut()
            .for_each(|kept| kept.data.clear());
    }
    assert_eq!(reader.read_all().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_or_silent_replica_costs_a_reader_moments() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    let data = bytes(6, 4 << 20);
    client
        .put("/f", data.clone(), WriteOptions::default())
        .await
        .unwrap();
    cluster.kill_chunk_server(0);
    assert!(content(&client, "/f").await == data);
    cluster.world.nodes[1].silent.store(true, SeqCst);
    let began = cluster.env.clock.now();
    assert!(content(&client, "/f").await == data);
    assert!(cluster.env.clock.now().since(began) < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_replaced_content_is_told() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    client
        .put("/f", bytes(7, 5 << 20), WriteOptions::default())
        .await
        .unwrap();
    let reader = client.open("/f", ReadOptions::default()).await.unwrap();
    let newer = client
        .put("/f", bytes(8, 100), WriteOptions::default())
        .await
        .unwrap();
    // Later pages of its locations are gone with it.
    assert_eq!(reader.read_all().await.unwrap_err().kind(), ErrorKind::Changed);
    let old = ReadOptions {
        pinned: Some(reader.content_version()),
        ..ReadOptions::default()
    };
    assert_eq!(
        client.open("/f", old).await.err().map(|error| error.kind()),
        Some(ErrorKind::Changed)
    );
    assert_eq!(client.parse_etag(&newer.etag), Some(newer.content_version()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_goes_away_leaves_nothing() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    let mut writer = client.write("/f", WriteOptions::default());
    writer.write(bytes(9, 3 << 20)).await.unwrap();
    drop(writer);
    cluster.env.clock.sleep(Duration::from_millis(50)).await;
    assert_eq!(client.stat("/f").await.unwrap_err().kind(), ErrorKind::NotFound);
    let token = client.session_token();
    assert_eq!(client.with_session_token(&token).unwrap().session_token(), token);
    assert_eq!(
        client.with_session_token("0-1").err().map(|error| error.kind()),
        Some(ErrorKind::Invalid)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_many_chunks_is_staged() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.chunk_bytes.store(64 << 10, SeqCst);
    let client = cluster.client().await;
    let data = bytes(10, 300 * (64 << 10) + 5);
    let published = client
        .put("/f", data.clone(), WriteOptions::default())
        .await
        .unwrap();
    assert_eq!((published.size, published.redundancy), (data.len() as u64, 3));
    assert!(content(&client, "/f").await == data);
    let append = WriteOptions {
        mode: WriteMode::Append,
        ..WriteOptions::default()
    };
    assert_eq!(
        client.put("/f", data, append).await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
}

/// Its chunks were once kept until the lease ended, hours later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_staged_and_not_published_is_given_back() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.chunk_bytes.store(64 << 10, SeqCst);
    let client = cluster.client().await;
    let staged = || cluster.world.namespace.lock().unwrap().staged.len();
    let data = bytes(10, 300 * (64 << 10));
    let mut writer = client.write("/f", WriteOptions::default());
    writer.write(data.clone()).await.unwrap();
    while staged() == 0 {
        writer.write(data.slice(..64 << 10)).await.unwrap();
        cluster.env.clock.sleep(Duration::from_millis(10)).await;
    }
    drop(writer);
    while staged() > 0 {
        cluster.env.clock.sleep(Duration::from_millis(10)).await;
    }
    assert!(client.stat("/f").await.is_err());
}

/// It stayed on the disks until its grants had lost their effect, a quarter of an hour later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_and_not_published_is_given_up() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.chunk_bytes.store(64 << 10, SeqCst);
    let client = cluster.client().await;
    let large = bytes(1, 20 * (64 << 10) + 5);
    let absent = || WriteOptions {
        precondition: Precondition::absent(),
        ..WriteOptions::default()
    };
    for (path, data) in [("/e", bytes(2, 30_000)), ("/f", large.clone())] {
        client
            .put(path, data.clone(), WriteOptions::default())
            .await
            .unwrap();
        let refused = client.put(path, data, absent()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Exists);
    }
    let mut writer = client.write("/g", WriteOptions::default());
    writer.write(large.clone()).await.unwrap();
    drop(writer);
    client.close().await;
    // How many were given up, and how many a server holds that were not and are not recorded.
    let check = || {
        let namespace = cluster.world.namespace.lock().unwrap();
        let recorded = namespace.recorded();
        let both: Vec<&u64> = namespace.abandoned.intersection(&recorded).collect();
        assert!(both.is_empty(), "{both:?} are recorded");
        let held: BTreeSet<u64> = (cluster.world.nodes.iter())
            .flat_map(|node| node.replicas.lock().unwrap().keys().copied().collect::<Vec<_>>())
            .collect();
        let neither = held
            .difference(&recorded)
            .filter(|chunk| !namespace.abandoned.contains(chunk));
        (namespace.abandoned.len(), neither.count())
    };
    while check().1 > 0 {
        cluster.env.clock.sleep(Duration::from_millis(10)).await;
    }
    let (abandoned, _) = check();
    assert!(abandoned > 21 + 1, "of all three: {abandoned}");

    // A writer that hangs on what it reads from is not waited for.
    cluster.world.chunk_bytes.store(4 << 20, SeqCst);
    let client = cluster.client().await;
    let mut hangs = client.write("/i", WriteOptions::default());
    hangs.write(bytes(4, 2 << 20)).await.unwrap();
    while check().1 == 0 {
        cluster.env.clock.sleep(Duration::from_millis(10)).await;
    }
    client.close().await;
    assert_eq!(check().1, 0);
    drop(hangs);

    // Nobody knows whether it is published: what it names is kept.
    let client = cluster
        .client_with(|options| options.deadline = Duration::from_millis(500))
        .await;
    assert!(client.make_directory("/d", Default::default()).await.unwrap());
    cluster.world.lose_commands.store(u32::MAX, SeqCst);
    let lost = client
        .put("/h", large, WriteOptions::default())
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Unknown);
    cluster.world.lose_commands.store(0, SeqCst);
    client.close().await;
    assert_eq!(check().1, 1, "it may be published");
}

/// It was once refused after 128 chunks, because its directory was still to be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_many_chunks_may_come_into_a_new_directory() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.chunk_bytes.store(64 << 10, SeqCst);
    let client = cluster.client().await;
    let data = bytes(10, 300 * (64 << 10) + 5);
    let mut options = WriteOptions {
        parents: true,
        ..WriteOptions::default()
    };
    let published = client
        .put("/new/dir/f", data.clone(), options.clone())
        .await
        .unwrap();
    assert_eq!((published.size, published.redundancy), (data.len() as u64, 3));
    options.parents = false;
    let refused = client.put("/other/f", data, options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_command_that_meets_busy_is_unknown() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    assert!(client.make_directory("/a", Default::default()).await.unwrap());
    cluster.world.lose_answers.store(1, SeqCst);
    cluster.world.busy.store(1, SeqCst);
    let made = client.make_directory("/b", Default::default()).await;
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Unknown);
    // Nothing was sent before: nothing was done, and it is sent again.
    cluster.world.busy.store(1, SeqCst);
    assert!(client.make_directory("/c", Default::default()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ends_gives_its_session_back() {
    let cluster = Cluster::start(1, 3).await;
    let open = || cluster.world.namespace.lock().unwrap().sessions.len();
    let client = cluster.client().await;
    client.close().await;
    assert!(client.make_directory("/a", Default::default()).await.unwrap());
    assert_eq!(open(), 1);
    client.close().await;
    assert_eq!(open(), 0);
    assert!(client.make_directory("/b", Default::default()).await.unwrap());
    client.close().await;
    assert_eq!((open(), client.metrics().snapshot().sessions), (0, 2));
    // A command that was given up may still be on its way: its session stays.
    let client = cluster
        .client_with(|options| options.deadline = Duration::from_millis(500))
        .await;
    assert!(client.make_directory("/c", Default::default()).await.unwrap());
    cluster.world.lose_answers.store(1, SeqCst);
    let lost = client.make_directory("/d", Default::default()).await;
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Unknown);
    client.close().await;
    assert_eq!(open(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_of_one_directory_need_no_look_ups() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    let create = WriteOptions {
        precondition: Precondition::absent(),
        ..WriteOptions::default()
    };
    for options in [create.clone(), WriteOptions::default()] {
        for at in 0..10 {
            let path = format!("/f{at}");
            client
                .put(&path, bytes(at, 30_000), options.clone())
                .await
                .unwrap();
        }
    }
    assert_eq!(
        cluster.world.look_ups.load(SeqCst),
        0,
        "the grant says what the policy is"
    );
    let targets = cluster.world.granted_at.lock().unwrap().clone();
    assert_eq!(
        targets,
        [""],
        "the directory is named once, and its policy remembered"
    );
    let again = client.put("/f0", bytes(0, 10), create).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Exists);
}

/// Another policy is in force than the one of the directory a moment ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_file_under_the_wrong_policy_is_written_again() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client().await;
    client
        .put("/a", bytes(1, 30_000), WriteOptions::default())
        .await
        .unwrap();
    cluster.world.policy_differs.store(1, SeqCst);
    let published = client
        .put("/b", bytes(2, 30_000), WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(
        (cluster.world.policy_differs.load(SeqCst), published.redundancy),
        (0, 3)
    );
    let targets = cluster.world.granted_at.lock().unwrap().clone();
    assert_eq!(targets, ["", "/b"], "the second time the file itself is named");
    assert!(content(&client, "/b").await == bytes(2, 30_000));
    cluster.world.policy_differs.store(2, SeqCst);
    let refused = client.put("/c", bytes(3, 30_000), WriteOptions::default()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_file_grows_into_chunks() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.inline_max.store(4096, SeqCst);
    let client = cluster.client().await;
    let (a, b, c) = (bytes(1, 1000), bytes(2, 3000), bytes(3, 3_000_000));
    client
        .put("/f", a.clone(), WriteOptions::default())
        .await
        .unwrap();
    let append = WriteOptions {
        mode: WriteMode::Append,
        ..WriteOptions::default()
    };
    assert_eq!(
        client.put("/f", b.clone(), append.clone()).await.unwrap().offset,
        1000
    );
    let grown = client.put("/f", c.clone(), append.clone()).await.unwrap();
    assert_eq!(
        (grown.offset, grown.size, grown.created),
        (4000, 3_004_000, false)
    );
    let last = client.put("/f", a.clone(), append).await.unwrap();
    assert_eq!(last.offset, 3_004_000);
    assert!(content(&client, "/f").await == [&a[..], &b, &c, &a].concat());
    // A range in the middle of an inline file that lengthens it.
    client
        .put("/g", b.clone(), WriteOptions::default())
        .await
        .unwrap();
    let range = WriteOptions {
        mode: WriteMode::Range(1500),
        ..WriteOptions::default()
    };
    assert_eq!(client.put("/g", c.clone(), range).await.unwrap().offset, 1500);
    assert!(content(&client, "/g").await == [&b[..1500], &c].concat());
}

/// The content that is already there is moved by whoever adds to it, though it may not be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_file_that_may_only_be_written_grows_into_chunks() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.inline_max.store(4096, SeqCst);
    let client = cluster.client().await;
    let (a, b) = (bytes(1, 1000), bytes(2, 300_000));
    for (path, mode) in [("/f", WriteMode::Append), ("/g", WriteMode::Range(1000))] {
        client
            .put(path, a.clone(), WriteOptions::default())
            .await
            .unwrap();
        cluster.world.write_only.store(true, SeqCst);
        let options = WriteOptions {
            mode,
            ..WriteOptions::default()
        };
        assert_eq!(client.put(path, b.clone(), options).await.unwrap().offset, 1000);
        let refused = client.open(path, ReadOptions::default()).await.err();
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Denied));
        cluster.world.write_only.store(false, SeqCst);
        assert!(content(&client, path).await == [&a[..], &b].concat());
    }
}

/// A chunk of a slow upload once outlived its grant, and every retry ended the same way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_may_last_longer_than_grants_live() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.chunk_bytes.store(64 << 20, SeqCst);
    let life = Duration::from_millis(2_400);
    cluster.raise_floor_after(life);
    let client = cluster.client().await;
    let data = bytes(11, 9 << 20);
    let mut writer = client.write("/f", WriteOptions::default());
    for (at, piece) in data.chunks(1 << 20).enumerate() {
        // The producer comes slowly, and once not at all for longer than a grant lives.
        let pause = if at == 5 { life * 3 / 2 } else { life / 6 };
        cluster.env.clock.sleep(pause).await;
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let published = writer.finish().await.unwrap();
    assert_eq!(published.size, data.len() as u64);
    assert!(content(&client, "/f").await == data);
    let namespace = cluster.world.namespace.lock().unwrap();
    assert!(namespace.floor > 1, "grants expired meanwhile");
    assert!(namespace.extended > 0, "what was sealed did not wait for the end");
    let metrics = client.metrics().snapshot();
    assert_eq!((metrics.replicas_blamed, metrics.chunks_rewritten), (0, 0));
}

/// The policy of the directory was raised while a large file was written: it was refused at its end, and all of it lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_under_a_policy_that_was_raised_is_written_again() {
    let cluster = Cluster::start(1, 3).await;
    cluster.world.chunk_bytes.store(64 << 10, SeqCst);
    let client = cluster.client().await;
    let staged = || cluster.world.namespace.lock().unwrap().staged.len();
    // The second one is staged: its chunks are recorded when it is refused.
    for (path, chunks) in [("/few", 40), ("/many", 300)] {
        let data = bytes(chunks, chunks as usize * (64 << 10) + 5);
        cluster.world.policy_differs.store(1, SeqCst);
        let published = client
            .put(path, data.clone(), WriteOptions::default())
            .await
            .unwrap();
        assert_eq!(cluster.world.policy_differs.load(SeqCst), 0);
        assert_eq!((published.size, published.redundancy), (data.len() as u64, 3));
        assert!(content(&client, path).await == data);
        // What was staged first is given back.
        while staged() > 0 {
            cluster.env.clock.sleep(Duration::from_millis(10)).await;
        }
    }
    // Raised again and again: told, with what to do.
    cluster.world.policy_differs.store(u32::MAX, SeqCst);
    let data = bytes(1, 40 * (64 << 10));
    let refused = client.put("/f", data, WriteOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Changed);
    assert!(refused.to_string().contains("write it once more"), "{refused}");
}

/// A file with runs of data at random places, as a program hands it over in pieces of 1 MiB, and how many bytes of it
/// may be stored.
fn sparse(seed: u64, length: usize, runs: u64) -> (Vec<u8>, u64) {
    let mut rng = SeededRng::new(seed);
    let mut data = vec![0; length];
    for _ in 0..runs {
        let size = [10, 5_000, 200_000][rng.below(3) as usize];
        let from = rng.below(length as u64) as usize;
        let to = (from + size).min(length);
        rng.fill(&mut data[from..to]);
    }
    let pieces = data.chunks(1 << 20).flat_map(|piece| piece.chunks(64 << 10));
    let held = pieces.filter(|block| block.len() < 64 << 10 || block.iter().any(|&byte| byte != 0));
    let held = held.map(<[u8]>::len).sum::<usize>() as u64;
    (data, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sparse_files_come_back_and_cost_what_they_hold() {
    // The last ones are staged; of one it is told that the policy was raised.
    for (seed, length, runs, chunk, raised) in [
        (1, 1, 0, 1 << 20, 0),
        (2, 5 << 20, 0, 1 << 20, 0),
        (3, (5 << 20) + 77, 1, 1 << 20, 0),
        (4, (20 << 20) + 12_345, 20, 1 << 20, 0),
        (5, 64 << 20, 300, 1 << 20, 0),
        (6, 30 << 20, 200, 64 << 10, 0),
        (7, 30 << 20, 400, 64 << 10, 1),
        (8, 20 << 20, 20, 1 << 20, 1),
    ] {
        let cluster = Cluster::start(1, 3).await;
        cluster.world.chunk_bytes.store(chunk, SeqCst);
        cluster.world.policy_differs.store(raised, SeqCst);
        let client = cluster.client().await;
        let (data, held) = sparse(seed, length, runs);
        let options = WriteOptions {
            sparse: true,
            ..WriteOptions::default()
        };
        let mut writer = client.write("/f", options);
        for piece in data.chunks(1 << 20) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(writer.position(), length as u64);
        let published = writer.finish().await.unwrap();
        assert_eq!(published.size, length as u64, "seed {seed}");
        assert_eq!(cluster.world.policy_differs.load(SeqCst), 0);
        assert!(content(&client, "/f").await == data, "seed {seed}");
        let reader = client.open("/f", ReadOptions::default()).await.unwrap();
        let mut rng = SeededRng::new(seed);
        for _ in 0..20 {
            let from = rng.below(length as u64);
            let size = rng.below(3 << 20);
            let part = reader.read_range(from, size).await.unwrap();
            let to = (from + size).min(length as u64);
            assert!(
                part == data[from as usize..to as usize],
                "seed {seed}: {from} to {to}"
            );
        }
        let stored: usize = {
            let replicas = cluster.world.nodes[0].replicas.lock().unwrap();
            replicas.values().map(|kept| kept.data.len()).sum()
        };
        assert_eq!(stored as u64, held * (1 + u64::from(raised)), "seed {seed}");
        let layout = client.extents("/f").await.unwrap();
        let mut at = 0;
        for extent in &layout.extents {
            assert_eq!(extent.offset, at, "no gap");
            assert_eq!(extent.state == "hole", extent.chunk == 0);
            at += extent.length;
        }
        assert_eq!(at, length as u64);
    }
}
