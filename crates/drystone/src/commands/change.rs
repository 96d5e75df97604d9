//! `chmod` and `chown`: attributes of files, and of all that is in a directory.

use super::names::join;
use super::tree::{Copied, Parallel, Walk};
use crate::args::Owners;
use crate::exit::Failures;
use crate::mode::ModeChange;
use anyhow::Context as _;
use drystone_client::{Attributes, Caller, Client, Kind, SetAttributes, Target};
use drystone_types::permission::{READ, SEARCH};
use rustix::fs::Mode;

/// Files that are changed at the same time.
const JOBS: usize = 16;

/// What is to be changed.
#[derive(Clone)]
enum Change {
    Mode { change: ModeChange, umask: u32 },
    Owners(Owners),
}

/// `drystone chmod`.
pub async fn modes(
    context: &super::Context,
    change: &ModeChange,
    paths: &[String],
    recursive: bool,
) -> anyhow::Result<()> {
    let change = Change::Mode {
        change: change.clone(),
        umask: if change.asks_umask() { umask() } else { 0 },
    };
    change_all(context, &change, paths, recursive).await
}

/// `drystone chown`.
pub async fn owners(
    context: &super::Context,
    owners: &Owners,
    paths: &[String],
    recursive: bool,
) -> anyhow::Result<()> {
    change_all(context, &Change::Owners(owners.clone()), paths, recursive).await
}

async fn change_all(
    context: &super::Context,
    change: &Change,
    paths: &[String],
    recursive: bool,
) -> anyhow::Result<()> {
    let mut failures = Failures::new(context.json);
    for path in paths {
        failures = match recursive {
            true => change_tree(&context.client, change, path, failures).await?,
            false => {
                failures.check(change_one(&context.client, change, path).await)?;
                failures
            }
        };
    }
    failures.finish()
}

async fn change_one(client: &Client, change: &Change, path: &str) -> anyhow::Result<()> {
    let changes = if change.is_relative() {
        change.of(&client.stat(path).await?)
    } else {
        change.absolute()
    };
    Ok(client.set_attributes(path, changes).await?)
}

/// Changes what has this path and all that is below it. What fails is told of, and the rest is changed.
async fn change_tree(
    client: &Client,
    change: &Change,
    path: &str,
    mut failures: Failures,
) -> anyhow::Result<Failures> {
    let root = client.stat(path).await.map_err(anyhow::Error::from);
    let Some(root) = failures.check(root)? else {
        return Ok(failures);
    };
    if change.leaves_out(root.kind) {
        return Ok(failures);
    }
    if !root.is_directory() {
        let changed = client.set_attributes(path, change.of(&root)).await;
        failures.check(changed.map_err(anyhow::Error::from))?;
        return Ok(failures);
    }
    let walk = Walk::begin(client, path, true).await;
    let Some(mut walk) = failures.check(walk)? else {
        return Ok(failures);
    };
    let mut parallel = Parallel::new(JOBS, failures);
    let mut directories = Directories {
        client,
        change,
        later: Later::default(),
    };
    let changed = directories
        .change(0, Target::from(path), path.to_owned(), &root)
        .await;
    parallel.failures.check(changed)?;
    while let Some(found) = walk.next(&mut parallel.failures).await? {
        let (attributes, shown) = (&found.entry.attributes, join(path, &found.path));
        let level = found.depth + 1;
        directories.leave(level, &mut parallel).await?;
        match attributes.kind {
            Kind::Directory => {
                let changed = directories.change(level, found.place(), shown, attributes).await;
                parallel.failures.check(changed)?;
            }
            kind if change.leaves_out(kind) => {}
            Kind::File | Kind::SymbolicLink => {
                let (client, place, changes) = (client.clone(), found.place(), change.of(attributes));
                let task = async move {
                    client.set_attributes(place, changes).await.context(shown)?;
                    Ok(Copied::default())
                };
                parallel.start(task).await?;
            }
        }
    }
    directories.leave(0, &mut parallel).await?;
    let (_, failures) = parallel.finish().await?;
    Ok(failures)
}

/// The directories of a tree. A level is the number of directories above one, up to the one that was named.
struct Directories<'a> {
    client: &'a Client,
    change: &'a Change,
    /// What its caller could not read or pass any more is changed after what is in it.
    later: Later<(Target, String, SetAttributes)>,
}

