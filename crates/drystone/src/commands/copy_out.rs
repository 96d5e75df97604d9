//! `get` and `cat`: bytes out of the cluster.

use super::Context;
use super::local::{Destination, LocalTree, NewFile, Place, Present, times};
use super::names::{base_name, join};
use super::tree::{Copied, Parallel, Walk};
use crate::args::GetOptions;
use crate::exit::{Failures, UsageError};
use crate::output::{Lines, line};
use anyhow::{Context as _, bail};
use drystone_client::{Attributes, Client, Kind, ReadOptions, Target};
use indicatif::ProgressBar;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// `drystone cat`.
pub async fn cat(context: &Context, paths: &[String]) -> anyhow::Result<()> {
    let mut failures = Failures::new(context.json);
    for path in paths {
        failures.check(cat_one(&context.client, path).await)?;
    }
    failures.finish()
}

async fn cat_one(client: &Client, path: &str) -> anyhow::Result<()> {
    let reader = client.open(path, ReadOptions::default()).await?;
    let mut stream = reader.read(0, reader.attributes().size);
    let mut out = Lines::new();
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        tokio::task::block_in_place(|| out.bytes(&piece))?;
    }
    Ok(tokio::task::block_in_place(|| out.finish())?)
}

/// `drystone get`.
pub async fn get(context: &Context, options: &GetOptions) -> anyhow::Result<()> {
    let client = &context.client;
    if options.target == "-" {
        return cat(context, std::slice::from_ref(&options.source)).await;
    }
    let attributes = client.stat(&options.source).await?;
    let target = local_place(&options.source, &options.target)?;
    if attributes.is_directory() {
        if !options.recursive {
            return Err(UsageError(format!("{} is a directory (use --recursive)", options.source)).into());
        }
        return get_tree(context, options, &attributes, &target).await;
    }
    let cannot = || format!("cannot write {}", target.display());
    if attributes.kind == Kind::SymbolicLink {
        let place = Place::of(&target).with_context(cannot)?;
        return get_link(client, Target::path(&options.source), &place, options.preserve).await;
    }
    let progress = context.screen.bar(attributes.size, "get");
    let bytes = match Destination::of(&target).with_context(cannot)? {
        Destination::Replace(place) => {
            get_file(
                client,
                Target::path(&options.source),
                &place,
                options.preserve,
                &progress,
            )
            .await?
        }
        Destination::Into(path) => {
            let open = || OpenOptions::new().write(true).truncate(true).open(&path);
            // A pipe may have no reader yet.
            let mut file = tokio::task::block_in_place(open).with_context(cannot)?;
            copy_to(client, &options.source, &mut file, &target, &progress).await?
        }
    };
    progress.finish_and_clear();
    if context.json {
        line(serde_json::json!({ "files": 1, "bytes": bytes, "failed": 0 }))?;
    }
    Ok(())
}

/// What a directory gets when it is complete: until then files go into it.
#[derive(PartialEq)]
struct Last {
    mode: Option<u32>,
    times: Option<(u64, u64)>,
}

const NOTHING: Last = Last {
    mode: None,
    times: None,
};

fn cannot_finish(path: &Path) -> String {
    format!("cannot set the mode and times of {}", path.display())
}

fn make_directory(place: &Place, attributes: &Attributes, preserve: bool) -> anyhow::Result<Last> {
    let cannot = || format!("cannot make {}", place.path.display());
    let mode = place
        .make_directory(attributes.mode & 0o777)
        .with_context(cannot)?;
    Ok(Last {
        mode: if preserve { Some(attributes.mode) } else { mode },
        times: preserve.then(|| times(attributes)),
    })
}

