//! How deep directories lie, and how deep the trees below them are.
//!
//! Each directory keeps a *height*: no way down from it passes more directories than that. Making a directory, or
//! moving one, raises the heights above it as far as need be; mostly the first look ends that. Deletions leave them as
//! they are, so a height may be higher than need be. Before a rename is refused for it, the tree is looked at, if it is
//! small.

use crate::key::{above, after, dentry};
use crate::limits::{MAX_DEPTH, MAX_HEIGHT_LOOK};
use crate::namespace::{Namespace, inode_key};
use crate::records::{corrupt, decode};
use crate::refusal::{ReadError, refuse};
use crate::store::{OrderedStore, StoreError};
use drystone_proto::record::{DentryRecord, InodeKind, InodeRecord};
use drystone_types::Code;

/// Entries read at once.
const PAGE: usize = 256;
/// What it costs to begin a scan, in records: a seek, which may be cold.
const SCAN_COST: usize = 32;

pub(crate) fn too_deep<T>() -> Result<T, ReadError> {
    refuse(
        Code::TooLarge,
        format!("directories nest at most {MAX_DEPTH} deep"),
    )
}

impl<S: OrderedStore> Namespace<S> {
    /// Directories above an attached inode; 0 for the root.
    pub(crate) fn depth(&mut self, inode: &InodeRecord) -> Result<usize, StoreError> {
        let (mut at, mut parent, mut depth) = (inode.id, inode.parent, 0);
        while parent != at {
            depth += 1;
            if parent == 0 || depth > MAX_DEPTH + 1 {
                let key = inode_key(inode.id);
                return Err(corrupt(
                    key.as_slice(),
                    "an attached inode",
                    format!("{depth} above it"),
                ));
            }
            at = parent;
            parent = self.load_inode(at)?.parent;
        }
        Ok(depth)
    }

    /// A directory of this height lies in `directory` now.
    pub(crate) fn raise_height(&mut self, directory: u64, height: u32) -> Result<(), StoreError> {
        let (mut at, mut height) = (directory, height);
        loop {
            let mut inode = self.load_inode(at)?;
            assert_eq!(
                inode.kind(),
                InodeKind::Directory,
                "only directories have entries"
            );
            if inode.height >= height {
                return Ok(());
            }
            inode.height = height;
            self.tables.put(inode_key(at), &inode);
            if inode.parent == at || inode.parent == 0 {
                return Ok(());
            }
            (at, height) = (inode.parent, height + 1);
        }
    }

    /// Refuses to move `directory` into `parent` if it, or one below it, would lie too deep there. What is found out by
    /// looking is not kept: heights below would have to be lowered first, or one above them could be too low later.
    pub(crate) fn check_depth(
        &mut self,
        directory: &InodeRecord,
        parent: &InodeRecord,
    ) -> Result<(), ReadError> {
        let depth = self.depth(parent)? + 1;
        if depth + directory.height as usize <= MAX_DEPTH {
            return Ok(());
        }
        if depth <= MAX_DEPTH
            && let Some(height) = self.look_height(directory.id)?
        {
            assert!(height <= directory.height, "a height is never too low");
            if depth + height as usize <= MAX_DEPTH {
                return Ok(());
            }
        }
        too_deep()
    }

    /// The height of a tree with few entries; `None` if it has many.
    fn look_height(&self, directory: u64) -> Result<Option<u32>, StoreError> {
        let (mut looked, mut highest) = (0, 0);
        let mut left = vec![(directory, 0u32)];
        while let Some((id, depth)) = left.pop() {
            highest = highest.max(depth);
            let first = dentry(id, "");
            let end = above(first.as_slice());
            let mut from = first.as_slice().to_vec();
            loop {
                let page = self.tables.page(&from, &end, PAGE)?;
                looked += page.len() + SCAN_COST;
                if looked > MAX_HEIGHT_LOOK {
                    return Ok(None);
                }
                for (key, value) in &page {
                    let entry: DentryRecord = decode(key, value)?;
                    if entry.kind() == InodeKind::Directory {
                        left.push((entry.inode, depth + 1));
                    }
                }
                match page.last() {
                    Some((key, _)) if page.len() == PAGE => from = after(key),
                    _ => break,
                }
            }
        }
        Ok(Some(highest))
    }
}
