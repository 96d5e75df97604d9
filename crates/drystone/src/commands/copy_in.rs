//! `put`, `append` and `cp`: bytes into the cluster.

mod source;

use super::names::{is_directory, join, place_for};
use super::tree::{Copied, Parallel, Walk};
use super::{Context, is_not_found};
use crate::args::PutOptions;
use crate::exit::{Failures, UsageError};
use crate::output::{line, note};
use anyhow::{Context as _, anyhow, bail};
use bytes::{Bytes, BytesMut};
use drystone_client::{
    Client, Error, ErrorKind, InodeId, Kind, MakeDirectoryOptions, MakeSymbolicLinkOptions, Precondition,
    Published, ReadOptions, SetAttributes, Target, WriteMode, WriteOptions,
};
use indicatif::ProgressBar;
use source::{SourceFile, SourceTree, SparseFile};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Read at once from local files: what one frame carries.
const PIECE: usize = 1 << 20;

/// A file to copy in.
struct Job {
    source: SourceFile,
    target: String,
}

/// A directory that was made, or that gets the attributes of a local one, at the end: until then files go into it.
struct Made {
    target: String,
    changes: SetAttributes,
}

/// What `put` found to do.
#[derive(Default)]
struct Found {
    jobs: Vec<Job>,
    made: Vec<Made>,
    /// Of the files to copy, as they are now.
    expected_bytes: u64,
    /// What was copied already.
    copied: Copied,
}

/// `drystone put`.
pub async fn put(context: &Context, options: &PutOptions) -> anyhow::Result<()> {
    let client = &context.client;
    let into = options.sources.len() > 1 || is_directory(client, &options.target).await?;
    let targets = plan_targets(&options.sources, &options.target, into)?;
    let mut failures = Failures::new(context.json);
    let mut found = Found::default();
    for (source, target) in options.sources.iter().zip(targets) {
        let outcome = if source == "-" {
            let published = put_stdin(context, &target, options).await;
            published.map(|published| found.copied.add(Copied::file(published.size)))
        } else {
            add_source(client, options, source, target, &mut found, &mut failures).await
        };
        failures.check(outcome)?;
    }
    put_files(context, options, found, failures).await
}

/// Where each source goes. Nothing has been sent yet.
///
/// # Errors
/// Two of them would go to the same place, or one has no name.
fn plan_targets(sources: &[String], target: &str, into: bool) -> anyhow::Result<Vec<String>> {
    let mut by_target: BTreeMap<String, &str> = BTreeMap::new();
    let mut targets = Vec::new();
    for source in sources {
        let target = match into {
            true => join(target, &local_name(source)?),
            false => target.to_owned(),
        };
        if let Some(first) = by_target.insert(target.clone(), source) {
            bail!(UsageError(format!(
                "{first} and {source} would both become {target}: nothing was copied"
            )));
        }
        targets.push(target);
    }
    Ok(targets)
}

/// The name that a local path has in a directory of the cluster.
fn local_name(source: &str) -> anyhow::Result<String> {
    let path = Path::new(source);
    let full = || path.canonicalize().ok().filter(|_| source != "-");
    // `.` and `..` have the names of the directories that they are.
    let name = match path.file_name() {
        Some(name) if source != "-" => Some(name.to_owned()),
        _ => full().and_then(|path| path.file_name().map(ToOwned::to_owned)),
    };
    let name = name.and_then(|name| name.into_string().ok());
    name.ok_or_else(|| UsageError(format!("{source} gives no name: name the target in full")).into())
}

