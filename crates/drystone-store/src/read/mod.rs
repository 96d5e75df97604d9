//! Reads.

mod job;
mod reader;

pub(crate) use job::{CompareFrame, CutBlock, ReadsUnderWay};

pub(crate) use reader::{ChunkReader, whole};
