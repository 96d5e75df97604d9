//! Random command sequences against the reference model, and against a replica that flushes, crashes and reopens.

use crate::cluster::{Cluster, at, code, given_up, inline, settings};
use crate::invariants;
use crate::model::{Answer, Body, Condition, Kind, Model, Node};
use bytes::Bytes;
use drystone_namespace::store::Visitor;
use drystone_namespace::{
    Batch, Caller, MemoryStore, Namespace, Order, OrderedStore, StoreError, View, Want,
};
use drystone_proto::command::*;
use drystone_proto::record::{HOLE, InodeKind};
use drystone_types::{ChunkId, Code, InodeId, LogIndex};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum NewBody {
    Empty,
    Inline(u8),
    /// (bytes per piece, pieces)
    Chunked(u64, u64),
    /// The same, with holes of so many bytes before, between and behind them.
    Sparse(u64, u64, u64),
    /// Nothing else.
    Hole(u64),
}

#[derive(Clone, Debug)]
pub enum Step {
    /// With the mode of the file if it is new, as the last.
    Publish(Vec<u8>, i32, usize, NewBody, bool, Condition, Option<u32>),
    MakeDirectory(Vec<u8>, bool, Option<u32>),
    MakeLink(Vec<u8>, u8, bool),
    Rename(Vec<u8>, Vec<u8>, bool, bool),
    Delete(Vec<u8>, bool, u32),
    SetMode(Vec<u8>, u32),
    Stage(Vec<u8>, u64),
    Extend(usize, u64, u64),
    PublishStaged(usize, Vec<u8>, bool, Option<u32>),
    Abandon(usize),
    /// Where, and whether the version is the present one.
    Convert(Vec<u8>, bool),
    Housekeep(u32),
    Forget(usize),
    GiveUp,
    RaiseFloor,
    Repeat,
    Pass(u64),
}

/// What the other replica does between two entries.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Go,
    Freeze,
    Flush,
    Reopen,
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => Just(vec![]), 4 => prop::collection::vec(0u8..3, 1), 6 => prop::collection::vec(0u8..3, 2),
        4 => prop::collection::vec(0u8..3, 3)]
}

/// Mostly a name that no directory has.
fn file_path() -> impl Strategy<Value = Vec<u8>> {
    let file = (prop::collection::vec(0u8..3, 0..3), 3u8..5).prop_map(|(mut path, name)| {
        path.push(name);
        path
    });
    prop_oneof![3 => file, 1 => path()]
}

fn body() -> impl Strategy<Value = NewBody> {
    prop_oneof![
        1 => Just(NewBody::Empty),
        3 => (1u8..40).prop_map(NewBody::Inline),
        4 => (1u64..12, 1u64..5).prop_map(|(length, pieces)| NewBody::Chunked(length, pieces)),
        2 => (1u64..3, 30u64..80).prop_map(|(length, pieces)| NewBody::Chunked(length, pieces)),
        2 => (1u64..12, 1u64..5, 1u64..9)
            .prop_map(|(length, pieces, hole)| NewBody::Sparse(length, pieces, hole)),
        1 => (1u64..30).prop_map(NewBody::Hole),
    ]
}

