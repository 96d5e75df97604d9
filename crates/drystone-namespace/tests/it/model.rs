//! The reference: a tree of maps, changed by plain code that shares nothing with the namespace.

use drystone_types::Code;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Empty,
    Inline(Vec<u8>),
    /// One (chunk, offset) per byte.
    Chunked(Vec<(u64, u64)>),
}

impl Body {
    pub fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Inline(bytes) => bytes.len(),
            Body::Chunked(cells) => cells.len(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    File(Body),
    Directory(BTreeMap<String, Node>),
    Link(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub owner: String,
    pub version: u64,
}

impl Node {
    pub fn entries(&self) -> Option<&BTreeMap<String, Node>> {
        match &self.kind {
            Kind::Directory(entries) => Some(entries),
            Kind::File(_) | Kind::Link(_) => None,
        }
    }

    pub fn size(&self) -> usize {
        match &self.kind {
            Kind::File(body) => body.len(),
            Kind::Directory(_) => 0,
            Kind::Link(text) => text.len(),
        }
    }

    fn entries_mut(&mut self) -> &mut BTreeMap<String, Node> {
        match &mut self.kind {
            Kind::Directory(entries) => entries,
            Kind::File(_) | Kind::Link(_) => panic!("it has no entries"),
        }
    }

    fn may(&self, user: &str, bits: u32) -> Result<(), Code> {
        // Everybody here is only in the group of its own name.
        let granted = if user == self.owner {
            self.mode >> 6
        } else {
            self.mode
        };
        if user == "drystone" || granted & bits == bits {
            Ok(())
        } else {
            Err(Code::Denied)
        }
    }
}

#[derive(Clone, Debug)]
pub struct Model {
    pub root: Node,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    None,
    Absent,
    Present,
    Current,
    Wrong,
}

/// What a model's command answers: created, version, size, offset.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Answer {
    pub created: bool,
    pub version: u64,
    pub size: u64,
    pub offset: u64,
}

type Path = Vec<String>;

impl Model {
    pub fn new() -> Self {
        let root = Node {
            kind: Kind::Directory(BTreeMap::new()),
            mode: 0o777,
            owner: "drystone".into(),
            version: 0,
        };
        Self { root }
    }

    pub fn get(&self, path: &[String]) -> Option<&Node> {
        path.iter()
            .try_fold(&self.root, |node, name| node.entries()?.get(name))
    }

    fn get_mut(&mut self, path: &[String]) -> &mut Node {
        path.iter().fold(&mut self.root, |node, name| {
            node.entries_mut().get_mut(name).expect("it was found")
        })
    }

    /// Walks to `path`; true if something is there. Its directory is there in any case.
    fn find(&mut self, user: &str, path: &[String], parents: bool, version: u64) -> Result<bool, Code> {
        for depth in 0..path.len() {
            let directory = self.get_mut(&path[..depth]);
            if matches!(directory.kind, Kind::Link(_)) {
                return Err(Code::IsALink);
            }
            if directory.entries().is_none() {
                return Err(Code::NotADirectory);
            }
            directory.may(user, 1)?;
            if directory.entries_mut().contains_key(&path[depth]) {
                continue;
            }
            if depth + 1 == path.len() {
                return Ok(false);
            }
            if !parents {
                return Err(Code::NotFound);
            }
            directory.may(user, 3)?;
            directory
                .entries_mut()
                .insert(path[depth].clone(), new_directory(user, 0o755, version));
        }
        Ok(true)
    }

    pub fn make_directory(
        &mut self,
        user: &str,
        path: &Path,
        parents: bool,
        mode: Option<u32>,
        version: u64,
    ) -> Result<Answer, Code> {
        if self.find(user, path, parents, version)? {
            let node = self.get_mut(path);
            if parents && node.entries().is_some() {
                return Ok(Answer {
                    version: node.version,
                    ..Answer::default()
                });
            }
            return Err(Code::Exists);
        }
        let (name, directory) = path.split_last().ok_or(Code::Exists)?;
        let directory = self.get_mut(directory);
        directory.may(user, 3)?;
        directory
            .entries_mut()
            .insert(name.clone(), new_directory(user, mode.unwrap_or(0o755), version));
        Ok(Answer {
            created: true,
            version,
            ..Answer::default()
        })
    }

