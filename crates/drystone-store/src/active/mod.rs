//! Active chunks: those of which something is in memory, because they are not sealed or not moved to their runs.

mod buffer;
mod chunk;
mod set;

pub(crate) use buffer::{ChunkBuffer, whole_blocks};
pub(crate) use chunk::{ActiveChunk, ChunkOp, ChunkOpKind, OpStage};
pub(crate) use set::ActiveChunks;
