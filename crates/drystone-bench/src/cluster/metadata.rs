//! Metadata alone: empty files in one directory.

use super::{Cluster, Load, Work};
use crate::sample::Sample;
use anyhow::ensure;
use bytes::Bytes;
use drystone_client::WriteOptions;

/// Entries asked for at once, as the doors do by default.
const PAGE: u32 = 1_000;

fn name(clients: usize, round: usize) -> String {
    format!("metadata-{clients}-{round}")
}

/// Creates empty files, each durable when its operation ends.
pub async fn create(cluster: &Cluster, clients: usize, work: Work) -> anyhow::Result<Sample> {
    let directory = cluster.directory(&name(clients, work.round)).await?;
    let operation = move |cluster: Cluster, number: usize| {
        let path = format!("{directory}/{number:08}");
        async move {
            cluster
                .client
                .put(&path, Bytes::new(), WriteOptions::default())
                .await?;
            Ok(())
        }
    };
    cluster
        .operations("files/s", 0, Load::of(clients, work), operation)
        .await
}

/// Looks each of them up.
pub async fn stat(cluster: &Cluster, clients: usize, work: Work) -> anyhow::Result<Sample> {
    let directory = format!("{}/{}", cluster.root, name(clients, work.round));
    let operation = move |cluster: Cluster, number: usize| {
        let path = format!("{directory}/{number:08}");
        async move {
            cluster.client.stat(&path).await?;
            Ok(())
        }
    };
    cluster
        .operations("stats/s", 0, Load::of(clients, work), operation)
        .await
}

/// Every client lists the whole directory once; the figure is of entries, the latencies of pages.
pub async fn list(cluster: &Cluster, clients: usize, work: Work) -> anyhow::Result<Sample> {
    let directory = format!("{}/{}", cluster.root, name(clients, work.round));
    let running = cluster.watch.start();
    let listings = cluster
        .parallel(clients, |_| {
            list_one(cluster.clone(), directory.clone(), work.operations)
        })
        .await?;
    let spent = cluster.watch.stop(running);
    let pages = Sample::operations("entries/s", 0, listings.concat(), spent);
    let operations = (work.operations * clients) as u64;
    Ok(Sample { operations, ..pages }.noted(format!("latencies of pages of {PAGE}")))
}

async fn list_one(cluster: Cluster, directory: String, expected: usize) -> anyhow::Result<Vec<u64>> {
    let (mut latencies, mut found, mut after) = (Vec::new(), 0, String::new());
    loop {
        let began = cluster.watch.now();
        let page = cluster.client.list(&directory, &after, PAGE).await?;
        latencies.push(cluster.watch.micros_since(began));
        found += page.entries.len();
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    ensure!(
        found == expected,
        "{directory}: {found} of {expected} entries were listed"
    );
    Ok(latencies)
}