    #[allow(clippy::too_many_arguments, reason = "as many as the command has")]
    pub fn publish(
        &mut self,
        user: &str,
        path: &Path,
        mode: i32,
        offset: usize,
        body: Body,
        parents: bool,
        file_mode: Option<u32>,
        condition: Condition,
        version: u64,
    ) -> Result<Answer, Code> {
        if !self.find(user, path, parents, version)? {
            if matches!(condition, Condition::Present | Condition::Wrong) {
                return Err(Code::PreconditionFailed);
            }
            if mode == 2 && offset > 0 {
                return Err(Code::Range);
            }
            let (name, directory) = path.split_last().expect("the root is there");
            let directory = self.get_mut(directory);
            directory.may(user, 3)?;
            let size = body.len() as u64;
            let node = Node {
                kind: Kind::File(body),
                mode: file_mode.unwrap_or(0o644),
                owner: user.to_owned(),
                version,
            };
            directory.entries_mut().insert(name.clone(), node);
            return Ok(Answer {
                created: true,
                version,
                size,
                offset: 0,
            });
        }
        let node = self.get_mut(path);
        match condition {
            Condition::Absent => return Err(Code::Exists),
            Condition::Wrong => return Err(Code::PreconditionFailed),
            _ => {}
        }
        if matches!(node.kind, Kind::Link(_)) {
            return Err(Code::IsALink);
        }
        node.may(user, 2).map_err(|code| {
            if node.entries().is_some() {
                Code::IsADirectory
            } else {
                code
            }
        })?;
        let Kind::File(old) = &mut node.kind else {
            return Err(Code::IsADirectory);
        };
        let at = match mode {
            0 => 0,
            1 => old.len(),
            _ if offset > old.len() => return Err(Code::Range),
            _ => offset,
        };
        let covers = at == 0 && body.len() > 0 && body.len() >= old.len();
        let replaced = if mode == 0 || covers {
            body
        } else {
            match (old.clone(), body) {
                (old, Body::Empty) => old,
                (Body::Empty, new) => new,
                (Body::Inline(old), Body::Inline(new)) => Body::Inline(spliced(old, at, new)),
                (Body::Chunked(old), Body::Chunked(new)) => Body::Chunked(spliced(old, at, new)),
                _ => return Err(Code::InlineRefused),
            }
        };
        let size = replaced.len() as u64;
        node.kind = Kind::File(replaced);
        node.version = version;
        Ok(Answer {
            created: false,
            version,
            size,
            offset: at as u64,
        })
    }

    /// `cells` hold the same bytes as the file at `path`, which is there.
    pub fn convert(
        &mut self,
        user: &str,
        path: &[String],
        is_current: bool,
        cells: Vec<(u64, u64)>,
    ) -> Result<Answer, Code> {
        let node = self.get_mut(path);
        match &node.kind {
            Kind::Link(_) => return Err(Code::IsALink),
            Kind::Directory(_) => return Err(Code::IsADirectory),
            Kind::File(_) => {}
        }
        if user != node.owner {
            node.may(user, 2)?;
        }
        if !is_current || !matches!(node.kind, Kind::File(Body::Inline(_))) {
            return Err(Code::PreconditionFailed);
        }
        node.kind = Kind::File(Body::Chunked(cells));
        Ok(Answer {
            version: node.version,
            size: node.size() as u64,
            ..Answer::default()
        })
    }

    pub fn make_link(
        &mut self,
        user: &str,
        path: &Path,
        text: &str,
        overwrite: bool,
        version: u64,
    ) -> Result<Answer, Code> {
        let taken = self.find(user, path, false, version)?;
        if taken && !overwrite {
            return Err(Code::Exists);
        }
        if taken && self.get_mut(path).entries().is_some() {
            return Err(Code::IsADirectory);
        }
        let (name, directory) = path.split_last().expect("the root is a directory");
        let directory = self.get_mut(directory);
        directory.may(user, 3)?;
        let node = Node {
            kind: Kind::Link(text.to_owned()),
            mode: 0o777,
            owner: user.to_owned(),
            version,
        };
        directory.entries_mut().insert(name.clone(), node);
        Ok(Answer {
            created: !taken,
            version,
            size: text.len() as u64,
            offset: 0,
        })
    }

