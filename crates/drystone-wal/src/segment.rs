//! Segment files: their names, and batches read out of them.

use crate::WalError;
use crate::format::{BLOCK_BYTES, HEADER_BYTES, Header, HeaderError, records};
use bytes::Bytes;
use drystone_env::{BufferPool, Disk, DiskFile, OpenOptions};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Read at once when batches are read in order.
const WINDOW_BYTES: u64 = 1 << 20;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A file of the log. Its number is only its name; its place in the log is its generation.
#[derive(Clone)]
pub(crate) struct SegmentFile {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
}

impl SegmentFile {
    pub(crate) fn blocks(&self) -> u32 {
        (self.bytes / BLOCK) as u32
    }
}

pub(crate) fn name(directory: &str, number: u64) -> String {
    format!("{directory}/{number:08x}.seg")
}

/// The number in a file's name; `None` if the file is not ours.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:08x}") == digits).then_some(number)
}

pub(crate) fn io_error(doing: String) -> impl FnOnce(io::Error) -> WalError {
    move |source| WalError::Io { doing, source }
}

pub(crate) fn list(disk: &dyn Disk, directory: &str, direct: bool) -> Result<Vec<SegmentFile>, WalError> {
    let names = disk
        .list(directory)
        .map_err(io_error(format!("list {directory}")))?;
    let numbers = names.iter().filter_map(|name| number(name));
    let open = |number| {
        let name = name(directory, number);
        let file = disk
            .open(
                &name,
                OpenOptions {
                    direct,
                    ..OpenOptions::default()
                },
            )
            .map_err(io_error(format!("open {name}")))?;
        let bytes = file.len().map_err(io_error(format!("length of {name}")))?;
        Ok(SegmentFile { number, file, bytes })
    };
    numbers.map(open).collect()
}

/// A batch whose header and body are intact.
pub(crate) struct Batch {
    pub(crate) header: Header,
    pub(crate) crc: u32,
    // The whole batch, and the records in it.
    pub(crate) bytes: Bytes,
    pub(crate) records: Vec<Range<usize>>,
}

/// What stands where a batch might.
pub(crate) enum Block {
    Batch(Batch),
    /// An intact header whose body is not.
    Torn(Header),
    None(HeaderError),
    /// The file ends.
    End,
}

/// Reads one segment, front to back, through a window.
pub(crate) struct Reader<'a> {
    segment: &'a SegmentFile,
    name: String,
    pool: &'a BufferPool,
    ahead: u64,
    start: u64,
    window: Bytes,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(segment: &'a SegmentFile, directory: &str, pool: &'a BufferPool) -> Self {
        Self {
            segment,
            name: name(directory, segment.number),
            pool,
            ahead: WINDOW_BYTES,
            start: 0,
            window: Bytes::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads nothing ahead from now on.
    pub(crate) fn careful(&mut self) -> &mut Self {
        self.ahead = 0;
        self
    }

    pub(crate) fn is_careful(&self) -> bool {
        self.ahead == 0
    }

    /// `length` bytes at `offset`, both whole blocks; `None` beyond the last whole block of the file.
    fn read(&mut self, offset: u64, length: u64) -> Result<Option<Bytes>, WalError> {
        let end = self.segment.bytes / BLOCK * BLOCK;
        if offset.saturating_add(length) > end {
            return Ok(None);
        }
        if offset < self.start || offset + length > self.start + self.window.len() as u64 {
            let ahead = self.ahead.min(end - offset).max(length);
            self.window = Bytes::new();
            let mut buffer = self.pool.take(ahead as usize);
            let doing = || format!("read {length} bytes of {} at {offset}", self.name);
            self.segment
                .file
                .read_at(&mut buffer, offset)
                .map_err(|source| io_error(doing())(source))?;
            (self.start, self.window) = (offset, buffer.freeze());
        }
        let at = (offset - self.start) as usize;
        Ok(Some(self.window.slice(at..at + length as usize)))
    }

    /// What begins at `offset`, a multiple of the block size.
    pub(crate) fn block(&mut self, offset: u64) -> Result<Block, WalError> {
        let Some(block) = self.read(offset, BLOCK)? else {
            return Ok(Block::End);
        };
        let (header, crc) = match Header::decode(&block) {
            Ok(found) => found,
            Err(fault) => return Ok(Block::None(fault)),
        };
        drop(block);
        let Some(bytes) = self.read(offset, header.batch_bytes())? else {
            return Ok(Block::Torn(header));
        };
        if crc32c::crc32c(&bytes[HEADER_BYTES..]) != header.body_crc {
            return Ok(Block::Torn(header));
        }
        let body = &bytes[HEADER_BYTES..HEADER_BYTES + header.body_bytes as usize];
        let Some(mut records) = records(body, header.records) else {
            return Ok(Block::Torn(header));
        };
        for range in &mut records {
            *range = range.start + HEADER_BYTES..range.end + HEADER_BYTES;
        }
        Ok(Block::Batch(Batch {
            header,
            crc,
            bytes,
            records,
        }))
    }
}