pub fn step() -> impl Strategy<Value = (u8, Step)> {
    use Condition::*;
    let condition = prop::sample::select(vec![
        None, None, None, None, Absent, Present, Current, Current, Wrong,
    ]);
    let modes = prop::sample::select(vec![0o755, 0o700, 0o777, 0o644, 0o000]);
    let new_mode = || {
        prop::sample::select(vec![
            Option::None,
            Option::None,
            Some(0o755),
            Some(0o600),
            Some(0),
        ])
    };
    let either = || prop_oneof![path(), file_path()];
    let step = prop_oneof![
        16 => (file_path(), 0i32..3, any::<u16>(), body(), any::<bool>(), condition, new_mode())
            .prop_map(|(p, m, o, b, parents, c, f)| Step::Publish(p, m, usize::from(o), b, parents, c, f)),
        6 => (path(), any::<bool>(), new_mode()).prop_map(|(p, parents, m)| Step::MakeDirectory(p, parents, m)),
        3 => (either(), 1u8..9, any::<bool>()).prop_map(|(p, l, o)| Step::MakeLink(p, l, o)),
        4 => (path(), path(), any::<bool>(), any::<bool>()).prop_map(|(f, t, o, p)| Step::Rename(f, t, o, p)),
        6 => (either(), either(), any::<bool>(), any::<bool>())
            .prop_map(|(f, t, o, p)| Step::Rename(f, t, o, p)),
        4 => (either(), any::<bool>(), 0u32..3).prop_map(|(p, r, e)| Step::Delete(p, r, e)),
        2 => (either(), modes).prop_map(|(p, m)| Step::SetMode(p, m)),
        2 => (either(), 1u64..500).prop_map(|(p, lease)| Step::Stage(p, lease)),
        4 => (0usize..3, 1u64..4, 1u64..50).prop_map(|(i, l, n)| Step::Extend(i, l, n)),
        2 => (0usize..3, file_path(), any::<bool>(), new_mode())
            .prop_map(|(i, p, parents, m)| Step::PublishStaged(i, p, parents, m)),
        1 => (0usize..3).prop_map(Step::Abandon),
        4 => (either(), prop::bool::weighted(0.8)).prop_map(|(p, is_current)| Step::Convert(p, is_current)),
        4 => (1u32..40).prop_map(Step::Housekeep),
        1 => (0usize..5).prop_map(Step::Forget),
        1 => Just(Step::GiveUp),
        1 => Just(Step::RaiseFloor),
        2 => Just(Step::Repeat),
        1 => (0u64..300).prop_map(Step::Pass),
    ];
    (prop::sample::select(vec![0u8, 0, 0, 0, 1, 2]), step)
}

/// Batches stay on their way for some commands, and a flush is seldom lost at once, so that all layers are in use.
pub fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![16 => Just(Fate::Go), 4 => Just(Fate::Freeze), 3 => Just(Fate::Flush), 1 => Just(Fate::Reopen)]
}

pub fn names(path: &[u8]) -> Vec<String> {
    path.iter()
        .map(|name| ["a", "b", "c", "f", "g"][usize::from(*name)].to_owned())
        .collect()
}

/// A staged file as the model has it.
struct Staged {
    inode: u64,
    cells: Vec<(u64, u64)>,
    until: u64,
}

pub struct Driver {
    pub cluster: Cluster,
    model: Model,
    staged: Vec<Staged>,
    last: Option<(Entry, Outcome)>,
    /// How often each kind of command got each answer.
    pub tally: BTreeMap<(&'static str, u32), u64>,
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Publish(publish) if publish.staged != 0 => "publish staged",
        Op::Publish(publish) => ["replace", "append", "range"][publish.mode as usize],
        Op::MakeDirectory(_) => "make directory",
        Op::MakeSymbolicLink(_) => "make link",
        Op::Rename(_) => "rename",
        Op::Delete(delete) if delete.recursive => "delete tree",
        Op::Delete(_) => "delete",
        Op::SetAttributes(_) => "set attributes",
        Op::Stage(_) => "stage",
        Op::StageExtend(_) => "stage extend",
        Op::StageAbandon(_) => "stage abandon",
        Op::ConvertInline(_) => "convert inline",
        _ => "other",
    }
}

impl Driver {
    pub fn new() -> Self {
        let mut model = Model::new();
        model.root.version = 1 << 16;
        Self {
            cluster: Cluster::new(),
            model,
            staged: Vec::new(),
            last: None,
            tally: BTreeMap::new(),
        }
    }

    fn text(path: &[u8]) -> String {
        names(path).join("/")
    }

    fn run(&mut self, user: &str, op: Op) -> Outcome {
        self.cluster.sequence += 1;
        let kind = kind(&op);
        let entry = self.cluster.entry(user, self.cluster.sequence, op);
        let outcome = self.cluster.apply(entry.clone());
        *self.tally.entry((kind, outcome.code)).or_default() += 1;
        self.last = Some((entry, outcome.clone()));
        outcome
    }

