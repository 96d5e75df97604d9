//! What must hold of every state, checked on the stored records alone.

use drystone_namespace::records::{DiskSetRecord, SessionRecord};
use drystone_namespace::{MemoryStore, Namespace};
use drystone_proto::Message;
use drystone_proto::record::*;
use std::collections::{BTreeMap, BTreeSet};

fn number(key: &[u8], field: usize) -> u64 {
    u64::from_be_bytes(key[1 + 8 * field..9 + 8 * field].try_into().unwrap())
}

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, InodeRecord>,
    names: BTreeMap<(u64, String), DentryRecord>,
    extents: BTreeMap<(u64, u64), ExtentRecord>,
    chunks: BTreeMap<u64, ChunkRecord>,
    replicas: BTreeSet<(u64, u64, u64, u64)>,
    sets: BTreeMap<Vec<u8>, (u64, u64)>,
    below: BTreeSet<u64>,
    sessions: BTreeMap<[u8; 16], SessionRecord>,
    closed: BTreeSet<[u8; 16]>,
    references: BTreeSet<(u64, u64, u64, u64)>,
    reclaim: BTreeSet<u64>,
    leases: BTreeSet<(u64, u64)>,
    doomed: BTreeSet<u64>,
    abandoned: BTreeSet<u64>,
}

fn load(ns: &Namespace<MemoryStore>) -> State {
    let mut state = State::default();
    ns.visit(&mut |key, value| {
        let body = &value[1..];
        match key[0] {
            1 => drop(
                state
                    .inodes
                    .insert(number(key, 0), InodeRecord::decode(body).unwrap()),
            ),
            2 => {
                let name = String::from_utf8(key[9..].to_vec()).unwrap();
                state
                    .names
                    .insert((number(key, 0), name), DentryRecord::decode(body).unwrap());
            }
            3 => drop(state.extents.insert(
                (number(key, 0), number(key, 1)),
                ExtentRecord::decode(body).unwrap(),
            )),
            4 => drop(
                state
                    .chunks
                    .insert(number(key, 0), ChunkRecord::decode(body).unwrap()),
            ),
            5 => drop(state.replicas.insert((
                number(key, 0),
                number(key, 1),
                number(key, 2),
                number(key, 3),
            ))),
            6 => drop(state.references.insert((
                number(key, 0),
                number(key, 1),
                number(key, 2),
                number(key, 3),
            ))),
            9 => {
                let client = key[1..].try_into().unwrap();
                state
                    .sessions
                    .insert(client, SessionRecord::decode(body).unwrap());
            }
            0x14 => drop(state.closed.insert(key[9..].try_into().unwrap())),
            0x0f => drop(state.reclaim.insert(number(key, 0))),
            0x10 => drop(state.leases.insert((number(key, 0), number(key, 1)))),
            0x11 => drop(state.doomed.insert(number(key, 0))),
            0x12 => {
                let set = DiskSetRecord::decode(body).unwrap();
                state.sets.insert(key[1..].to_vec(), (set.chunks, set.bytes));
            }
            0x13 => drop(state.below.insert(number(key, 0))),
            0x15 => drop(state.abandoned.insert(number(key, 0))),
            _ => {}
        }
    })
    .unwrap();
    state
}

pub fn check(ns: &Namespace<MemoryStore>) {
    let state = load(ns);
    tree(&state);
    content(&state);
    counters(ns, &state);
}

/// One name for each inode that has a parent, none for the others; parents are directories; no cycle.
fn tree(state: &State) {
    let mut named = BTreeMap::new();
    for ((parent, name), entry) in &state.names {
        assert_eq!(
            named.insert(entry.inode, *parent),
            None,
            "inode {} has two names, {name}",
            entry.inode
        );
        let child = &state.inodes[&entry.inode];
        assert_eq!((child.parent, child.kind), (*parent, entry.kind), "{name}");
        assert_eq!(state.inodes[parent].kind(), InodeKind::Directory);
    }
    for (&id, inode) in &state.inodes {
        assert_eq!(id, inode.id);
        let queued = state.reclaim.contains(&id);
        let staged = inode.staged_until != 0;
        assert_eq!(
            staged,
            state.leases.contains(&(inode.staged_until, id)),
            "lease of {id}"
        );
        if id == 1 {
            assert_eq!(inode.parent, 1);
            continue;
        }
        assert_eq!(
            named.get(&id).copied().unwrap_or(0),
            inode.parent,
            "parent of {id}"
        );
        assert_eq!(
            inode.parent == 0,
            queued || staged,
            "inode {id} is detached, queued or staged"
        );
        let (mut at, mut steps) = (inode.parent, 0);
        while at > 1 {
            at = state.inodes[&at].parent;
            steps += 1;
            assert!(steps <= 1001, "a cycle above {id}, or it lies too deep");
        }
        if inode.kind() == InodeKind::Directory && inode.parent != 0 {
            let above = &state.inodes[&inode.parent];
            assert!(
                above.height > inode.height,
                "the height of {} is too low",
                above.id
            );
        }
    }
    assert!(state.reclaim.iter().all(|id| state.inodes.contains_key(id)));
    assert!(state.leases.iter().all(|(_, id)| state.inodes.contains_key(id)));
}

