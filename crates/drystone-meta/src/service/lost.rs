//! Chunks of which no replica can be read, and the files that miss their bytes.

use super::admin::Admin;
use super::refused::Refused;
use drystone_namespace::{Candidates, Namespace, NamespaceView, OrderedStore, StoreError};
use drystone_proto::cluster::{LostChunk, LostFile, LostPage};
use drystone_proto::record::{ChunkRecord, NodeRecord, PlacedReplica, role};
use drystone_types::{ChunkId, DiskRef, InodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Chunk records looked at for one answer: some ten milliseconds.
const MAX_LOOKED_AT: usize = 4_096;
/// Lost chunks in one answer.
const MAX_CHUNKS: usize = 64;
/// References of one chunk that are looked at.
const MAX_REFERENCES: usize = 64;
/// Directories above a file that are named: more than a path can have.
const MAX_DEPTH: usize = 4096;

impl Admin {
    /// A page of the chunks without a replica on a disk that counts, with ids above `after`. A server that this leader
    /// does not hear does not count, and is named. Looks at the chunks on disks that are away only.
    pub(super) async fn lost(&self, after: u64) -> Result<LostPage, Refused> {
        let nodes: Vec<NodeRecord> = self.state.read().nodes().cloned().collect();
        let (live, unheard) = self.present_disks(&nodes)?;
        let find = move |view: NamespaceView| find_lost(&*view, ChunkId(after), &live);
        let page = self.readers.read(&self.state, find).await?;
        let page = page.map_err(|error| self.state.store_error(&error))?;
        Ok(LostPage { unheard, ..page })
    }

    /// Disks of servers that this leader hears, and the names of servers that it does not hear: they may come back.
    fn present_disks(&self, nodes: &[NodeRecord]) -> Result<(BTreeSet<DiskRef>, Vec<String>), Refused> {
        let now = self.clock.now();
        let config = &self.config;
        let found = self.leader.with(|office| {
            let is_silent = |node: &&NodeRecord| {
                let counts = node.roles & role::CHUNK != 0 && !node.removed && !node.fenced;
                counts
                    && matches!(
                        office.servers.state(node, now, config),
                        "unknown" | "suspect" | "dead"
                    )
            };
            let unheard = nodes.iter().filter(is_silent);
            let unheard = unheard.map(|node| node.name.clone()).collect();
            let present = office.servers.present_disks(nodes.iter(), now, config);
            (present, unheard)
        });
        found.ok_or(Refused::NotLeader)
    }
}

/// The next lost chunks above `after`.
fn find_lost<S: OrderedStore>(
    state: &Namespace<S>,
    after: ChunkId,
    live: &BTreeSet<DiskRef>,
) -> Result<LostPage, StoreError> {
    let disks = |node: &NodeRecord| {
        let name = node.name.clone();
        let disks: Vec<_> = node
            .disks
            .iter()
            .map(|disk| (disk.id, disk.incarnation))
            .collect();
        disks.into_iter().map(move |disk| (disk, name.clone()))
    };
    let names: BTreeMap<(u64, u64), String> = state.nodes().flat_map(disks).collect();
    let mut candidates = Candidates::begin(state, |disk| live.contains(&disk), after)?;
    let mut page = LostPage::default();
    for _ in 0..MAX_LOOKED_AT {
        let Some(id) = candidates.next(state)? else {
            page.next = 0;
            break;
        };
        page.next = id.0;
        if let Some(chunk) = state.chunk(id)?.filter(|chunk| is_lost(chunk, live)) {
            page.chunks.push(describe(state, &chunk, &names)?);
        }
        if page.chunks.len() == MAX_CHUNKS {
            break;
        }
    }
    Ok(page)
}

fn is_lost(chunk: &ChunkRecord, live: &BTreeSet<DiskRef>) -> bool {
    !chunk.is_doomed() && chunk.redundancy(|disk| live.contains(&disk)) == 0
}

fn describe<S: OrderedStore>(
    state: &Namespace<S>,
    chunk: &ChunkRecord,
    names: &BTreeMap<(u64, u64), String>,
) -> Result<LostChunk, StoreError> {
    let server = |replica: &PlacedReplica| {
        let replica = replica.replica();
        names.get(&(replica.disk, replica.incarnation)).cloned()
    };
    let references = state.references(ChunkId(chunk.id), MAX_REFERENCES + 1)?;
    let mut files: Vec<LostFile> = Vec::new();
    for reference in references.iter().take(MAX_REFERENCES) {
        match files.iter_mut().find(|file| file.inode == reference.inode.0) {
            Some(file) => file.offsets.push(reference.file_offset),
            None => {
                let mut file = place(state, reference.inode)?;
                file.offsets.push(reference.file_offset);
                files.push(file);
            }
        }
    }
    Ok(LostChunk {
        chunk: Some(chunk.clone()),
        servers: chunk.replicas.iter().filter_map(server).collect(),
        files,
        more_files: references.len() > MAX_REFERENCES,
    })
}

/// The directories above a file.
fn place<S: OrderedStore>(state: &Namespace<S>, inode: InodeId) -> Result<LostFile, StoreError> {
    let mut file = LostFile {
        inode: inode.0,
        ..LostFile::default()
    };
    let mut at = state.inode(inode)?.map_or(0, |inode| inode.parent);
    for _ in 0..MAX_DEPTH {
        let Some(directory) = state.inode(InodeId(at))?.filter(|_| at != 0) else {
            file.detached = true;
            file.directories.clear();
            return Ok(file);
        };
        if directory.parent == directory.id {
            file.directories.reverse();
            return Ok(file);
        }
        file.directories.push(directory.id);
        at = directory.parent;
    }
    file.detached = true;
    file.directories.clear();
    Ok(file)
}