    /// The index and so the version that the next command will have.
    fn next_version(&self) -> u64 {
        (self.cluster.index + 1) << 16
    }

    fn compare(&mut self, before: Model, expected: Result<Answer, Code>, outcome: &Outcome) {
        match expected {
            Ok(answer) => {
                assert_eq!(outcome.code, 0, "the model allows it: {outcome:?}");
                let Outcome {
                    created,
                    version,
                    size,
                    offset,
                    ..
                } = *outcome;
                assert_eq!(
                    answer,
                    Answer {
                        created,
                        version,
                        size,
                        offset
                    }
                );
            }
            Err(refusal) => {
                self.model = before;
                assert_eq!(code(outcome), Some(refusal), "the model refuses it: {outcome:?}");
            }
        }
    }

    /// The content for a command, and as the model keeps it.
    fn content(&mut self, body: &NewBody) -> (Content, Body) {
        match *body {
            NewBody::Empty => (Content::default(), Body::Empty),
            NewBody::Inline(length) => {
                let bytes: Vec<u8> = (0..length).map(|i| i ^ self.cluster.index as u8).collect();
                (inline(&bytes), Body::Inline(bytes))
            }
            NewBody::Chunked(length, pieces) => {
                let content = self.cluster.chunked(length, pieces);
                let cells = cells(&content);
                (content, Body::Chunked(cells))
            }
            NewBody::Sparse(length, pieces, hole) => {
                let mut content = self.cluster.chunked(length, pieces);
                let extents = content.extents.iter();
                let mut extents: Vec<_> = extents.flat_map(|&extent| [hole_of(hole), extent]).collect();
                extents.push(hole_of(hole));
                content.extents = extents;
                let cells = cells(&content);
                (content, Body::Chunked(cells))
            }
            NewBody::Hole(length) => {
                let content = Content {
                    extents: vec![hole_of(length)],
                    ..Content::default()
                };
                let cells = cells(&content);
                (content, Body::Chunked(cells))
            }
        }
    }

    pub fn step(&mut self, user: u8, step: &Step) {
        let user = ["drystone", "ann", "bob"][usize::from(user)];
        let before = self.model.clone();
        let version = self.next_version();
        match step {
            Step::Publish(path, mode, offset, body, parents, condition, file_mode) => {
                // Within the file, or a little beyond its end.
                let size = self.model.get(&names(path)).map_or(0, Node::size);
                let offset = &(offset % (size + size / 4 + 2));
                let (content, model_body) = self.content(body);
                let current = self.model.get(&names(path)).map_or(0, |node| node.version);
                let condition = if current == 0 && *condition == Condition::Current {
                    Condition::None
                } else {
                    *condition
                };
                let tag = |version| vec![VersionTag { inode: 0, version }];
                let precondition = match condition {
                    Condition::None => None,
                    Condition::Absent => Some(Precondition {
                        absent: true,
                        ..Precondition::default()
                    }),
                    Condition::Present => Some(Precondition {
                        present: true,
                        ..Precondition::default()
                    }),
                    Condition::Current => Some(Precondition {
                        versions: tag(current),
                        ..Precondition::default()
                    }),
                    Condition::Wrong => Some(Precondition {
                        versions: tag(1),
                        ..Precondition::default()
                    }),
                };
                let op = Op::Publish(Publish {
                    target: at(&Self::text(path)),
                    precondition,
                    mode: *mode,
                    offset: *offset as u64,
                    content: Some(content),
                    parents: *parents,
                    file_mode: *file_mode,
                    ..Publish::default()
                });
                let outcome = self.run(user, op);
                let (path, offset) = (names(path), *offset);
                let expected = self.model.publish(
                    user, &path, *mode, offset, model_body, *parents, *file_mode, condition, version,
                );
                self.compare(before, expected, &outcome);
            }
            Step::MakeDirectory(path, parents, mode) => {
                let target = at(&Self::text(path));
                let outcome = self.run(
                    user,
                    Op::MakeDirectory(MakeDirectory {
                        target,
                        parents: *parents,
                        mode: *mode,
                        ..MakeDirectory::default()
                    }),
                );
                let expected = self
                    .model
                    .make_directory(user, &names(path), *parents, *mode, version);
                self.compare(before, expected, &outcome);
            }
            Step::MakeLink(path, length, overwrite) => {
                let text = "x".repeat(usize::from(*length));
                let op = MakeSymbolicLink {
                    target: at(&Self::text(path)),
                    link: text.clone(),
                    overwrite: *overwrite,
                    ..MakeSymbolicLink::default()
                };
                let outcome = self.run(user, Op::MakeSymbolicLink(op));
                let expected = self
                    .model
                    .make_link(user, &names(path), &text, *overwrite, version);
                self.compare(before, expected, &outcome);
            }
            Step::Rename(from, to, overwrite, parents) => {
                let outcome = self.run(
                    user,
                    Op::Rename(Rename {
                        from: at(&Self::text(from)),
                        to: at(&Self::text(to)),
                        overwrite: *overwrite,
                        precondition: None,
                        parents: *parents,
                    }),
                );
                let expected =
                    self.model
                        .rename(user, &names(from), &names(to), *overwrite, *parents, version);
                self.compare(before, expected, &outcome);
            }
            Step::Delete(path, recursive, expect) => {
                let target = at(&Self::text(path));
                let op = Delete {
                    target,
                    recursive: *recursive,
                    precondition: None,
                    expect: *expect,
                };
                let outcome = self.run(user, Op::Delete(op));
                let expected = self.model.delete(user, &names(path), *recursive, *expect);
                self.compare(before, expected, &outcome);
            }
            Step::SetMode(path, mode) => {
                let changes = AttributeChanges {
                    mode: Some(*mode),
                    ..AttributeChanges::default()
                };
                let op = SetAttributes {
                    target: at(&Self::text(path)),
                    changes: Some(changes),
                    precondition: None,
                };
                let outcome = self.run(user, Op::SetAttributes(op));
                let expected = self.model.set_mode(user, &names(path), *mode, version);
                self.compare(before, expected, &outcome);
            }
            _ => self.background(user, step),
        }
    }