async fn get_tree(
    context: &Context,
    options: &GetOptions,
    attributes: &Attributes,
    target: &Path,
) -> anyhow::Result<()> {
    // Directories by their paths below the target, which are opened again: an open one for each would be too many.
    let mut made: Vec<(String, Last)> = Vec::new();
    let mut top = None;
    // The root of the cluster goes into a directory that is there, and `.` has no name.
    if !target.is_dir() {
        let place = Place::of(target).with_context(|| format!("cannot make {}", target.display()))?;
        let last = make_directory(&place, attributes, options.preserve)?;
        top = Some((place, last));
    }
    let mut walk = Walk::begin(&context.client, &options.source, true).await?;
    let mut tree = LocalTree::open(target).with_context(|| format!("cannot open {}", target.display()))?;
    let progress = context.screen.bar(0, "get");
    let mut parallel = Parallel::new(options.jobs, Failures::new(context.json));
    while let Some(found) = walk.next(&mut parallel.failures).await? {
        let attributes = &found.entry.attributes;
        // Names hold no slash and are not `.` or `..`: the place lies in the target.
        let place = tree
            .place(&found.path)
            .with_context(|| format!("cannot write {}", target.join(&found.path).display()));
        let Some(place) = parallel.failures.check(place)? else {
            continue;
        };
        if attributes.is_directory() {
            let directory = make_directory(&place, attributes, options.preserve);
            match parallel.failures.check(directory)? {
                Some(last) if last != NOTHING => made.push((found.path, last)),
                Some(_) => {}
                None => walk.skip(),
            }
            continue;
        }
        let is_link = attributes.kind == Kind::SymbolicLink;
        let shown = join(&options.source, &found.path);
        let (client, progress, preserve) = (context.client.clone(), progress.clone(), options.preserve);
        parallel
            .start(async move {
                if is_link {
                    let made = get_link(&client, found.place(), &place, preserve).await;
                    return made.context(shown).map(|()| Copied::LINK);
                }
                check_free(&place)?;
                let copied = get_file(&client, found.place(), &place, preserve, &progress).await;
                copied.context(shown).map(Copied::file)
            })
            .await?;
    }
    let (copied, mut failures) = parallel.finish().await?;
    // The deepest first: a parent may be closed to its owner.
    for (path, last) in made.into_iter().rev() {
        let place = tree.place(&path);
        let finished = place.and_then(|place| place.finish_directory(last.mode, last.times));
        failures.check(finished.with_context(|| cannot_finish(&target.join(&path))))?;
    }
    if let Some((place, last)) = top {
        let finished = place.finish_directory(last.mode, last.times);
        failures.check(finished.with_context(|| cannot_finish(target)))?;
    }
    progress.finish_and_clear();
    copied.tell(context, true, &failures)?;
    failures.finish()
}

/// Copies a symbolic link as it is.
async fn get_link(client: &Client, source: Target, place: &Place, preserve: bool) -> anyhow::Result<()> {
    let attributes = client.stat(&source).await?;
    let link = attributes.link.as_deref();
    let link = link.with_context(|| format!("{source} was a symbolic link and is none any more"))?;
    place
        .make_link(link, preserve.then(|| times(&attributes)))
        .with_context(|| format!("cannot write {}", place.path.display()))
}

/// What a tree brings takes the place of files only: a link there may lead anywhere, and nobody named it.
fn check_free(place: &Place) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", place.path.display());
    let what = match place.present().with_context(cannot)? {
        Present::Nothing | Present::File => return Ok(()),
        Present::Directory => "a directory",
        Present::Link => "a symbolic link",
        Present::Special => "a special file",
    };
    let error = io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{what} is there (it is written through only if it is named itself)"),
    );
    Err(error).with_context(cannot)
}

fn local_place(source: &str, target: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(target);
    if target.is_empty() {
        return Err(UsageError("the local path is empty".to_owned()).into());
    }
    if !path.is_dir() && !target.ends_with('/') {
        return Ok(path);
    }
    match base_name(source) {
        Some(name) => Ok(path.join(name)),
        // The root of the cluster has no name: its tree goes into the directory itself.
        None if path.is_dir() => Ok(path),
        None => bail!(UsageError(format!(
            "{target} does not exist: name it without a slash at its end"
        ))),
    }
}

/// Copies one file, of the size that is returned; it appears when it is whole.
async fn get_file(
    client: &Client,
    source: Target,
    place: &Place,
    preserve: bool,
    progress: &ProgressBar,
) -> anyhow::Result<u64> {
    let cannot = || format!("cannot write {}", place.path.display());
    let reader = client.open(source, ReadOptions::default()).await?;
    let attributes = reader.attributes().clone();
    let mut file = NewFile::create(place, attributes.mode & 0o777).with_context(cannot)?;
    let mut stream = reader.read(0, attributes.size);
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        tokio::task::block_in_place(|| file.write_all(&piece)).with_context(cannot)?;
        progress.inc(piece.len() as u64);
    }
    let exact = preserve.then(|| (attributes.mode & 0o7777, times(&attributes)));
    file.publish(exact.map(|exact| exact.0), exact.map(|exact| exact.1))
        .with_context(cannot)?;
    Ok(attributes.size)
}

/// Copies into what is there already.
async fn copy_to(
    client: &Client,
    source: &str,
    out: &mut (impl Write + Send),
    target: &Path,
    progress: &ProgressBar,
) -> anyhow::Result<u64> {
    let cannot = || format!("cannot write {}", target.display());
    let reader = client.open(source, ReadOptions::default()).await?;
    let mut stream = reader.read(0, reader.attributes().size);
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        tokio::task::block_in_place(|| out.write_all(&piece)).with_context(cannot)?;
        progress.inc(piece.len() as u64);
    }
    out.flush().with_context(cannot)?;
    Ok(reader.attributes().size)
}
