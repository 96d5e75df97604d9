//! `get` and `cat`: bytes out of the cluster.

use super::Context;
use super::names::base_name;
use super::progress::bar;
use super::tree::{Crew, Walk};
use crate::args::GetOptions;
use crate::exit::UsageError;
use anyhow::Context as _;
use drystone_client::{Client, ReadOptions};
use indicatif::ProgressBar;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// `drystone cat`.
pub async fn cat(context: &Context, paths: &[String]) -> anyhow::Result<()> {
    for path in paths {
        copy_to(
            &context.client,
            path,
            &mut std::io::stdout(),
            &ProgressBar::hidden(),
        )
        .await?;
    }
    Ok(())
}

/// `drystone get`.
pub async fn get(context: &Context, options: &GetOptions) -> anyhow::Result<()> {
    let client = &context.client;
    if options.target == "-" {
        return cat(context, std::slice::from_ref(&options.source)).await;
    }
    let attributes = client.stat(&options.source).await?;
    let target = local_place(&options.source, &options.target)?;
    if !attributes.is_directory() {
        let progress = bar(context, attributes.size, "get");
        get_file(client, &options.source, &target, attributes.mode, &progress).await?;
        progress.finish_and_clear();
        return Ok(());
    }
    if !options.recursive {
        return Err(UsageError(format!("{} is a directory (use --recursive)", options.source)).into());
    }
    get_tree(context, options, &target).await
}

async fn get_tree(context: &Context, options: &GetOptions, target: &Path) -> anyhow::Result<()> {
    make_local(target)?;
    let prefix = options.source.trim_end_matches('/').len() + 1;
    let progress = bar(context, 0, "get");
    let (mut walk, mut crew) = (
        Walk::new(&context.client, &options.source, true),
        Crew::new(options.jobs),
    );
    let (mut files, mut bytes) = (0u64, 0u64);
    while let Some((path, attributes)) = walk.next().await? {
        // Names hold no slash and are not `.` or `..`: the place lies in the target.
        let place = target.join(path.get(prefix..).unwrap_or_default());
        if attributes.is_directory() {
            make_local(&place)?;
            continue;
        }
        (files, bytes) = (files + 1, bytes + attributes.size);
        let (client, progress) = (context.client.clone(), progress.clone());
        crew.start(async move { get_file(&client, &path, &place, attributes.mode, &progress).await })
            .await?;
    }
    crew.finish().await?;
    progress.finish_and_clear();
    if context.json {
        println!("{}", serde_json::json!({ "files": files, "bytes": bytes }));
    } else if !context.quiet {
        println!("{files} files, {bytes} bytes");
    }
    Ok(())
}

fn local_place(source: &str, target: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(target);
    if !path.is_dir() && !target.ends_with('/') {
        return Ok(path);
    }
    match base_name(source) {
        Some(name) => Ok(path.join(name)),
        // The root of the cluster has no name: its tree goes into the directory itself.
        None => Ok(path),
    }
}

fn make_local(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Copies one file, under another name until it is whole.
async fn get_file(
    client: &Client,
    source: &str,
    target: &Path,
    mode: u32,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let name = target
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("file");
    // The name may be as long as a name can be: the temporary one is made of its beginning.
    let short: String = name.chars().take(32).collect();
    // Names with the same beginning may be written at the same time.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = target.with_file_name(format!(".{short}.{}-{unique}.part", std::process::id()));
    let place = || format!("cannot write {}", target.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode | 0o200)
        .open(&temporary)
        .with_context(place)?;
    let outcome = copy_to(client, source, &mut file, progress).await;
    let outcome = outcome.and_then(|()| fs::rename(&temporary, target).with_context(place));
    if outcome.is_err() {
        // Half a file is worth nothing; the fault that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

async fn copy_to(
    client: &Client,
    source: &str,
    out: &mut (impl Write + Send),
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let reader = client.open(source, ReadOptions::default()).await?;
    let mut stream = reader.read(0, reader.attributes().size);
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        tokio::task::block_in_place(|| out.write_all(&piece)).context("cannot write")?;
        progress.inc(piece.len() as u64);
    }
    out.flush().context("cannot write")
}