    fn background(&mut self, user: &str, step: &Step) {
        let before = self.model.clone();
        let version = self.next_version();
        match step {
            Step::Stage(path, lease) => {
                let outcome = self.run(
                    user,
                    Op::Stage(Stage {
                        target: at(&Self::text(path)),
                        lease: *lease,
                        ..Stage::default()
                    }),
                );
                match self.model.stage(user, &names(path)) {
                    Ok(()) => {
                        assert_eq!(outcome.code, 0, "{outcome:?}");
                        let until = self.cluster.time + lease;
                        self.staged.push(Staged {
                            inode: outcome.inode,
                            cells: Vec::new(),
                            until,
                        });
                    }
                    Err(refusal) => assert_eq!(code(&outcome), Some(refusal)),
                }
            }
            Step::Extend(which, length, pieces) if !self.staged.is_empty() => {
                let which = which % self.staged.len();
                let content = self.cluster.chunked(*length, *pieces);
                let new = cells(&content);
                let (inode, offset) = (self.staged[which].inode, self.staged[which].cells.len() as u64);
                let op = StageExtend {
                    inode,
                    offset,
                    content: Some(content),
                    lease: 200,
                };
                let outcome = self.run("drystone", Op::StageExtend(op));
                assert_eq!(outcome.code, 0, "{outcome:?}");
                self.staged[which].cells.extend(new);
                self.staged[which].until = self.cluster.time + 200;
            }
            Step::PublishStaged(which, path, parents, file_mode) if !self.staged.is_empty() => {
                let which = which % self.staged.len();
                let staged = self.staged[which].inode;
                let cells = self.staged[which].cells.clone();
                let op = Publish {
                    target: at(&Self::text(path)),
                    parents: *parents,
                    file_mode: *file_mode,
                    staged,
                    ..Publish::default()
                };
                let outcome = self.run("drystone", Op::Publish(op));
                let body = if cells.is_empty() {
                    Body::Empty
                } else {
                    Body::Chunked(cells)
                };
                let path = names(path);
                // The owner is who staged it; that does not matter to what follows, so take it from the answer.
                let expected = self.model.publish(
                    "drystone",
                    &path,
                    0,
                    0,
                    body,
                    *parents,
                    *file_mode,
                    Condition::None,
                    version,
                );
                self.compare(before, expected, &outcome);
                if expected.is_ok() {
                    self.staged.remove(which);
                    let inode = self.cluster.ns.inode(InodeId(staged)).unwrap().unwrap();
                    self.model.set_owner(&path, &inode.owner);
                }
            }
            Step::Abandon(which) if !self.staged.is_empty() => {
                let staged = self.staged.remove(which % self.staged.len());
                let outcome = self.run("drystone", Op::StageAbandon(StageAbandon { inode: staged.inode }));
                assert_eq!(outcome.code, 0, "{outcome:?}");
            }
            Step::Convert(path, is_current) => {
                let mut inline = Vec::new();
                inline_files(&self.model.root, &mut Vec::new(), &mut inline);
                let path = match inline.get(path.len() % inline.len().max(1)) {
                    Some(inline) if *is_current => inline.clone(),
                    _ => names(path),
                };
                let Some(node) = self.model.get(&path).filter(|_| !path.is_empty()) else {
                    return;
                };
                let version = if *is_current { node.version } else { 1 };
                let bytes = match &node.kind {
                    Kind::File(Body::Inline(bytes)) => bytes.clone(),
                    _ => b"other".to_vec(),
                };
                let target = at(&path.join("/")).unwrap();
                let found = self
                    .cluster
                    .ns
                    .lookup(&target, &Caller::superuser(), Want::Content);
                let content = self.cluster.holding(&bytes);
                let cells = cells(&content);
                let op = ConvertInline {
                    inode: found.unwrap().inode.id,
                    version,
                    content: Some(content),
                };
                let outcome = self.run(user, Op::ConvertInline(op));
                let expected = self.model.convert(user, &path, *is_current, cells);
                self.compare(before, expected, &outcome);
            }
            Step::Housekeep(limit) => {
                let outcome = self.cluster.own(Op::Housekeep(Housekeep { limit: *limit }));
                let now = self.cluster.time;
                let ns = &self.cluster.ns;
                assert_eq!(outcome.more, ns.housekeeping_due(now).unwrap());
                self.staged.retain(|staged| {
                    let there = ns
                        .inode(InodeId(staged.inode))
                        .unwrap()
                        .is_some_and(|inode| inode.staged_until != 0);
                    assert!(there || staged.until <= now, "a lease ended early");
                    there
                });
            }
            Step::Forget(count) => {
                let doomed = self.cluster.ns.doomed(ChunkId(0), *count).unwrap();
                let replicas = doomed.iter().flat_map(|chunk| {
                    let some = chunk.holders().take(1 + count % 2);
                    some.map(|held| ChunkReplica {
                        chunk: chunk.id,
                        replica: Some(held.replica()),
                    })
                });
                let replicas = replicas.collect();
                self.cluster.own(Op::ForgetReplicas(ForgetReplicas { replicas }));
            }
            Step::GiveUp => {
                let content = self.cluster.chunked(10, 1);
                let mut op = given_up(&content);
                if let Op::AbandonChunks(command) = &mut op {
                    // Those that are recorded stay as they are.
                    let own = content.chunks[0].chunk;
                    let others = own.saturating_sub(5)..own;
                    let others = others.map(|chunk| AbandonedChunk {
                        chunk,
                        ..AbandonedChunk::default()
                    });
                    command.chunks.extend(others);
                }
                self.cluster.own(op);
                let late = self.run(
                    user,
                    Cluster::publish("given up", PublishMode::Replace, 0, content),
                );
                assert_ne!(late.code, 0);
            }
            Step::RaiseFloor => {
                let floor = self.cluster.next_chunk;
                self.cluster.own(Op::RaiseGrantFloor(RaiseGrantFloor { floor }));
            }
            Step::Repeat => {
                if let Some((entry, outcome)) = self.last.clone() {
                    let hash = self.cluster.ns.counters();
                    assert_eq!(
                        self.cluster.apply(entry),
                        outcome,
                        "a repeated command gets the first answer"
                    );
                    assert_eq!(self.cluster.ns.counters(), hash);
                }
            }
            Step::Pass(time) => self.cluster.time += time,
            _ => {}
        }
    }

