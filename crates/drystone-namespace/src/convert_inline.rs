//! Convert inline: the content of a file moves out of the metadata into chunks that hold the same bytes.
//!
//! Nothing of the file changes for its users: not its content, its version, a time or an attribute. So the writer of an
//! append under an idempotency key can convert first and append then, and the key's answer is that of its append.

use crate::namespace::{Context, Namespace, inode_key};
use crate::refusal::{ReadError, refuse};
use crate::resolve::check_not_link;
use crate::store::OrderedStore;
use drystone_proto::command::{Content, ConvertInline, Outcome, Target};
use drystone_proto::record::InodeKind;
use drystone_types::Code;

impl<S: OrderedStore> Namespace<S> {
    /// Moves inline content into chunks. The caller must own the file or may write to it: the checksum that is compared
    /// tells mistakes, not malice.
    pub(crate) fn convert_inline(
        &mut self,
        cx: &Context,
        command: &ConvertInline,
    ) -> Result<Outcome, ReadError> {
        let target = Target {
            base: command.inode,
            path: String::new(),
        };
        let (_, mut inode) = self.spot(cx, Some(&target), false)?.existing()?;
        check_not_link(&inode)?;
        if inode.kind() == InodeKind::Directory {
            return refuse(Code::IsADirectory, "files have content");
        }
        cx.caller.check_convert(&inode)?;
        let inline = inode.inline.clone().filter(|_| inode.version == command.version);
        let Some(inline) = inline else {
            let detail = format!("inode {} is not inline at version {}", inode.id, command.version);
            return refuse(Code::PreconditionFailed, detail);
        };
        let content = self.take_content(cx, command.content.as_ref(), &inode)?;
        if !command
            .content
            .as_ref()
            .is_some_and(|content| holds(content, &inline))
        {
            return refuse(Code::Invalid, "the chunks do not hold the inline content");
        }
        self.count(&inode, false);
        inode.inline = None;
        inode.since = cx.since;
        self.add_extents(cx, &mut inode, 0, &content.extents)?;
        self.count(&inode, true);
        self.tables.put(inode_key(inode.id), &inode);
        Ok(Outcome {
            inode: inode.id,
            version: inode.version,
            size: inode.size,
            redundancy: content.redundancy,
            ..Outcome::default()
        })
    }
}

/// True if `content` is whole chunks of its own whose checksums are those of `bytes`.
fn holds(content: &Content, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    for extent in &content.extents {
        let chunk = content.chunks.iter().find(|new| new.chunk == extent.chunk);
        let receipt = chunk.and_then(|new| new.receipts.first());
        let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
        let (Some(receipt), Some((part, behind))) = (receipt, rest.split_at_checked(length)) else {
            return false;
        };
        let whole = extent.chunk_offset == 0 && receipt.length == extent.length;
        if !whole || receipt.checksum != crc32c::crc32c(part) {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}
