//! What changes a chunk: appends, seals, fences, deletes, and the moving of bytes from the journal to runs.

mod append;
mod control;
mod mover;
mod moving;
mod step;
mod writer;

pub(crate) use append::AfterAppend;
pub(crate) use mover::Mover;
pub(crate) use moving::Moved;
pub(crate) use step::Driven;
pub(crate) use writer::ChunkWriter;