    pub fn rename(
        &mut self,
        user: &str,
        from: &Path,
        to: &Path,
        overwrite: bool,
        parents: bool,
        version: u64,
    ) -> Result<Answer, Code> {
        let taken = self.find(user, to, parents, version)?;
        if !self.find(user, from, false, version)? {
            return Err(Code::NotFound);
        }
        let (Some((from_name, from_directory)), Some((to_name, to_directory))) =
            (from.split_last(), to.split_last())
        else {
            return Err(Code::Invalid);
        };
        self.get_mut(from_directory).may(user, 3)?;
        self.get_mut(to_directory).may(user, 3)?;
        let source = self.get_mut(from).clone();
        let size = source.size() as u64;
        if from == to {
            return Ok(Answer {
                version: source.version,
                size,
                ..Answer::default()
            });
        }
        if source.entries().is_some() && to.starts_with(from) {
            return Err(Code::Invalid);
        }
        if taken {
            if !overwrite {
                return Err(Code::Exists);
            }
            match (source.entries(), self.get_mut(to).entries()) {
                (None, Some(_)) => return Err(Code::IsADirectory),
                (Some(_), None) => return Err(Code::NotADirectory),
                (Some(_), Some(entries)) if !entries.is_empty() => return Err(Code::NotEmpty),
                _ => {}
            }
        }
        self.get_mut(from_directory).entries_mut().remove(from_name);
        let version = if source.entries().is_some() {
            version
        } else {
            source.version
        };
        self.get_mut(to_directory)
            .entries_mut()
            .insert(to_name.clone(), Node { version, ..source });
        Ok(Answer {
            version,
            size,
            ..Answer::default()
        })
    }

    pub fn delete(&mut self, user: &str, path: &Path, recursive: bool, expect: u32) -> Result<Answer, Code> {
        if !self.find(user, path, false, 0)? {
            return Err(Code::NotFound);
        }
        let node = self.get_mut(path).clone();
        match (expect, node.entries()) {
            (1, Some(_)) => return Err(Code::IsADirectory),
            (2, None) => return Err(Code::NotADirectory),
            _ => {}
        }
        let (name, directory) = path.split_last().ok_or(Code::Invalid)?;
        let directory = self.get_mut(directory);
        directory.may(user, 3)?;
        if node.entries().is_some_and(|entries| !entries.is_empty()) {
            if !recursive {
                return Err(Code::NotEmpty);
            }
            node.may(user, 7)?;
        }
        directory.entries_mut().remove(name);
        let size = node.size() as u64;
        Ok(Answer {
            version: node.version,
            size,
            ..Answer::default()
        })
    }

    pub fn set_mode(&mut self, user: &str, path: &Path, mode: u32, version: u64) -> Result<Answer, Code> {
        if !self.find(user, path, false, 0)? {
            return Err(Code::NotFound);
        }
        let node = self.get_mut(path);
        if user != "drystone" && user != node.owner {
            return Err(Code::Denied);
        }
        if matches!(node.kind, Kind::Link(_)) {
            return Err(Code::Invalid);
        }
        if node.entries().is_some() && node.mode != mode {
            node.version = version;
        }
        node.mode = mode;
        let size = node.size() as u64;
        Ok(Answer {
            version: node.version,
            size,
            ..Answer::default()
        })
    }

    /// May `user` stage for `path`?
    pub fn stage(&mut self, user: &str, path: &Path) -> Result<(), Code> {
        if self.find(user, path, false, 0)? {
            let node = self.get_mut(path);
            if matches!(node.kind, Kind::Link(_)) {
                return Err(Code::IsALink);
            }
            let bits = if node.entries().is_some() { 3 } else { 2 };
            return node.may(user, bits);
        }
        self.get_mut(&path[..path.len() - 1]).may(user, 3)
    }
}

fn new_directory(user: &str, mode: u32, version: u64) -> Node {
    Node {
        kind: Kind::Directory(BTreeMap::new()),
        mode,
        owner: user.to_owned(),
        version,
    }
}

fn spliced<T: Clone>(mut old: Vec<T>, at: usize, new: Vec<T>) -> Vec<T> {
    let end = (at + new.len()).min(old.len());
    old.splice(at..end, new);
    old
}

impl Model {
    pub fn set_owner(&mut self, path: &[String], owner: &str) {
        self.get_mut(path).owner = owner.to_owned();
    }
}