/// Extents and holes cover their files without gap or overlap, and both indexes equal what they index.
fn content(state: &State) {
    let mut references = BTreeSet::new();
    let mut covered: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
    for (&(inode, offset), extent) in &state.extents {
        let (end, count) = covered.entry(inode).or_default();
        if !state.reclaim.contains(&inode) {
            assert_eq!(*end, offset, "a gap in inode {inode}");
        }
        (*end, *count) = (offset + extent.length, *count + 1);
        if extent.chunk == HOLE {
            assert_eq!(extent.chunk_offset, 0, "a hole of inode {inode} lies in no chunk");
            continue;
        }
        let chunk = &state.chunks[&extent.chunk];
        assert_eq!(
            chunk.state(),
            ChunkState::Sealed,
            "an extent in chunk {}",
            extent.chunk
        );
        assert!(extent.chunk_offset + extent.length <= chunk.length);
        references.insert((extent.chunk, extent.chunk_offset, inode, offset));
    }
    assert_eq!(references, state.references);
    for (id, inode) in &state.inodes {
        let (end, count) = covered.remove(id).unwrap_or_default();
        assert_eq!(inode.extents, count, "extents of {id}");
        if state.reclaim.contains(id) {
            continue;
        }
        match &inode.inline {
            Some(inline) => assert_eq!((inline.len() as u64, 0), (inode.size, count)),
            None if inode.kind() == InodeKind::SymbolicLink => {
                assert_eq!((inode.size, end), (inode.link.len() as u64, 0), "link {id}");
            }
            None => assert_eq!(inode.size, end, "size of {id}"),
        }
    }
    assert!(covered.is_empty(), "extents without an inode");
    let replicas = state.chunks.values().flat_map(|chunk| {
        chunk
            .holders()
            .map(move |held| (held.disk, held.incarnation, chunk.id, held.placement))
    });
    assert_eq!(replicas.collect::<BTreeSet<_>>(), state.replicas);
    sets(state);
    let referred: BTreeSet<u64> = references.iter().map(|reference| reference.0).collect();
    for (id, chunk) in &state.chunks {
        assert_eq!(
            chunk.state() == ChunkState::Sealed,
            referred.contains(id),
            "chunk {id}"
        );
        assert_eq!(
            chunk.state() == ChunkState::Doomed,
            state.doomed.contains(id),
            "chunk {id}"
        );
    }
}

/// The counts of chunks by set of disks, and the index of those below their policy, equal what the records say.
fn sets(state: &State) {
    let mut sets: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    let mut below = BTreeSet::new();
    for chunk in state.chunks.values().filter(|chunk| !chunk.is_doomed()) {
        let disks: BTreeSet<_> = chunk
            .verified_disks()
            .map(|disk| (disk.disk.0, disk.incarnation.0))
            .collect();
        let mut under: Vec<_> = disks.iter().copied().collect();
        if (disks.len() as u32) < chunk.wanted() {
            below.insert(chunk.id);
            under.push((0, 0));
        }
        for disk in under {
            let bytes =
                |(id, incarnation): (u64, u64)| [id.to_be_bytes(), incarnation.to_be_bytes()].concat();
            let mut key = bytes(disk);
            key.push(chunk.wanted() as u8);
            let others = disks.iter().filter(|other| **other != disk);
            key.extend(others.flat_map(|other| bytes(*other)));
            let set = sets.entry(key).or_default();
            *set = (set.0 + 1, set.1 + chunk.length);
        }
    }
    assert_eq!(sets, state.sets);
    assert_eq!(below, state.below);
}

fn counters(ns: &Namespace<MemoryStore>, state: &State) {
    let counters = ns.counters();
    let named: Vec<&InodeRecord> = state
        .names
        .values()
        .map(|entry| &state.inodes[&entry.inode])
        .collect();
    let files: Vec<_> = named
        .iter()
        .filter(|inode| inode.kind() == InodeKind::File)
        .collect();
    let inline = files
        .iter()
        .filter_map(|inode| inode.inline.as_ref())
        .map(|inline| inline.len() as u64);
    let sealed: Vec<_> = state
        .chunks
        .values()
        .filter(|chunk| chunk.state() == ChunkState::Sealed)
        .map(|chunk| chunk.length)
        .collect();
    assert_eq!(counters.files, files.len() as u64);
    let links = named
        .iter()
        .filter(|inode| inode.kind() == InodeKind::SymbolicLink);
    assert_eq!(counters.links, links.count() as u64);
    let others = counters.files + counters.links;
    assert_eq!(counters.directories, 1 + named.len() as u64 - others);
    assert_eq!(counters.bytes, files.iter().map(|inode| inode.size).sum::<u64>());
    assert_eq!(counters.inline_bytes, inline.sum::<u64>());
    assert_eq!(counters.chunks, sealed.len() as u64);
    assert_eq!(counters.chunk_bytes, sealed.iter().sum::<u64>());
    assert_eq!(counters.doomed, state.doomed.len() as u64);
    let is_closed = |(_, session): &(&[u8; 16], &SessionRecord)| session.closed != 0;
    let closed: BTreeSet<[u8; 16]> = state
        .sessions
        .iter()
        .filter(is_closed)
        .map(|(client, _)| *client)
        .collect();
    assert_eq!(closed, state.closed, "each closed session waits to be forgotten");
    assert_eq!(counters.closed_sessions, closed.len() as u64);
    assert_eq!(counters.sessions, (state.sessions.len() - closed.len()) as u64);
    assert_eq!(counters.staged, state.leases.len() as u64);
    assert_eq!(counters.abandoned, state.abandoned.len() as u64);
    for chunk in &state.abandoned {
        let record = state.chunks.get(chunk);
        assert!(
            record.is_none_or(ChunkRecord::is_doomed),
            "{record:?} was given up"
        );
    }
}