    /// The whole tree through the readers' interface equals the model.
    pub fn check(&self) {
        invariants::check(&self.cluster.ns);
        compare_tree(&self.cluster.ns, "", &self.model.root);
    }

    /// After housekeeping nothing is left but the tree and what is staged.
    pub fn check_reclaimed(&mut self) {
        let now = self.cluster.time + 10_000;
        self.cluster.time = now;
        self.cluster.housekeep();
        self.staged.clear();
        self.check();
        let mut live = BTreeSet::new();
        chunks_of(&self.model.root, &mut live);
        let sealed: BTreeSet<u64> = self
            .cluster
            .ns
            .chunks(ChunkId(0), usize::MAX)
            .unwrap()
            .iter()
            .filter(|chunk| !chunk.is_doomed())
            .map(|chunk| chunk.id)
            .collect();
        assert_eq!(
            sealed, live,
            "sealed are the chunks that the tree refers to, and no others"
        );
        let mut records = BTreeMap::new();
        self.cluster
            .ns
            .visit(&mut |key, _| *records.entry(key[0]).or_insert(0u64) += 1)
            .unwrap();
        let counters = self.cluster.ns.counters();
        assert_eq!(
            records[&1],
            counters.files + counters.directories + counters.links,
            "no inode is left behind"
        );
    }
}

