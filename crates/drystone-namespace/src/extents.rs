//! The content of a file: inline bytes or extents, how new content meets old, and how it is reclaimed.
//!
//! A file is empty, inline or in extents. Extents cover a file without a gap; one of no chunk is a hole, which reads as
//! zeros: what is missing is damage, never a hole. New content is empty, inline or in extents too. What append and range do:
//!
//! | old \ new | empty | inline | extents |
//! |---|---|---|---|
//! | empty | empty | inline | extents |
//! | inline | inline | inline up to 64 KiB, else `inline_refused` | `inline_refused` |
//! | extents | extents | `inline_refused` | extents |
//!
//! A range from 0 that covers all old content replaces it, whatever the kinds. On `inline_refused` nothing was
//! done: for an extents file the client writes the bytes to a chunk; an inline file it converts first
//! (`convert_inline`).

use crate::chunks::Recorded;
use crate::key::{numbers, table};
use crate::limits::{
    MAX_EXTENTS_OVERWRITTEN, MAX_EXTENTS_PER_COMMAND, MAX_EXTENTS_PER_FILE, MAX_FILE_BYTES, MAX_INLINE_BYTES,
    RECLAIM_AT_ONCE,
};
use crate::namespace::{Context, Namespace, inode_key};
use crate::records::{MarkRecord, ReferenceRecord};
use crate::refusal::{ReadError, refuse};
use crate::store::{OrderedStore, StoreError};
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{Content, NewExtent};
use drystone_proto::meta::LocatedExtent;
use drystone_proto::record::{ChunkRecord, ChunkState, ExtentRecord, HOLE, InodeKind, InodeRecord};
use drystone_types::{ChunkId, Code};
use std::collections::BTreeSet;

/// A hole refers to nothing.
fn check_hole(extent: &NewExtent) -> Result<(), ReadError> {
    if extent.length == 0 || extent.chunk_offset != 0 {
        return refuse(Code::Invalid, "a hole has a length, and lies in no chunk");
    }
    Ok(())
}

/// Refuses a file of so many bytes, holes included, if it is too large.
pub(crate) fn check_size(bytes: u64) -> Result<(), ReadError> {
    if bytes > MAX_FILE_BYTES {
        return refuse(Code::TooLarge, "a file has at most 1 PiB");
    }
    Ok(())
}

/// Content of a command, checked; its chunks are recorded.
#[derive(Default)]
pub(crate) struct NewContent {
    /// Not empty.
    pub(crate) inline: Option<Bytes>,
    pub(crate) extents: Vec<NewExtent>,
    pub(crate) length: u64,
    pub(crate) redundancy: u32,
}

impl<S: OrderedStore> Namespace<S> {
    /// Checks a command's content and records its chunks. `file` is the one it is for, or, if that is new, the directory
    /// that it will be in.
    pub(crate) fn take_content(
        &mut self,
        cx: &Context,
        content: Option<&Content>,
        file: &InodeRecord,
    ) -> Result<NewContent, ReadError> {
        let Some(content) = content else {
            return Ok(NewContent::default());
        };
        if let Some(inline) = &content.inline {
            if !content.extents.is_empty() || !content.chunks.is_empty() {
                return refuse(Code::Invalid, "content is inline or in chunks, not both");
            }
            if inline.len() > MAX_INLINE_BYTES {
                let detail = format!(
                    "{} bytes inline, at most {MAX_INLINE_BYTES}: write them to a chunk",
                    inline.len()
                );
                return refuse(Code::InlineRefused, detail);
            }
            let inline = (!inline.is_empty()).then(|| inline.clone());
            let length = inline.as_ref().map_or(0, |inline| inline.len() as u64);
            return Ok(NewContent {
                inline,
                length,
                ..NewContent::default()
            });
        }
        if content.extents.len() > MAX_EXTENTS_PER_COMMAND {
            return refuse(
                Code::TooLarge,
                format!("a command brings at most {MAX_EXTENTS_PER_COMMAND} extents"),
            );
        }
        let recorded = if content.chunks.is_empty() {
            Recorded::default()
        } else {
            let in_force = self.policy_of(file)?;
            self.record_chunks(cx, &content.chunks, &in_force)?
        };
        let inode = match file.kind() {
            InodeKind::File => file.id,
            InodeKind::Directory | InodeKind::SymbolicLink => 0,
        };
        let mut length = 0u64;
        let mut used = BTreeSet::new();
        for extent in &content.extents {
            if extent.chunk == HOLE {
                check_hole(extent)?;
            } else {
                self.check_extent(cx, extent, &recorded, inode)?;
                used.insert(extent.chunk);
            }
            length = length.saturating_add(extent.length);
            check_size(length)?;
        }
        if let Some(idle) = recorded.lengths.keys().find(|&chunk| !used.contains(chunk)) {
            return refuse(
                Code::Invalid,
                format!("chunk {idle} is recorded, and no extent names it"),
            );
        }
        let extents = content.extents.clone();
        Ok(NewContent {
            inline: None,
            extents,
            length,
            redundancy: recorded.redundancy,
        })
    }

