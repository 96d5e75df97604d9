//! What a client waits for is to be seen while it waits, and its error names what was tried.

use crate::bytes;
use crate::fake::Cluster;
use drystone_client::{Client, Error, ErrorKind, Options, ReadOptions, Wait, Waits, WriteOptions};
use drystone_env::Env;
use std::future::Future;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Runs `operation`, which fails; the last that `waits` said meanwhile, and the error.
async fn watch<T>(
    env: &Env,
    waits: &Waits,
    operation: impl Future<Output = Result<T, Error>>,
) -> (Option<Wait>, Error) {
    let mut operation = std::pin::pin!(operation);
    let mut seen = None;
    loop {
        tokio::select! {
            biased;
            done = &mut operation => {
                let error = done.err().expect("it cannot succeed");
                assert_eq!(waits.now(), [], "nothing is waited for any more");
                return (seen, error);
            }
            () = env.clock.sleep(Duration::from_millis(20)) => seen = waits.now().into_iter().next().or(seen),
        }
    }
}

fn patience(options: &mut Options, waits: &Waits) {
    options.deadline = Duration::from_secs(2);
    options.waits = waits.clone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_cluster_is_named_while_it_is_waited_for() {
    let (env, waits) = (Env::os(), Waits::default());
    // It takes connections, and nobody reads them.
    let dark = env.net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = dark.address().to_string();
    let mut options = Options::new([address.clone()]);
    patience(&mut options, &waits);
    let (seen, error) = watch(&env, &waits, Client::connect(env.clone(), options)).await;
    let seen = seen.unwrap();
    assert_eq!(seen.what, "a metadata leader");
    assert!(seen.tried.to_string().starts_with(&address), "{}", seen.tried);
    let whole = seen.until.since(seen.began);
    assert!(
        whole <= Duration::from_secs(2) && whole > Duration::from_secs(1),
        "{whole:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for part in ["no metadata leader answered in 2 s", &address] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metadata_server_that_was_tried_is_named() {
    let (cluster, waits) = (Cluster::start(2, 3).await, Waits::default());
    let client = cluster.client_with(|options| patience(options, &waits)).await;
    // The other one goes on to name it as the leader.
    cluster.metas[0].shutdown();
    let (seen, error) = watch(&cluster.env, &waits, client.stat("/f")).await;
    let tried = seen.unwrap().tried.to_string();
    for meta in &cluster.metas {
        let address = meta.address().to_string();
        assert!(tried.contains(&address), "{tried}");
        assert!(error.to_string().contains(&address), "{error}");
    }
}

/// A leader that refused again and again was said not to have answered, and why it refused was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_busy_is_told_with_its_reason() {
    let (cluster, waits) = (Cluster::start(1, 0).await, Waits::default());
    let client = cluster.client_with(|options| patience(options, &waits)).await;
    cluster.world.overloaded.store(true, SeqCst);
    let (seen, error) = watch(&cluster.env, &waits, client.stat("/f")).await;
    let said = format!("{} is busy (the log is full)", cluster.metas[0].address());
    assert_eq!(seen.unwrap().tried.to_string(), said);
    assert_eq!(error.kind(), ErrorKind::Busy);
    let error = error.to_string();
    assert!(
        error.contains(&format!("given up after 2 s: {said}")) && !error.contains("answered"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunk_servers_that_cannot_be_reached_are_named() {
    let (cluster, waits) = (Cluster::start(1, 3).await, Waits::default());
    let client = cluster.client_with(|options| patience(options, &waits)).await;
    let data = bytes(1, 100_000);
    client
        .put("/f", data.clone(), WriteOptions::default())
        .await
        .unwrap();
    (0..3).for_each(|at| cluster.kill_chunk_server(at));
    let reader = client.open("/f", ReadOptions::default()).await.unwrap();
    let (seen, error) = watch(&cluster.env, &waits, reader.read_all()).await;
    assert_eq!(seen.unwrap().what, "a replica that can be read");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for chunk in &cluster.chunks {
        assert!(
            error.to_string().contains(&chunk.address().to_string()),
            "{error}"
        );
    }
    let put = client.put("/g", data, WriteOptions::default());
    let (seen, error) = watch(&cluster.env, &waits, put).await;
    assert_eq!(seen.unwrap().what, "chunk servers that take the data");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}