impl Directories<'_> {
    /// Changes a directory that the walk has come to, now or when it is left.
    async fn change(
        &mut self,
        level: usize,
        place: Target,
        shown: String,
        found: &Attributes,
    ) -> anyhow::Result<()> {
        let changes = self.change.of(found);
        if closes(self.client.caller(), found, &changes) {
            self.later.put(level, (place, shown, changes));
            return Ok(());
        }
        self.client.set_attributes(place, changes).await.context(shown)
    }

    /// The walk has left the directories at this level and below: those that wait are changed, after what is in them.
    async fn leave(&mut self, level: usize, files: &mut Parallel) -> anyhow::Result<()> {
        while let Some((place, shown, changes)) = self.later.take(level) {
            files.settle().await?;
            let changed = self.client.set_attributes(place, changes).await.context(shown);
            files.failures.check(changed)?;
        }
        Ok(())
    }
}

/// What waits until the walk has left a directory: at most one for each level on the way down.
struct Later<T>(Vec<(usize, T)>);

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Later<T> {
    /// All at this level and below it were taken.
    fn put(&mut self, level: usize, one: T) {
        let is_above = self.0.last().is_none_or(|(last, _)| *last < level);
        assert!(is_above, "the directories that wait lie in each other");
        self.0.push((level, one));
    }

    /// The deepest, if it is at this level or below it.
    fn take(&mut self, level: usize) -> Option<T> {
        self.0.pop_if(|(last, _)| *last >= level).map(|(_, one)| one)
    }
}

/// True if `caller` can read and pass the directory now, and could not any more.
fn closes(caller: &Caller, directory: &Attributes, changes: &SetAttributes) -> bool {
    let changed = Attributes {
        mode: changes.mode.unwrap_or(directory.mode),
        owner: changes.owner.clone().unwrap_or_else(|| directory.owner.clone()),
        group: changes.group.clone().unwrap_or_else(|| directory.group.clone()),
        ..directory.clone()
    };
    directory.grants(caller, READ | SEARCH) && !changed.grants(caller, READ | SEARCH)
}

impl Change {
    /// Whether what is to be set depends on what there is.
    fn is_relative(&self) -> bool {
        matches!(self, Self::Mode { change, .. } if change.is_relative())
    }

    /// A symbolic link has no permission bits.
    fn leaves_out(&self, kind: Kind) -> bool {
        matches!(self, Self::Mode { .. }) && kind == Kind::SymbolicLink
    }

    /// What is set whatever there is.
    fn absolute(&self) -> SetAttributes {
        self.from(0, false)
    }

    /// What is set where there is `found`.
    fn of(&self, found: &Attributes) -> SetAttributes {
        self.from(found.mode, found.is_directory())
    }

    fn from(&self, mode: u32, is_directory: bool) -> SetAttributes {
        match self {
            Self::Mode { change, umask } => SetAttributes {
                mode: Some(change.apply(mode, is_directory, *umask)),
                ..SetAttributes::default()
            },
            Self::Owners(Owners { owner, group }) => SetAttributes {
                owner: owner.clone(),
                group: group.clone(),
                ..SetAttributes::default()
            },
        }
    }
}

/// The bits that this process gives to nobody. The system tells them only in exchange for others.
fn umask() -> u32 {
    let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    mask.as_raw_mode()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All directories of a tree once waited for its end.
    #[test]
    fn only_directories_on_the_way_down_wait_to_be_closed() {
        let mut later = Later::default();
        let mut closed = Vec::new();
        let tree = [
            (0, "/"),
            (1, "/a"),
            (2, "/a/b"),
            (3, "/a/b/c"),
            (2, "/a/d"),
            (1, "/e"),
            (2, "/e/f"),
        ];
        for (level, path) in tree {
            closed.extend(std::iter::from_fn(|| later.take(level)));
            later.put(level, path);
            assert_eq!(later.0.len(), level + 1, "{path}");
        }
        closed.extend(std::iter::from_fn(|| later.take(0)));
        assert_eq!(closed, ["/a/b/c", "/a/b", "/a/d", "/a", "/e/f", "/e", "/"]);
        assert!(later.0.is_empty());
    }
}