    /// An extent lies within a chunk of this command, or within a sealed one that this file refers to already:
    /// to name another's chunk would be to read it.
    fn check_extent(
        &mut self,
        cx: &Context,
        extent: &NewExtent,
        recorded: &Recorded,
        inode: u64,
    ) -> Result<(), ReadError> {
        let sealed = match recorded.lengths.get(&extent.chunk) {
            Some(&length) => length,
            None => {
                let chunk = self
                    .tables
                    .load_record::<ChunkRecord>(&numbers(table::CHUNK, [extent.chunk]))?;
                let Some(chunk) = chunk else {
                    return refuse(Code::Invalid, format!("there is no chunk {}", extent.chunk));
                };
                if chunk.state() != ChunkState::Sealed {
                    return refuse(Code::Conflict, format!("chunk {} is not sealed", extent.chunk));
                }
                let own = |reference: &crate::read::Reference| inode != 0 && reference.inode.0 == inode;
                if !cx.caller.is_superuser()
                    && !self
                        .references(ChunkId(extent.chunk), MAX_EXTENTS_OVERWRITTEN)?
                        .iter()
                        .any(own)
                {
                    return refuse(
                        Code::Denied,
                        format!("chunk {} is not of this file", extent.chunk),
                    );
                }
                chunk.length
            }
        };
        let end = extent.chunk_offset.checked_add(extent.length);
        if extent.length == 0 || end.is_none_or(|end| end > sealed) {
            return refuse(
                Code::Invalid,
                format!("an extent lies beyond chunk {} ({sealed} bytes)", extent.chunk),
            );
        }
        Ok(())
    }

    /// Adds extents to a file from `offset` on, where it has none.
    pub(crate) fn add_extents(
        &mut self,
        cx: &Context,
        inode: &mut InodeRecord,
        mut offset: u64,
        extents: &[NewExtent],
    ) -> Result<(), ReadError> {
        for &NewExtent {
            length,
            chunk,
            chunk_offset,
        } in extents
        {
            self.put_extent(
                cx,
                inode,
                LocatedExtent {
                    offset,
                    length,
                    chunk,
                    chunk_offset,
                },
            );
            offset += length;
        }
        if inode.extents > MAX_EXTENTS_PER_FILE {
            return refuse(
                Code::TooLarge,
                format!("the file would have {} extents: rewrite it", inode.extents),
            );
        }
        Ok(())
    }

    fn put_extent(&mut self, cx: &Context, inode: &mut InodeRecord, extent: LocatedExtent) {
        let LocatedExtent {
            offset,
            length,
            chunk,
            chunk_offset,
        } = extent;
        assert!(
            length > 0 && offset.checked_add(length).is_some() && (chunk != HOLE || chunk_offset == 0),
            "an extent holds bytes or is a hole"
        );
        let record = ExtentRecord {
            length,
            chunk,
            chunk_offset,
            since: cx.since,
        };
        self.tables
            .put_new(numbers(table::EXTENT, [inode.id, offset]), &record);
        inode.extents += 1;
        if chunk == HOLE {
            return;
        }
        let reference = ReferenceRecord {
            length,
            since: cx.since,
        };
        self.tables.put_new(
            numbers(table::REFERENCE, [chunk, chunk_offset, inode.id, offset]),
            &reference,
        );
    }

