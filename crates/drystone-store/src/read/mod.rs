//! Reads.

mod job;
mod reader;

pub(crate) use job::{CompareFrame, CutBlock, Reads};
pub(crate) use reader::ChunkReader;