fn inline_files(node: &Node, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match &node.kind {
        Kind::File(Body::Inline(_)) => found.push(path.clone()),
        Kind::File(_) | Kind::Link(_) => {}
        Kind::Directory(entries) => {
            for (name, entry) in entries {
                path.push(name.clone());
                inline_files(entry, path, found);
                path.pop();
            }
        }
    }
}

fn chunks_of(node: &Node, chunks: &mut BTreeSet<u64>) {
    match &node.kind {
        Kind::File(Body::Chunked(cells)) => {
            chunks.extend(cells.iter().map(|cell| cell.0).filter(|&chunk| chunk != HOLE));
        }
        Kind::File(_) | Kind::Link(_) => {}
        Kind::Directory(entries) => entries.values().for_each(|entry| chunks_of(entry, chunks)),
    }
}

fn cells(content: &Content) -> Vec<(u64, u64)> {
    let cell = |extent: &NewExtent| {
        let NewExtent {
            length,
            chunk,
            chunk_offset,
        } = *extent;
        (chunk_offset..chunk_offset + length).map(move |offset| cell(chunk, offset))
    };
    content.extents.iter().flat_map(cell).collect()
}

/// All bytes of holes are alike.
fn cell(chunk: u64, offset: u64) -> (u64, u64) {
    match chunk {
        HOLE => (HOLE, 0),
        chunk => (chunk, offset),
    }
}

fn hole_of(length: u64) -> NewExtent {
    NewExtent {
        length,
        chunk: HOLE,
        chunk_offset: 0,
    }
}