    fn remove_extent(
        &mut self,
        inode: &mut InodeRecord,
        extent: &LocatedExtent,
        touched: &mut BTreeSet<u64>,
    ) {
        assert!(inode.extents > 0, "inode {} counts its extents", inode.id);
        self.tables
            .delete(numbers(table::EXTENT, [inode.id, extent.offset]));
        inode.extents -= 1;
        if extent.chunk == HOLE {
            return;
        }
        let place = [extent.chunk, extent.chunk_offset, inode.id, extent.offset];
        self.tables.delete(numbers(table::REFERENCE, place));
        touched.insert(extent.chunk);
    }

    /// Replaces the bytes of a file in extents from `offset` on; edges of old extents stay. `touched` gets the
    /// chunks that may have lost their last reference.
    pub(crate) fn overwrite(
        &mut self,
        cx: &Context,
        inode: &mut InodeRecord,
        offset: u64,
        content: &NewContent,
        touched: &mut BTreeSet<u64>,
    ) -> Result<(), ReadError> {
        let end = offset + content.length;
        let old = self.extents_from(inode.id, offset, end, MAX_EXTENTS_OVERWRITTEN + 1)?;
        if old.len() > MAX_EXTENTS_OVERWRITTEN {
            let detail = format!("the range covers over {MAX_EXTENTS_OVERWRITTEN} extents: rewrite the file");
            return refuse(Code::TooLarge, detail);
        }
        for extent in old {
            self.remove_extent(inode, &extent, touched);
            if extent.offset < offset {
                self.put_extent(
                    cx,
                    inode,
                    LocatedExtent {
                        length: offset - extent.offset,
                        ..extent
                    },
                );
            }
            let extent_end = extent.offset + extent.length;
            if extent_end > end {
                let skipped = match extent.chunk {
                    HOLE => 0,
                    _ if planted(Bug::RangeShifted) => 0,
                    _ => end - extent.offset,
                };
                let right = LocatedExtent {
                    offset: end,
                    length: extent_end - end,
                    chunk: extent.chunk,
                    chunk_offset: extent.chunk_offset + skipped,
                };
                self.put_extent(cx, inode, right);
            }
        }
        self.add_extents(cx, inode, offset, &content.extents)
    }

    /// Removes at most `limit` extents of a file; dooming is up to the caller.
    pub(crate) fn remove_extents(
        &mut self,
        inode: &mut InodeRecord,
        limit: usize,
        touched: &mut BTreeSet<u64>,
    ) -> Result<usize, StoreError> {
        if inode.extents == 0 {
            return Ok(0);
        }
        let extents = self.extents_from(inode.id, 0, u64::MAX, limit)?;
        for extent in &extents {
            self.remove_extent(inode, extent, touched);
        }
        Ok(extents.len())
    }

    /// Ends an inode that has no name any more: at once if it has few extents, else through the queue.
    pub(crate) fn drop_file(&mut self, cx: &Context, mut inode: InodeRecord) -> Result<(), StoreError> {
        if inode.extents > RECLAIM_AT_ONCE {
            self.queue(cx, inode);
            return Ok(());
        }
        let mut touched = BTreeSet::new();
        self.remove_extents(&mut inode, RECLAIM_AT_ONCE as usize, &mut touched)?;
        self.tables.delete(inode_key(inode.id));
        self.doom_unreferenced(cx, &touched)
    }

    /// Detaches an inode and leaves it to housekeeping.
    pub(crate) fn queue(&mut self, cx: &Context, mut inode: InodeRecord) {
        (inode.parent, inode.staged_until) = (0, 0);
        (inode.changed, inode.since) = (cx.wall, cx.since);
        self.tables.put(inode_key(inode.id), &inode);
        self.tables.put_new(
            numbers(table::RECLAIM, [inode.id]),
            &MarkRecord { since: cx.since },
        );
    }
}
