//! `put`, `append` and `cp`: bytes into the cluster.

use super::names::{base_name, is_directory, join, place_for};
use super::progress::bar;
use super::tree::{Crew, Walk};
use super::{Context, is_not_found};
use crate::args::PutOptions;
use crate::exit::UsageError;
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use drystone_client::{
    Client, Error, ErrorKind, MakeDirectoryOptions, Precondition, Published, ReadOptions, WriteMode,
    WriteOptions,
};
use indicatif::ProgressBar;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Read at once from local files: what one frame carries.
const PIECE: usize = 1 << 20;

/// `drystone put`.
pub async fn put(context: &Context, options: &PutOptions) -> anyhow::Result<()> {
    let client = &context.client;
    let into = options.sources.len() > 1 || is_directory(client, &options.target).await?;
    let target_of = |source: &str| -> anyhow::Result<String> {
        if !into {
            return Ok(options.target.clone());
        }
        let path = Path::new(source);
        let name = path
            .canonicalize()
            .ok()
            .and_then(|path| path.file_name().map(|name| name.to_owned()));
        let name = name.or_else(|| path.file_name().map(|name| name.to_owned()));
        let name = name
            .as_ref()
            .and_then(|name| name.to_str())
            .filter(|_| source != "-");
        let name =
            name.ok_or_else(|| UsageError(format!("{source} gives no name: name the target in full")))?;
        Ok(join(&options.target, name))
    };
    let (mut jobs, mut total) = (Vec::new(), 0);
    for source in &options.sources {
        let target = target_of(source)?;
        if source == "-" {
            put_stdin(context, &target, options).await?;
            continue;
        }
        let path = PathBuf::from(source);
        let metadata = fs::metadata(&path).with_context(|| format!("cannot read {source}"))?;
        if metadata.is_dir() {
            if !options.recursive {
                return Err(UsageError(format!("{source} is a directory (use --recursive)")).into());
            }
            make_directory(client, &target, options.parents).await?;
            scan(client, &path, &target, &mut jobs, &mut total).await?;
        } else {
            total += metadata.len();
            jobs.push((path, target));
        }
    }
    put_files(context, options, jobs, total).await
}

async fn put_files(
    context: &Context,
    options: &PutOptions,
    jobs: Vec<(PathBuf, String)>,
    total: u64,
) -> anyhow::Result<()> {
    let count = jobs.len();
    let progress = bar(context, total, "put");
    let mut crew = Crew::new(options.jobs);
    for (path, target) in jobs {
        let (client, progress, write) = (context.client.clone(), progress.clone(), write_options(options));
        crew.start(async move {
            let published = put_file(&client, &path, &target, write, &progress).await?;
            warn_if_degraded(&target, &published);
            Ok(())
        })
        .await?;
    }
    crew.finish().await?;
    progress.finish_and_clear();
    if context.json {
        println!("{}", serde_json::json!({ "files": count, "bytes": total }));
    } else if !context.quiet && options.recursive {
        println!("{count} files, {total} bytes");
    }
    Ok(())
}

fn write_options(options: &PutOptions) -> WriteOptions {
    let precondition = if options.no_overwrite {
        Precondition::absent()
    } else {
        Precondition::default()
    };
    WriteOptions {
        parents: options.parents,
        precondition,
        ..WriteOptions::default()
    }
}

