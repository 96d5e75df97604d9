//! A large file, or one part of it for each stream.

use super::{Cluster, FRAME};
use crate::limits::shares;
use crate::sample::Sample;
use anyhow::ensure;
use drystone_client::{ReadOptions, WriteOptions};

fn path(cluster: &Cluster, streams: usize, stream: usize) -> String {
    format!("{}/large-{streams}-{stream}", cluster.root)
}

/// Writes, from the first byte offered until the last file is durable and visible.
pub async fn write(cluster: &Cluster, size: u64, streams: usize) -> anyhow::Result<Sample> {
    let shares = shares(size, streams);
    let running = cluster.watch.start();
    let redundancies = cluster
        .parallel(streams, |stream| {
            write_one(cluster.clone(), path(cluster, streams, stream), shares[stream])
        })
        .await?;
    let spent = cluster.watch.stop(running);
    let redundancy = redundancies.into_iter().min().unwrap_or_default();
    Ok(Sample::transfer(size, spent).noted(format!("on {redundancy} replicas")))
}

async fn write_one(cluster: Cluster, path: String, length: u64) -> anyhow::Result<u32> {
    let options = WriteOptions {
        size_hint: Some(length),
        ..WriteOptions::default()
    };
    let mut writer = cluster.client.write(&path, options);
    for _ in 0..length / FRAME as u64 {
        writer.write(cluster.content.clone()).await?;
    }
    let published = writer.finish().await?;
    ensure!(
        published.size == length,
        "{path}: {} of {length} bytes were published",
        published.size
    );
    Ok(published.redundancy)
}

/// Reads every file from beginning to end.
pub async fn read(cluster: &Cluster, size: u64, streams: usize) -> anyhow::Result<Sample> {
    let running = cluster.watch.start();
    let lengths = cluster
        .parallel(streams, |stream| {
            read_one(cluster.clone(), path(cluster, streams, stream))
        })
        .await?;
    let spent = cluster.watch.stop(running);
    let total: u64 = lengths.into_iter().sum();
    ensure!(total == size, "{total} of {size} bytes were read");
    Ok(Sample::transfer(size, spent))
}

async fn read_one(cluster: Cluster, path: String) -> anyhow::Result<u64> {
    let reader = cluster.client.open(&path, ReadOptions::default()).await?;
    let mut stream = reader.read(0, reader.attributes().size);
    let mut length = 0;
    while let Some(piece) = stream.next().await {
        length += piece?.len() as u64;
    }
    Ok(length)
}