fn compare_tree(ns: &Namespace<MemoryStore>, path: &str, node: &Node) {
    let target = Target {
        base: 0,
        path: path.to_owned(),
    };
    let superuser = Caller::superuser();
    let found = ns.lookup(&target, &superuser, Want::Content).unwrap().inode;
    assert_eq!(
        (found.mode, found.owner.as_str(), found.version),
        (node.mode, node.owner.as_str(), node.version),
        "{path}"
    );
    match &node.kind {
        Kind::Directory(entries) => {
            assert_eq!(found.kind(), InodeKind::Directory);
            let mut listed: Vec<String> = Vec::new();
            loop {
                let after = listed.last().cloned().unwrap_or_default();
                let page = ns.list(&target, &superuser, &after, 2).unwrap();
                listed.extend(page.entries.into_iter().map(|entry| entry.name));
                if !page.more {
                    break;
                }
            }
            assert_eq!(listed, entries.keys().cloned().collect::<Vec<_>>(), "{path}");
            for (name, entry) in entries {
                compare_tree(ns, &format!("{path}/{name}"), entry);
            }
        }
        Kind::Link(text) => {
            assert_eq!(
                (found.kind(), &found.link),
                (InodeKind::SymbolicLink, text),
                "{path}"
            );
        }
        Kind::File(body) => {
            let mut cells = Vec::new();
            let mut offset = 0;
            loop {
                let page = ns.content(InodeId(found.id), offset, 0, 3).unwrap();
                for extent in &page.extents {
                    assert_eq!(extent.offset, cells.len() as u64);
                    cells.extend((0..extent.length).map(|i| cell(extent.chunk, extent.chunk_offset + i)));
                }
                offset = page.next_offset;
                if offset == 0 {
                    break;
                }
            }
            let real = match (found.inline, cells.is_empty()) {
                (Some(inline), true) => Body::Inline(inline.to_vec()),
                (None, true) => Body::Empty,
                (None, false) => Body::Chunked(cells),
                (Some(_), false) => panic!("{path} is inline and in extents"),
            };
            assert_eq!((&real, found.size), (body, body.len() as u64), "{path}");
        }
    }
}

/// The records in which two namespaces differ, with both values.
fn differences(left: &Namespace<MemoryStore>, right: &Namespace<MemoryStore>) -> Vec<String> {
    let [left, right] = [left, right].map(|ns| {
        let mut records = BTreeMap::new();
        ns.visit(&mut |key, value| drop(records.insert(key.to_vec(), value.to_vec())))
            .unwrap();
        records
    });
    let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    keys.into_iter()
        .filter(|key| left.get(*key) != right.get(*key))
        .map(|key| format!("{key:02x?}: {:02x?}, {:02x?}", left.get(key), right.get(key)))
        .collect()
}

/// A store that stops before it syncs.
struct Unsynced(Arc<MemoryStore>);

impl View for Unsynced {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.0.scan(from, to, order, visit)
    }
}

impl OrderedStore for Unsynced {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.0.view()
    }
}

/// Feeds the log of `whole` to a replica that flushes, crashes and reopens as `fates` say: it gives the same
/// answers and comes to the same state.
pub fn replay(whole: &Cluster, fates: &[Fate]) {
    let log = &whole.log;
    let store = Arc::new(MemoryStore::new());
    let mut ns = Namespace::open(Arc::clone(&store), settings()).unwrap();
    let mut batch = None;
    let mut fates = fates.iter().cycle();
    let mut at = 0;
    let mut reopened = 0;
    while at < log.len() {
        let (index, entry) = &log[at];
        let outcome = ns.apply(LogIndex(*index), entry).unwrap();
        assert_eq!(outcome, whole.outcomes[at], "equal log, equal answers: {entry:?}");
        at += 1;
        match fates.next().copied().unwrap_or(Fate::Go) {
            Fate::Go => {}
            Fate::Freeze => batch = batch.or_else(|| ns.freeze()),
            Fate::Flush => {
                if let Some(batch) = batch.take().or_else(|| ns.freeze()) {
                    let done = batch.write_to(&*store).unwrap();
                    drop(ns.flushed(done));
                }
            }
            Fate::Reopen if reopened < 40 => {
                reopened += 1;
                // A batch that was written and not synced may or may not be there.
                if let Some(batch) = batch.take() {
                    let unsynced = Unsynced(Arc::clone(&store));
                    let _never_told = batch.write_to(&unsynced).unwrap();
                    store.crash(reopened % 2);
                }
                ns = Namespace::open(Arc::clone(&store), settings()).unwrap();
                at = log.partition_point(|(index, _)| *index <= ns.applied().0);
            }
            Fate::Reopen => {}
        }
    }
    let differences = differences(&whole.ns, &ns);
    assert!(differences.is_empty(), "equal log, equal state: {differences:#?}");
    assert_eq!(
        ns.state_hash().unwrap(),
        whole.ns.state_hash().unwrap(),
        "equal log, equal state"
    );
    invariants::check(&ns);
}
