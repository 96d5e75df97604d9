//! Small files, all in one directory.

use super::{Cluster, Load, Work};
use crate::sample::Sample;
use anyhow::ensure;
use drystone_client::{ReadOptions, WriteOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn name(bytes: u64, clients: usize, round: usize) -> String {
    format!("small-{bytes}-{clients}-{round}")
}

/// Creates files; each is durable and visible when its operation ends.
pub async fn create(cluster: &Cluster, bytes: u64, clients: usize, work: Work) -> anyhow::Result<Sample> {
    let directory = cluster.directory(&name(bytes, clients, work.round)).await?;
    let redundancy = Arc::new(AtomicU32::new(u32::MAX));
    let least = Arc::clone(&redundancy);
    let operation = move |cluster: Cluster, number: usize| {
        let path = format!("{directory}/{number:08}");
        let (content, least) = (cluster.content.slice(..bytes as usize), Arc::clone(&least));
        async move {
            let options = WriteOptions {
                size_hint: Some(bytes),
                ..WriteOptions::default()
            };
            let published = cluster.client.put(&path, content, options).await?;
            least.fetch_min(published.redundancy, Ordering::Relaxed);
            Ok(())
        }
    };
    let sample = cluster
        .operations("files/s", bytes, Load::of(clients, work), operation)
        .await?;
    Ok(sample.noted(match redundancy.load(Ordering::Relaxed) {
        0 => "inline".to_owned(),
        replicas => format!("on {replicas} replicas"),
    }))
}

/// Opens and reads the files that [`create`] left.
pub async fn read(cluster: &Cluster, bytes: u64, clients: usize, work: Work) -> anyhow::Result<Sample> {
    let directory = format!("{}/{}", cluster.root, name(bytes, clients, work.round));
    let operation = move |cluster: Cluster, number: usize| {
        let path = format!("{directory}/{number:08}");
        async move {
            let content = cluster
                .client
                .open(&path, ReadOptions::default())
                .await?
                .read_all()
                .await?;
            ensure!(
                content == cluster.content[..bytes as usize],
                "{path} holds other bytes than were written"
            );
            Ok(())
        }
    };
    cluster
        .operations("files/s", bytes, Load::of(clients, work), operation)
        .await
}
