//! What the namespace promises, as plainly as it can be said: a tree of names, one operation at a time.

use crate::content::{Digest, Digests, Piece, overwrite, size};
use drystone_client::ErrorKind;
use std::collections::BTreeMap;
use std::sync::Arc;

#[allow(missing_docs, reason = "the fields say what they are")]
/// What a client asks for. Paths have no slash at the front; the root is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Op {
    /// Replace or create a file; with `absent` only create.
    Put {
        path: String,
        piece: Piece,
        absent: bool,
    },
    /// Add to a file, or create it.
    Append { path: String, piece: Piece },
    /// Overwrite from an offset.
    Range { path: String, offset: u64, piece: Piece },
    /// Make a directory.
    MakeDirectory { path: String },
    /// Delete a file, an empty directory, or with `recursive` a tree.
    Delete { path: String, recursive: bool },
    /// Give another name.
    Rename {
        from: String,
        to: String,
        overwrite: bool,
    },
    /// Read a whole file.
    Get { path: String },
    /// Names in a directory.
    List { path: String },
    /// Kind and size.
    Stat { path: String },
}

impl Op {
    /// It changes something, if it succeeds.
    pub fn is_change(&self) -> bool {
        !matches!(self, Op::Get { .. } | Op::List { .. } | Op::Stat { .. })
    }
}

/// What a client was told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Seen {
    /// A change was made.
    Done,
    /// Content of a file.
    Content(Digest),
    /// Names in byte order.
    Names(Vec<String>),
    /// `None`: a directory; otherwise a file of so many bytes.
    Kind(Option<u64>),
    /// Refused; nothing was done.
    Refused(ErrorKind),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Node {
    Directory,
    File(Arc<Vec<Piece>>),
}

/// The tree; the root is not an entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Model {
    nodes: BTreeMap<String, Node>,
}

type Answer<T> = Result<T, ErrorKind>;

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

impl Model {
    /// The model after `op`, and what the client is told. A refusal changes nothing.
    pub fn apply(&self, op: &Op, digests: &mut Digests) -> (Self, Seen) {
        let mut next = self.clone();
        match next.run(op, digests) {
            Ok(seen) => (next, seen),
            Err(kind) => (self.clone(), Seen::Refused(kind)),
        }
    }

    /// True if `op` may be refused with `kind` here: an operation on two names may complain of either first.
    pub fn may_refuse(&self, op: &Op, kind: ErrorKind) -> bool {
        match op {
            Op::Rename { from, to, overwrite } => {
                let target = match self.nodes.get(to) {
                    _ if from == to => None,
                    Some(_) if !overwrite => Some(ErrorKind::Exists),
                    _ => None,
                };
                let below = is_below(to, from).then_some(ErrorKind::Invalid);
                let found = [self.find(from).err(), self.place(to).err(), target, below];
                found.contains(&Some(kind))
            }
            _ => false,
        }
    }

