//! What changes a chunk: appends, seals, fences, deletes, the moving of bytes from the journal to runs, and of chunks
//! out of arenas that are emptied.

mod append;
mod control;
mod emptier;
mod emptying;
mod mover;
mod moving;
mod step;
mod writer;

pub(crate) use append::AfterAppend;
pub(crate) use emptier::Emptier;
pub(crate) use mover::Mover;
pub(crate) use moving::Moved;
pub(crate) use step::Driven;
pub(crate) use writer::ChunkWriter;