async fn add_source(
    client: &Client,
    options: &PutOptions,
    source: &str,
    target: String,
    found: &mut Found,
    failures: &mut Failures,
) -> anyhow::Result<()> {
    let path = PathBuf::from(source);
    let metadata = fs::metadata(&path).with_context(|| format!("cannot read {source}"))?;
    if !metadata.is_dir() {
        found.expected_bytes += metadata.len();
        found.jobs.push(Job {
            source: SourceFile::Named(path),
            target,
        });
        return Ok(());
    }
    if !options.recursive {
        return Err(UsageError(format!("{source} is a directory (use --recursive)")).into());
    }
    let cannot = || format!("cannot read {source}");
    let tree = SourceTree::open(&path).with_context(cannot)?;
    let metadata = tree.metadata().with_context(cannot)?;
    let made = make_like(client, &target, &metadata, options.parents, options.preserve).await?;
    found.made.extend(made);
    scan(client, &tree, target, options, found, failures).await
}

async fn put_files(
    context: &Context,
    options: &PutOptions,
    found: Found,
    failures: Failures,
) -> anyhow::Result<()> {
    let progress = context.screen.bar(found.expected_bytes, "put");
    let mut parallel = Parallel::new(options.jobs, failures);
    for job in found.jobs {
        let (client, progress, write) = (context.client.clone(), progress.clone(), write_options(options));
        let preserve = options.preserve;
        parallel
            .start(async move {
                let published = put_file(&client, &job, write, preserve, &progress).await?;
                warn_if_degraded(&job.target, &published);
                Ok(Copied::file(published.size))
            })
            .await?;
    }
    let (mut copied, mut failures) = parallel.finish().await?;
    copied.add(found.copied);
    // The deepest first: a parent may be closed to its owner.
    for directory in found.made.into_iter().rev() {
        let done = context
            .client
            .set_attributes(&directory.target, directory.changes)
            .await;
        failures.check(done.map_err(anyhow::Error::from))?;
    }
    progress.finish_and_clear();
    copied.tell(context, options.recursive, &failures)?;
    failures.finish()
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

/// Makes a directory with a mode; true if it was not there.
async fn make_directory(client: &Client, path: &str, parents: bool, mode: u32) -> anyhow::Result<bool> {
    let options = MakeDirectoryOptions {
        parents,
        mode: Some(mode),
        ..MakeDirectoryOptions::default()
    };
    match client.make_directory(path, options).await {
        Err(error) if error.kind() == ErrorKind::Exists && is_directory(client, path).await? => Ok(false),
        other => Ok(other?),
    }
}

/// Makes a directory like a local one; what remains to be changed when it is complete.
async fn make_like(
    client: &Client,
    target: &str,
    metadata: &Metadata,
    parents: bool,
    preserve: bool,
) -> anyhow::Result<Option<Made>> {
    let mode = metadata.permissions().mode() & 0o7777;
    // Its owner must be able to put files into it.
    let is_new = make_directory(client, target, parents, open_mode(mode & 0o777)).await?;
    let wanted = if preserve { mode } else { mode & 0o777 };
    let mut changes = SetAttributes::default();
    if preserve {
        (changes.modified, changes.accessed) = (Some(modified(metadata)), Some(accessed(metadata)));
    }
    if preserve || (is_new && wanted != open_mode(mode & 0o777)) {
        changes.mode = Some(wanted);
    }
    Ok((changes != SetAttributes::default()).then(|| Made {
        target: target.to_owned(),
        changes,
    }))
}

fn modified(metadata: &Metadata) -> u64 {
    micros(metadata.mtime(), metadata.mtime_nsec())
}

fn accessed(metadata: &Metadata) -> u64 {
    micros(metadata.atime(), metadata.atime_nsec())
}

/// Microseconds since 1970, as the cluster has times; what is before becomes 1970.
fn micros(seconds: i64, nanos: i64) -> u64 {
    let micros = i128::from(seconds) * 1_000_000 + i128::from(nanos) / 1000;
    u64::try_from(micros.max(0)).unwrap_or(u64::MAX)
}

/// Makes the directories of a local tree and collects its files. What cannot be read is told of and left out.
async fn scan(
    client: &Client,
    tree: &SourceTree,
    to: String,
    options: &PutOptions,
    found: &mut Found,
    failures: &mut Failures,
) -> anyhow::Result<()> {
    let mut ahead = vec![(PathBuf::new(), to)];
    while let Some((local, remote)) = ahead.pop() {
        let cannot = || format!("cannot read {}", tree.shown(&local).display());
        let Some(paths) = failures.check(tree.list(&local).with_context(cannot))? else {
            continue;
        };
        for path in paths {
            let outcome = add_entry(client, tree, &path, &remote, options, found).await;
            if let Some(Some(target)) = failures.check(outcome)? {
                ahead.push((path, target));
            }
        }
    }
    Ok(())
}

/// Adds what is at `path` of the tree; its target, if it is a directory that was made.
async fn add_entry(
    client: &Client,
    tree: &SourceTree,
    path: &Path,
    remote: &str,
    options: &PutOptions,
    found: &mut Found,
) -> anyhow::Result<Option<String>> {
    let shown = tree.shown(path);
    let shown = shown.display();
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{shown}: its name is not UTF-8"))?;
    let target = join(remote, name);
    let entry = tree.entry(path).with_context(|| format!("cannot read {shown}"))?;
    let metadata = entry.metadata();
    if metadata.is_symlink() {
        let link = entry.link().with_context(|| format!("cannot read {shown}"))?;
        let link = link
            .to_str()
            .with_context(|| format!("{shown}: what it leads to is not UTF-8"))?;
        put_link(client, link, &target, metadata, options).await?;
        found.copied.add(Copied::LINK);
    } else if metadata.is_dir() {
        let made = make_like(client, &target, metadata, false, options.preserve).await?;
        found.made.extend(made);
        return Ok(Some(target));
    } else if metadata.is_file() {
        found.expected_bytes += metadata.len();
        found.jobs.push(Job {
            source: SourceFile::Found(tree.clone(), path.to_owned()),
            target,
        });
    } else {
        note(format_args!(
            "warning: {shown} is neither file nor directory and was left out"
        ));
    }
    Ok(None)
}

/// Copies a symbolic link as it is.
async fn put_link(
    client: &Client,
    link: &str,
    target: &str,
    metadata: &Metadata,
    options: &PutOptions,
) -> anyhow::Result<()> {
    let mut attributes = SetAttributes::default();
    if options.preserve {
        (attributes.modified, attributes.accessed) = (Some(modified(metadata)), Some(accessed(metadata)));
    }
    let link_options = MakeSymbolicLinkOptions {
        overwrite: !options.no_overwrite,
        attributes,
        ..MakeSymbolicLinkOptions::default()
    };
    Ok(client.make_symbolic_link(target, link, link_options).await?)
}

async fn put_file(
    client: &Client,
    job: &Job,
    mut options: WriteOptions,
    preserve: bool,
    progress: &ProgressBar,
) -> anyhow::Result<Published> {
    let cannot = || format!("cannot read {}", job.source.shown().display());
    // A pipe may have no writer yet.
    let file = tokio::task::block_in_place(|| SparseFile::open(&job.source)).with_context(cannot)?;
    let metadata = file.metadata();
    let length = if metadata.is_file() { metadata.len() } else { 0 };
    let (data, is_sparse) = file.expected();
    (options.sparse, options.size_hint) = (is_sparse, is_sparse.then_some(data));
    options.file_mode = Some(metadata.permissions().mode() & 0o777);
    if preserve {
        options.attributes = SetAttributes {
            mode: Some(metadata.permissions().mode() & 0o7777),
            modified: Some(modified(metadata)),
            accessed: Some(accessed(metadata)),
            ..SetAttributes::default()
        };
    }
    let mut file = file;
    let published = send(client, &mut file, &job.target, options, length, progress).await;
    published.map_err(|error| about(error, &job.source.shown()))
}

/// Errors of the cluster name the target; those of the source name it here.
fn about(error: anyhow::Error, path: &Path) -> anyhow::Error {
    match error.is::<Error>() {
        true => error,
        false => error.context(format!("cannot read {}", path.display())),
    }
}

async fn put_stdin(context: &Context, target: &str, options: &PutOptions) -> anyhow::Result<Published> {
    let progress = context.screen.bar(0, target);
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
    Ok(published)
}

/// Where bytes come from.
trait Source: Send {
    /// The next `length` bytes, fewer at the end only.
    fn read_piece(&mut self, length: usize) -> std::io::Result<Bytes>;

    /// Once all is read.
    ///
    /// # Errors
    /// It was changed meanwhile: what was read may never have been its content.
    fn check_unchanged(&self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Source for std::io::Stdin {
    fn read_piece(&mut self, length: usize) -> std::io::Result<Bytes> {
        read_full(self, length)
    }
}

/// Streams `source` into a file, which is published if the source stayed as it was; `hint` bytes are expected (0: unknown), and as much data, if the options say nothing
/// else.
async fn send(
    client: &Client,
    source: &mut impl Source,
    target: &str,
    mut options: WriteOptions,
    hint: u64,
    progress: &ProgressBar,
) -> anyhow::Result<Published> {
    options.size_hint = options.size_hint.or((hint > 0).then_some(hint));
    let mut writer = client.write(target, options);
    // One byte more than expected, so that the end is met in the first read of a small file.
    let piece = match hint {
        0 => PIECE,
        _ => PIECE.min(hint as usize + 1),
    };
    loop {
        let data =
            tokio::task::block_in_place(|| source.read_piece(piece)).context("cannot read the source")?;
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
    source.check_unchanged()?;
    Ok(writer.finish().await?)
}

/// The next `length` bytes, fewer at the end only.
fn read_full(source: &mut impl Read, length: usize) -> std::io::Result<Bytes> {
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
        note(format_args!(
            "warning: {target} has one replica only until repair adds others"
        ));
    }
}

/// `drystone append`.
pub async fn append(context: &Context, path: &str, source: &str) -> anyhow::Result<()> {
    let options = WriteOptions {
        mode: WriteMode::Append,
        ..WriteOptions::default()
    };
    let progress = context.screen.bar(0, path);
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
        let cannot = || format!("cannot read {source}");
        let file = tokio::task::block_in_place(|| SparseFile::open(&SourceFile::Named(source.into())));
        let mut file = file.with_context(cannot)?;
        let hint = file.metadata().len();
        let sent = send(&context.client, &mut file, path, options, hint, &progress).await;
        sent.map_err(|error| about(error, Path::new(source)))?
    };
    progress.finish_and_clear();
    if context.json {
        line(serde_json::json!({ "offset": published.offset, "size": published.size }))?;
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
    if attributes.kind == Kind::SymbolicLink {
        return copy_link(client, from.into(), target.into(), force).await;
    }
    if !attributes.is_directory() {
        copy_file(client, from.into(), target.into(), precondition).await?;
        return Ok(());
    }
    if !recursive {
        return Err(UsageError(format!("{from} is a directory (use --recursive)")).into());
    }
    let source = from.trim_matches('/');
    let below = target.trim_matches('/');
    if below == source || below.starts_with(&format!("{source}/")) || source.is_empty() {
        bail!(UsageError(format!(
            "{target} lies in {from}: a tree cannot be copied into itself"
        )));
    }
    let mut walk = Walk::begin(client, from, true).await?;
    // Directories that get their mode at the end: until then things go into them.
    let mut closed: Vec<(Target, u32)> = Vec::new();
    let is_new = make_directory(client, &target, false, open_mode(attributes.mode)).await?;
    if is_new && open_mode(attributes.mode) != attributes.mode {
        closed.push((Target::path(&target), attributes.mode));
    }
    // The directories that are made, from the target down: places are named from them, whatever their depth.
    let mut made = vec![client.stat(&target).await?.inode];
    let mut parallel = Parallel::new(16, Failures::new(context.json));
    while let Some(found) = walk.next(&mut parallel.failures).await? {
        made.truncate(found.depth + 1);
        let (name, attributes) = (&found.entry.name, &found.entry.attributes);
        let place = Target::below(made[found.depth], name.as_str());
        if attributes.is_directory() && attributes.inode == made[0] {
            // Otherwise what is copied would be met again, and there would be no end of it.
            walk.skip();
            let error = anyhow!("{target} was moved below {from} meanwhile: it is not copied into itself");
            parallel.failures.add(error)?;
        } else if attributes.is_directory() {
            let copied = copy_directory(client, &place, attributes.mode).await;
            match parallel.failures.check(copied)? {
                Some((inode, is_new)) => {
                    made.push(inode);
                    if is_new && open_mode(attributes.mode) != attributes.mode {
                        closed.push((place, attributes.mode));
                    }
                }
                None => walk.skip(),
            }
        } else if attributes.kind == Kind::SymbolicLink {
            let copied = copy_link(client, found.place(), place, force).await;
            parallel.failures.check(copied)?;
        } else {
            let (client, precondition) = (client.clone(), precondition.clone());
            let (source, shown) = (found.place(), join(from, &found.path));
            parallel
                .start(async move {
                    let copied = copy_file(&client, source, place, precondition).await;
                    copied.context(shown).map(Copied::file)
                })
                .await?;
        }
    }
    let (_, mut failures) = parallel.finish().await?;
    // The deepest first: a parent may be closed to its owner.
    for (place, mode) in closed.into_iter().rev() {
        let changes = SetAttributes {
            mode: Some(mode),
            ..SetAttributes::default()
        };
        let done = client.set_attributes(place, changes).await;
        failures.check(done.map_err(anyhow::Error::from))?;
    }
    failures.finish()
}

/// The mode of a directory while things are put into it: its owner must be able to.
fn open_mode(mode: u32) -> u32 {
    mode | 0o700
}

/// Makes a directory like one of `mode` that is still open to its owner; true with it if it was not there.
async fn copy_directory(client: &Client, place: &Target, mode: u32) -> anyhow::Result<(InodeId, bool)> {
    let options = MakeDirectoryOptions {
        mode: Some(open_mode(mode)),
        ..MakeDirectoryOptions::default()
    };
    let is_new = match client.make_directory(place, options).await {
        Err(error) if error.kind() == ErrorKind::Exists => false,
        other => other?,
    };
    let made = client.stat(place).await?;
    if !made.is_directory() {
        bail!("{place} exists and is no directory");
    }
    Ok((made.inode, is_new))
}

/// Copies a symbolic link as it is.
async fn copy_link(client: &Client, from: Target, to: Target, overwrite: bool) -> anyhow::Result<()> {
    let link = client.stat(&from).await?.link;
    let link = link.with_context(|| format!("{from} was a symbolic link and is none any more"))?;
    let options = MakeSymbolicLinkOptions {
        overwrite,
        ..MakeSymbolicLinkOptions::default()
    };
    Ok(client.make_symbolic_link(to, &link, options).await?)
}

/// The size of what was copied.
async fn copy_file(
    client: &Client,
    from: Target,
    to: Target,
    precondition: Precondition,
) -> anyhow::Result<u64> {
    let reader = client.open(&from, ReadOptions::default()).await?;
    let attributes = reader.attributes().clone();
    let options = WriteOptions {
        precondition,
        file_mode: Some(attributes.mode),
        size_hint: Some(attributes.size),
        // What reads as zeros may be a hole.
        sparse: true,
        ..WriteOptions::default()
    };
    let mut writer = client.write(&to, options);
    let mut stream = reader.read(0, attributes.size);
    while let Some(piece) = stream.next().await {
        writer.write(piece?).await?;
    }
    match writer.finish().await {
        Err(error) if is_not_found(&error) => {
            Err(anyhow::Error::new(error).context(format!("the directory of {to} must exist")))
        }
        other => Ok(other?.size),
    }
}

#[cfg(test)]
mod tests;