    fn run(&mut self, op: &Op, digests: &mut Digests) -> Answer<Seen> {
        match op {
            Op::Put { path, piece, absent } => {
                self.place(path)?;
                match self.nodes.get(path) {
                    Some(_) if *absent => return Err(ErrorKind::Exists),
                    Some(Node::Directory) => return Err(ErrorKind::IsADirectory),
                    Some(Node::File(_)) | None => {}
                }
                let pieces = if piece.length == 0 {
                    Vec::new()
                } else {
                    vec![*piece]
                };
                self.nodes.insert(path.clone(), Node::File(Arc::new(pieces)));
                Ok(Seen::Done)
            }
            Op::Append { path, piece } => {
                let old = self.file_or_new(path)?;
                self.splice(path, &old, size(&old), *piece)
            }
            Op::Range { path, offset, piece } => {
                let old = self.file_or_new(path)?;
                self.splice(path, &old, *offset, *piece)
            }
            Op::MakeDirectory { path } => {
                self.place(path)?;
                if self.nodes.contains_key(path) {
                    return Err(ErrorKind::Exists);
                }
                self.nodes.insert(path.clone(), Node::Directory);
                Ok(Seen::Done)
            }
            Op::Delete { path, recursive } => {
                if matches!(self.find(path)?, Node::Directory) && !*recursive && self.has_entries(path) {
                    return Err(ErrorKind::NotEmpty);
                }
                self.nodes.retain(|name, _| name != path && !is_below(name, path));
                Ok(Seen::Done)
            }
            Op::Rename { from, to, overwrite } => self.rename(from, to, *overwrite),
            Op::Get { path } => Ok(Seen::Content(digests.of(&self.file(path)?))),
            Op::List { path } => {
                if !path.is_empty() && !matches!(self.find(path)?, Node::Directory) {
                    return Err(ErrorKind::NotADirectory);
                }
                let inside = self
                    .nodes
                    .keys()
                    .filter(|name| parent(name) == path && !name.is_empty());
                Ok(Seen::Names(
                    inside
                        .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
                        .collect(),
                ))
            }
            Op::Stat { path } => Ok(Seen::Kind(match self.find(path)? {
                Node::Directory => None,
                Node::File(pieces) => Some(size(pieces)),
            })),
        }
    }

    /// Every directory above `path` exists.
    fn place(&self, path: &str) -> Answer<()> {
        let mut above = Vec::new();
        let mut at = parent(path);
        while !at.is_empty() {
            above.push(at);
            at = parent(at);
        }
        for directory in above.into_iter().rev() {
            match self.nodes.get(directory) {
                Some(Node::Directory) => {}
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory),
                None => return Err(ErrorKind::NotFound),
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Answer<&Node> {
        self.place(path)?;
        self.nodes.get(path).ok_or(ErrorKind::NotFound)
    }

    fn file(&self, path: &str) -> Answer<Arc<Vec<Piece>>> {
        match self.find(path)? {
            Node::File(pieces) => Ok(Arc::clone(pieces)),
            Node::Directory => Err(ErrorKind::IsADirectory),
        }
    }

    /// A write that is to be added to a file that is not there makes it.
    fn file_or_new(&self, path: &str) -> Answer<Arc<Vec<Piece>>> {
        self.place(path)?;
        if self.nodes.contains_key(path) {
            self.file(path)
        } else {
            Ok(Arc::default())
        }
    }

    fn has_entries(&self, path: &str) -> bool {
        self.nodes.keys().any(|name| parent(name) == path)
    }

    fn splice(&mut self, path: &str, old: &[Piece], offset: u64, piece: Piece) -> Answer<Seen> {
        let pieces = overwrite(old, offset, piece).ok_or(ErrorKind::Range)?;
        self.nodes.insert(path.to_owned(), Node::File(Arc::new(pieces)));
        Ok(Seen::Done)
    }

    fn rename(&mut self, from: &str, to: &str, overwrite: bool) -> Answer<Seen> {
        let source = self.find(from)?.clone();
        self.place(to)?;
        if from == to {
            return Ok(Seen::Done);
        }
        if is_below(to, from) {
            return Err(ErrorKind::Invalid);
        }
        match (self.nodes.get(to), &source) {
            (None, _) => {}
            (Some(_), _) if !overwrite => return Err(ErrorKind::Exists),
            (Some(Node::Directory), Node::File(_)) => return Err(ErrorKind::IsADirectory),
            (Some(Node::File(_)), Node::Directory) => return Err(ErrorKind::NotADirectory),
            (Some(Node::Directory), Node::Directory) if self.has_entries(to) => {
                return Err(ErrorKind::NotEmpty);
            }
            (Some(_), _) => {}
        }
        let moved: Vec<String> = self
            .nodes
            .keys()
            .filter(|name| is_below(name, from))
            .cloned()
            .collect();
        for name in moved {
            let node = self.nodes.remove(&name);
            self.nodes
                .extend(node.map(|node| (format!("{to}{}", &name[from.len()..]), node)));
        }
        self.nodes.remove(from);
        self.nodes.insert(to.to_owned(), source);
        Ok(Seen::Done)
    }
}
