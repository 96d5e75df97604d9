//! Walks a tree by inodes and names, so that neither its depth nor renames above it end the walk.

use crate::attributes::{Attributes, Entry, Page};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::target::Target;
use drystone_types::InodeId;
use std::collections::VecDeque;

/// Entries asked for at once.
const PAGE: u32 = 1_000;
/// Entries that a walk holds at most beside the page of the deepest directory; those of directories further up are
/// asked for again.
const MAX_HELD: usize = 50_000;

/// Something below the directory that is walked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkEntry {
    /// The directory that holds it: `(parent, name)` names it for other operations, whatever its depth.
    pub parent: InodeId,
    /// Directories between it and the one that is walked.
    pub depth: usize,
    /// Its path from the directory that is walked. It may be longer than a path in a request can be.
    pub path: String,
    /// Its name and attributes.
    pub entry: Entry,
}

impl WalkEntry {
    /// Names it by its place.
    pub fn place(&self) -> Target {
        Target::below(self.parent, self.entry.name.as_str())
    }
}

/// A directory on the way down.
#[derive(Debug)]
struct OpenDirectory {
    inode: InodeId,
    // Of the walk's path.
    path_bytes: usize,
    held: VecDeque<Entry>,
    // The last name that was given.
    last: String,
    // More entries follow those that are held, after this name.
    more: Option<String>,
}

/// A walk through a tree; see [`Client::walk`].
pub struct Walk {
    client: Client,
    // As the caller named it.
    start: Target,
    root: Attributes,
    path: String,
    open: Vec<OpenDirectory>,
    held: usize,
}

impl Client {
    /// Begins to walk everything below a directory: each directory before what is in it, names in byte order.
    ///
    /// What is there all the time while the walk takes place, under one parent, is given exactly once. What is created,
    /// deleted or moved meanwhile is given as it was when its directory was listed, or not at all. Directories are listed by
    /// their inodes: a rename above the walk changes nothing, and no depth is too deep. Memory is bounded whatever the
    /// tree holds.
    ///
    /// # Errors
    /// Of the directory itself: as [`Client::stat`], and `not_a_directory`.
    pub async fn walk(&self, directory: impl Into<Target>) -> Result<Walk, Error> {
        let target = directory.into();
        let root = self.stat(&target).await?;
        if !root.is_directory() {
            return Err(Error::new(ErrorKind::NotADirectory, "walk", target.to_string()));
        }
        Ok(Walk {
            client: self.clone(),
            open: vec![OpenDirectory::new(root.inode, 0)],
            root,
            start: target,
            path: String::new(),
            held: 0,
        })
    }
}

impl OpenDirectory {
    fn new(inode: InodeId, path_bytes: usize) -> Self {
        Self {
            inode,
            path_bytes,
            held: VecDeque::new(),
            last: String::new(),
            more: Some(String::new()),
        }
    }
}

impl Walk {
    /// The directory that is walked.
    pub fn root(&self) -> &Attributes {
        &self.root
    }

    /// What comes next; `None` at the end. An error is about one directory that could not be listed to its end, and is
    /// told with its path, which begins with what the walk began with; the walk goes on behind it. A directory that was
    /// deleted since its entry was given is no error.
    pub async fn next(&mut self) -> Option<Result<WalkEntry, Error>> {
        loop {
            let depth = self.open.len().checked_sub(1)?;
            let directory = self.open.last_mut()?;
            if let Some(entry) = directory.held.pop_front() {
                self.held -= 1;
                return Some(Ok(self.give(depth, entry)));
            }
            let Some(after) = directory.more.clone() else {
                self.open.pop();
                continue;
            };
            let inode = directory.inode;
            match self.client.list_unnamed(&inode.into(), &after, PAGE).await {
                Ok(page) => self.hold(page),
                Err(error) => {
                    let directory = self.open.pop()?;
                    self.path.truncate(directory.path_bytes);
                    if depth == 0 || error.kind() != ErrorKind::NotFound {
                        return Some(Err(error.about(self.shown())));
                    }
                }
            }
        }
    }

    /// What is below the directory that was given last is left out.
    pub fn skip(&mut self) {
        let unread = |directory: &OpenDirectory| directory.more.as_deref() == Some("");
        if self.open.len() > 1 && self.open.last().is_some_and(unread) {
            self.open.pop();
        }
    }

    /// The path that was come to, for people.
    fn shown(&self) -> String {
        let start = self.start.to_string();
        match self.path.as_str() {
            "" => start,
            path => format!("{}/{path}", start.trim_end_matches('/')),
        }
    }

    fn give(&mut self, depth: usize, entry: Entry) -> WalkEntry {
        let directory = &mut self.open[depth];
        let parent = directory.inode;
        directory.last.clone_from(&entry.name);
        self.path.truncate(directory.path_bytes);
        if !self.path.is_empty() {
            self.path.push('/');
        }
        self.path.push_str(&entry.name);
        if entry.attributes.is_directory() {
            let next = OpenDirectory::new(entry.attributes.inode, self.path.len());
            self.open.push(next);
        }
        WalkEntry {
            parent,
            depth,
            path: self.path.clone(),
            entry,
        }
    }

    /// Takes a page of the deepest directory.
    fn hold(&mut self, page: Page) {
        let Some((deepest, above)) = self.open.split_last_mut() else {
            return;
        };
        assert!(
            page.next.is_none() || !page.entries.is_empty(),
            "a page that is not the last has entries"
        );
        self.held += page.entries.len();
        deepest.more = page.next;
        deepest.held = page.entries.into();
        for directory in above {
            if self.held <= MAX_HELD {
                break;
            }
            if !directory.held.is_empty() {
                self.held -= directory.held.len();
                directory.held.clear();
                directory.more = Some(directory.last.clone());
            }
        }
    }
}