async fn make_directory(client: &Client, path: &str, parents: bool) -> anyhow::Result<()> {
    match client
        .make_directory(
            path,
            MakeDirectoryOptions {
                parents,
                ..MakeDirectoryOptions::default()
            },
        )
        .await
    {
        Err(error) if error.kind() == ErrorKind::Exists && is_directory(client, path).await? => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

/// Makes the directories of a local tree and collects its files.
async fn scan(
    client: &Client,
    from: &Path,
    to: &str,
    jobs: &mut Vec<(PathBuf, String)>,
    total: &mut u64,
) -> anyhow::Result<()> {
    let mut ahead = vec![(from.to_owned(), to.to_owned())];
    while let Some((local, remote)) = ahead.pop() {
        let mut entries: Vec<_> = fs::read_dir(&local)
            .and_then(Iterator::collect::<Result<_, _>>)
            .with_context(|| format!("cannot read {}", local.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = entry
                .file_name()
                .into_string()
                .map_err(|name| anyhow::anyhow!("{name:?} is not UTF-8"))?;
            let target = join(&remote, &name);
            let is_link = entry.file_type()?.is_symlink();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && is_link => {
                    eprintln!(
                        "warning: {} is a link to a directory and was left out",
                        path.display()
                    );
                }
                Ok(metadata) if metadata.is_dir() => {
                    make_directory(client, &target, false).await?;
                    ahead.push((path, target));
                }
                Ok(metadata) if metadata.is_file() => {
                    *total += metadata.len();
                    jobs.push((path, target));
                }
                Ok(_) => eprintln!(
                    "warning: {} is neither file nor directory and was left out",
                    path.display()
                ),
                Err(_) if is_link => {
                    eprintln!("warning: {} is a broken link and was left out", path.display())
                }
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        }
    }
    Ok(())
}

async fn put_file(
    client: &Client,
    path: &Path,
    target: &str,
    mut options: WriteOptions,
    progress: &ProgressBar,
) -> anyhow::Result<Published> {
    let place = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(place)?;
    let metadata: Metadata = file.metadata().with_context(place)?;
    options.file_mode = metadata.permissions().mode() & 0o777;
    options.size_hint = Some(metadata.len());
    let published = send(client, &mut file, target, options, metadata.len(), progress).await?;
    Ok(published)
}

async fn put_stdin(context: &Context, target: &str, options: &PutOptions) -> anyhow::Result<()> {
    let progress = bar(context, 0, target);
    let published = send(
        &context.client,
        &mut std::io::stdin(),
        target,
        write_options(options),
        0,
        &progress,
    )
    .await?;
    progress.finish_and_clear();
    warn_if_degraded(target, &published);
    Ok(())
}

/// Streams `source` into a file; `hint` bytes are expected (0: unknown).
async fn send(
    client: &Client,
    source: &mut (impl Read + Send),
    target: &str,
    options: WriteOptions,
    hint: u64,
    progress: &ProgressBar,
) -> anyhow::Result<Published> {
    let mut writer = client.write(target, options);
    // One byte more than expected, so that the end is met in the first read of a small file.
    let piece = if hint == 0 {
        PIECE
    } else {
        PIECE.min(hint as usize + 1)
    };
    loop {
        let data =
            tokio::task::block_in_place(|| read_piece(source, piece)).context("cannot read the source")?;
        if data.is_empty() {
            break;
        }
        progress.inc(data.len() as u64);
        let is_last = data.len() < piece;
        writer.write(data).await?;
        if is_last {
            break;
        }
    }
    Ok(writer.finish().await?)
}

/// The next `length` bytes, fewer at the end only.
fn read_piece(source: &mut impl Read, length: usize) -> std::io::Result<Bytes> {
    let mut data = BytesMut::zeroed(length);
    let mut filled = 0;
    while filled < length {
        match source.read(&mut data[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(filled);
    Ok(data.freeze())
}

fn warn_if_degraded(target: &str, published: &Published) {
    // 0: the content is in the replicated log itself.
    if published.redundancy == 1 {
        eprintln!("warning: {target} has one replica only until repair adds others");
    }
}

/// `drystone append`.
pub async fn append(context: &Context, path: &str, source: &str) -> anyhow::Result<()> {
    let options = WriteOptions {
        mode: WriteMode::Append,
        ..WriteOptions::default()
    };
    let progress = bar(context, 0, path);
    let published = if source == "-" {
        send(
            &context.client,
            &mut std::io::stdin(),
            path,
            options,
            0,
            &progress,
        )
        .await?
    } else {
        let mut file = File::open(source).with_context(|| format!("cannot read {source}"))?;
        let hint = file.metadata()?.len();
        send(&context.client, &mut file, path, options, hint, &progress).await?
    };
    progress.finish_and_clear();
    if context.json {
        println!(
            "{}",
            serde_json::json!({ "offset": published.offset, "size": published.size })
        );
    }
    Ok(())
}

/// `drystone cp`.
pub async fn copy(
    context: &Context,
    from: &str,
    to: &str,
    recursive: bool,
    force: bool,
) -> anyhow::Result<()> {
    let client = &context.client;
    let target = place_for(client, from, to).await?;
    let attributes = client.stat(from).await?;
    let precondition = if force {
        Precondition::default()
    } else {
        Precondition::absent()
    };
    if !attributes.is_directory() {
        return copy_file(client, from, &target, precondition).await;
    }
    if !recursive {
        return Err(UsageError(format!("{from} is a directory (use --recursive)")).into());
    }
    let source = from.trim_matches('/');
    let below = target.trim_matches('/');
    if below == source || below.starts_with(&format!("{source}/")) {
        bail!(UsageError(format!(
            "{target} lies in {from}: a tree cannot be copied into itself"
        )));
    }
    make_directory(client, &target, false).await?;
    let mut walk = Walk::new(client, from, true);
    let mut crew = Crew::new(16);
    while let Some((path, attributes)) = walk.next().await? {
        let rest = path
            .get(from.trim_end_matches('/').len() + 1..)
            .unwrap_or_default();
        let place = join(&target, rest);
        if attributes.is_directory() {
            make_directory(client, &place, false).await?;
        } else {
            let (client, precondition) = (client.clone(), precondition.clone());
            crew.start(async move { copy_file(&client, &path, &place, precondition).await })
                .await?;
        }
    }
    crew.finish().await
}

async fn copy_file(client: &Client, from: &str, to: &str, precondition: Precondition) -> anyhow::Result<()> {
    let reader = client.open(from, ReadOptions::default()).await?;
    let attributes = reader.attributes().clone();
    let options = WriteOptions {
        precondition,
        file_mode: attributes.mode,
        size_hint: Some(attributes.size),
        ..WriteOptions::default()
    };
    let mut writer = client.write(to, options);
    let mut stream = reader.read(0, attributes.size);
    while let Some(piece) = stream.next().await {
        writer.write(piece?).await?;
    }
    writer
        .finish()
        .await
        .map(|_| ())
        .map_err(|error: Error| match base_name(to) {
            Some(_) if is_not_found(&error) => {
                anyhow::Error::new(error).context(format!("the directory of {to} must exist"))
            }
            _ => error.into(),
        })
}
