//! What is durable of each chunk.

mod codec;
mod entry;
mod leaf;
mod map;

pub(crate) use codec::{ENTRY_BYTES, FieldReader, put_entry, put_sums};
pub(crate) use entry::{EntryState, IndexEntry};
pub(crate) use leaf::{LEAF_BYTES, Leaf, LeafImage, PACKED};
pub(crate) use map::Index;
